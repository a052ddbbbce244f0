"""The PostgreSQL of a sandbox with replicas: a server of its own, or a database on the user's server."""

from __future__ import annotations

import secrets
import threading
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from eksgateway.errors import StartError
from eksgateway.sandbox.postgres_server import PostgresServer
from eksgateway.settings import PostgresLocation
from eksgateway.settings.postgres_url import hide_password

if TYPE_CHECKING:
    from psycopg import Connection

_CONNECT_TIMEOUT_S: Final = "5"
_SETTINGS: Final = {"max_connections": "250"}  # eight for each gateway, and some for the user
_OWN_PARTS: Final = {"user", "password", "passfile", "dbname"}  # of a URL's query; ours are in its front


class FleetDatabase:
    """A new database with two roles: its owner, and the gateways' role with the rights that `migrate` grants.

    Blocks: an event loop calls it by ``run_blocking``. ``close`` from another thread ends an ``open``.
    """

    def __init__(self, given_url: str | None) -> None:
        """``given_url`` is of a role that may create roles and databases. Raises StartError."""
        self.server = PostgresServer(settings=_SETTINGS) if given_url is None else None
        self._given_url = given_url
        if find_spec("psycopg") is None:
            raise StartError("psycopg is not installed: run pip install 'eksgateway[postgres]'")
        if given_url is not None:
            _require_readable(given_url)
        # On the user's server each sandbox has names of its own.
        self.name = "eksgateway" if given_url is None else f"eksgateway_sandbox_{secrets.token_hex(4)}"
        self.role, self.owner = self.name, f"{self.name}_owner"
        self.password = secrets.token_hex(16)
        self._lock = threading.Lock()
        self._created = False

    @property
    def url(self) -> str:
        """For the gateways' role, with its password."""
        return self._url_of(self.role, self.password)

    @property
    def url_without_password(self) -> str:
        """For commands: other users of this machine may see their arguments."""
        return self._url_of(self.role)

    @property
    def owner_url(self) -> str:
        return self._url_of(self.owner, self.password)

    def describe(self) -> str:
        """The names that ``open`` creates on the user's server."""
        place = urlsplit(self._admin_url).netloc.rpartition("@")[2]
        return f"the database {self.name} and the roles {self.owner} and {self.role} on {place}"

    def open(self) -> None:
        """Start the server, create roles and database, and migrate the ledger. Raises StartError."""
        # psycopg is an extra, and the migration imports it.
        from eksgateway.ledger.postgres.migration import migrate_database  # noqa: PLC0415

        with self._lock:
            if self.server is not None:
                self.server.start()
            self._create()
            migrate_database(PostgresLocation(self.owner_url), self.role)

    def close(self) -> None:
        """Stop and remove the server, or drop what was created on the user's. Raises StartError."""
        if self.server is not None:
            self.server.close()
            return
        with self._lock:
            if self._created:
                self._drop()

    @property
    def _admin_url(self) -> str:
        if self.server is not None:
            return f"{self.server.url()}?sslmode=disable"  # PGSSLMODE may demand what this server lacks
        assert self._given_url is not None  # noqa: S101 - else there is a server
        return self._given_url

    def _url_of(self, role: str, password: str = "") -> str:
        parts = urlsplit(self._admin_url)
        hosts = parts.netloc.rpartition("@")[2]
        query = [each for each in parse_qsl(parts.query) if each[0] not in _OWN_PARTS]
        url = parts._replace(
            netloc=f"{role}{password and ':'}{password}@{hosts}",
            path=f"/{self.name}",
            query=urlencode(query, safe="/"),
        )
        return url.geturl()

    def _create(self) -> None:
        from psycopg import Error, sql  # noqa: PLC0415 - an extra

        try:
            with self._connect() as connection:
                for role in (self.owner, self.role):
                    # The server's log may have statements, so it gets a hash of the password.
                    password = connection.pgconn.encrypt_password(
                        self.password.encode(), role.encode(), b"scram-sha-256"
                    )
                    create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
                    connection.execute(create.format(sql.Identifier(role), sql.Literal(password.decode())))
                    self._created = True
                owner = sql.Identifier(self.owner)
                connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(owner))
                create = sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0")
                connection.execute(create.format(sql.Identifier(self.name), owner))
        except Error as exc:
            with suppress(StartError):
                if self._created:
                    self._drop()
            what = " ".join(str(exc).split())
            raise StartError(
                f"--database {hide_password(self._admin_url)}: {what}; give the URL of a database"
                " that runs and of a role that may create roles and databases (CREATEROLE, CREATEDB)"
            ) from exc

    def _drop(self) -> None:
        from psycopg import Error, sql  # noqa: PLC0415 - an extra

        drop_database, drop_role = sql.SQL("DROP DATABASE IF EXISTS {}"), sql.SQL("DROP ROLE IF EXISTS {}")
        try:
            with self._connect() as connection:
                connection.execute(drop_database.format(sql.Identifier(self.name)))
                for role in (self.role, self.owner):
                    connection.execute(drop_role.format(sql.Identifier(role)))
        except Error as exc:
            raise StartError(f"Not dropped: {self.describe()}: {' '.join(str(exc).split())}") from exc
        self._created = False

    def _connect(self) -> Connection:
        from eksgateway.ledger.postgres.connecting import connect  # noqa: PLC0415 - psycopg is an extra

        return connect(PostgresLocation(self._admin_url), connect_timeout=_CONNECT_TIMEOUT_S)


def _require_readable(url: str) -> None:
    from eksgateway.ledger.postgres.connection_parameters import read_url  # noqa: PLC0415 - psycopg is an extra

    try:
        read_url(url)
    except StartError as exc:
        raise StartError(f"--database {hide_password(url)}: {exc}") from None
