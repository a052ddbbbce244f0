"""PostgreSQL's URL: the parameters set beside it, its hosts' addresses, and texts without its password."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from eksgateway.errors import StartError

Parameters: TypeAlias = Mapping[str, str | int | None]

# Where the URL does not set them. Kerberos is off, because libpq waits for its servers without a timeout.
_DEFAULTS: Final[Parameters] = {
    "connect_timeout": 2,  # s, for each address
    "keepalives_idle": 5,  # s
    "keepalives_interval": 2,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms
    "gssencmode": "disable",
    "target_session_attrs": "read-write",  # of several hosts, the primary
    "application_name": "eksgateway",
}


def read_url(url: str, **parameters: str) -> Parameters:
    """The parameters for libpq: those of the URL, then these, then the defaults. Raises StartError."""
    try:
        return dict(_DEFAULTS) | parameters | conninfo_to_dict(url) | {"client_encoding": "UTF8"}
    except (psycopg.ProgrammingError, UnicodeError) as exc:
        # Not chained: the error has the URL, and the URL may have a password.
        raise StartError(_explain(str(exc))) from None


def _explain(error: str) -> str:
    if option := re.search(r'invalid URI query parameter: "(\w+)"', error):
        return f"PostgreSQL's URLs have no option {option[1]}: remove it, or correct its spelling"
    if "percent-encoded" in error:
        return "write % in the user's name and password as %25"
    return "this is no URL of PostgreSQL: write it as postgresql://user@host/database"


def resolve_hosts(parameters: Parameters) -> str:
    """Blocks. A connection string that has the addresses of every host that can be resolved.

    Raises OSError when none can be.
    """
    if not parameters.get("host") or parameters.get("hostaddr"):
        return make_conninfo("", **parameters)
    hosts = str(parameters["host"]).split(",")
    ports = str(parameters.get("port") or "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        return make_conninfo("", **parameters)  # libpq refuses it before it resolves any
    found: list[tuple[str, str, str]] = []
    error: OSError | None = None
    for host, port in zip(hosts, ports, strict=True):
        try:
            found += [(host, address, port) for address in _resolve(host)]
        except OSError as exc:
            error = exc
    if error is not None and not found:
        raise error
    names = zip(("host", "hostaddr", "port"), zip(*found, strict=True), strict=True)
    return make_conninfo("", **{**parameters, **{name: ",".join(values) for name, values in names}})


def mask_password(text: str, parameters: Parameters) -> str:
    password = parameters.get("password")
    return text.replace(str(password), "***") if password else text


def _resolve(host: str) -> list[str]:
    if not host or host.startswith("/"):  # a socket of this machine
        return [""]
    try:
        return [str(ip_address(host))]
    except ValueError:
        pass
    try:
        answers = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except UnicodeError as exc:  # of IDNA, for an empty or long label
        raise socket.gaierror(socket.EAI_NONAME, "not a name of a host") from exc
    return list(dict.fromkeys(str(address[0]) for *_, address in answers))
