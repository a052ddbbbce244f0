"""URLs of PostgreSQL, as libpq reads them
(https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode

from pydantic import AfterValidator

from eksgateway.addresses import is_loopback

# Channels have the schema's name as a prefix, and names have 63 bytes.
SCHEMA_NAME: Final = r"^[a-z_][a-z0-9_]{0,40}$"

_SCHEMES: Final = ("postgresql://", "postgres://")
_SHOWN: Final = {"host", "hostaddr", "port", "sslmode"}  # others may be a password, also a misspelt one


@dataclass(frozen=True, slots=True)
class PostgresLocation:
    """A ledger in PostgreSQL. Printed without the password."""

    url: str = field(repr=False)
    schema: str = "eksgateway"

    def __str__(self) -> str:
        return hide_password(self.url)


def hide_password(url: str) -> str:
    scheme, users, hosts, path, query = _split(url)
    user = users.partition(":")[0]
    shown = [(name, value) for name, value in query if name in _SHOWN]
    return (
        f"{scheme}{user}{'@' if user else ''}{hosts}{path}{'?' if shown else ''}{urlencode(shown, safe='/')}"
    )


def check_postgres_url(url: str) -> str:
    """Raises ValueError, without the URL in its text."""
    if not url.startswith(_SCHEMES):
        raise ValueError("write it as postgresql://user@host/database")
    if not url.isprintable() or " " in url:
        raise ValueError("remove the blanks and control characters in it")
    _, users, _, path, query = _split(url)
    if "@" in users + path + url.partition("?")[2]:
        # libpq and ``_split`` would read it differently: a part of the password would be a host or a name.
        raise ValueError("write each @, /, ? and # in a user, password or name as %40, %2F, %3F or %23")
    hosts = _hosts(url)
    if not all(hosts):
        raise ValueError("write the URL with a host: postgresql://user@host/database")
    remote = [host for host in hosts if not host.startswith(("/", "@")) and not is_loopback(host)]
    if remote and not (dict(query).get("sslmode") or ("ssl", "true") in query):
        raise ValueError(
            f"{remote[0]} is not loopback, and the URL demands no TLS: add"
            " ?sslmode=verify-full&sslrootcert=FILE, or the sslmode that this network needs"
        )
    return url


def _hosts(url: str) -> list[str]:
    """Host names, addresses, and folders of sockets. A host without a name is empty."""
    _, _, hosts, _, query = _split(url)
    given = dict(query)
    named = [
        *(unquote(_without_port(each)) for each in hosts.split(",")),
        *given.get("host", "").split(","),
        *given.get("hostaddr", "").split(","),
    ]
    return [each for each in named if each] or [""]


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _split(url: str) -> tuple[str, str, str, str, list[tuple[str, str]]]:
    """Scheme, user and password, hosts, path and query."""
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    hosts, slash, path = rest.partition("/")
    users, _, hosts = hosts.rpartition("@")
    return f"{scheme}://", users, hosts, slash + path, parse_qsl(query, keep_blank_values=True)


PostgresUrl: TypeAlias = Annotated[str, AfterValidator(check_postgres_url)]
