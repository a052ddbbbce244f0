"""Why a connection to PostgreSQL could not be made, and the remedy.

libpq gives no SQLSTATE for these, only texts. A server whose ``lc_messages`` is not English gets no remedy.
"""

from __future__ import annotations

import re
from typing import Final

_REMEDIES: Final = (
    (r'database "[^"]*" does not exist', "create the database, or correct its name in the URL"),
    (r'role "[^"]*" does not exist', "create the role (CREATE ROLE … LOGIN), or correct the user in the URL"),
    (r"is not permitted to log in", "let the role log in (ALTER ROLE … LOGIN)"),
    (r"CONNECT privilege", "let the role connect (GRANT CONNECT ON DATABASE … TO …)"),
    (
        r"password authentication failed|no password supplied",
        "give the role's password by PGPASSFILE or PGPASSWORD, or correct the user in the URL",
    ),
    (r"pg_hba\.conf", "let pg_hba.conf admit this user from this host, with the TLS that it demands"),
    (r"does not support SSL", "switch TLS on in PostgreSQL, or set the sslmode that this network needs"),
    (r"root certificate file", "set sslrootcert to the file of the server's CA"),
    (
        r"certificate verify failed|does not match host name",
        "set sslrootcert to the file of the server's CA, and connect by a name in its certificate",
    ),
    (
        r"too many (clients|connections)|connection slots are reserved",
        "raise max_connections or the CONNECTION LIMIT that is reached, or lower `ledger.connections`",
    ),
    (
        r"session is read-only|server is in hot standby",
        "this is a standby, or default_transaction_read_only is on: let the URL lead to the primary",
    ),
    (
        r"invalid \S+ value|invalid value for|invalid port|unrecognized configuration|of service|match \d+",
        "correct this option of the URL",
    ),
    (r"starting up|shutting down|in recovery mode", "wait until PostgreSQL has started"),
    (
        r"resolve host|Connection refused|timeout expired|No route to host|is unreachable|No such file",
        "see that PostgreSQL runs, and that this host reaches it under the URL's host and port",
    ),
)


def find_remedy(text: str) -> str:
    """Empty for an unknown error."""
    return next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, text)), "")
