"""PostgreSQL's errors: the remedy for each, and whether every other write would meet it."""

from __future__ import annotations

from typing import Final

import psycopg

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.postgres.connection_errors import find_remedy

# By the first entry that an error's SQLSTATE begins with, so special codes come first.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_HINTS: Final[dict[str | tuple[str, ...], str]] = {
    "28": "PostgreSQL refuses this user: set PGPASSFILE or PGPASSWORD, and let pg_hba.conf admit it",
    "3D000": "there is no such database: create it, or correct `ledger.url`",
    "3F000": "there is no such schema: run `eksgateway ledger migrate`, or correct `ledger.schema`",
    ("42P01", "42703", "42883"): "the schema is not this version's: run `eksgateway ledger migrate`",
    "42501": "the role lacks a right: run `eksgateway ledger migrate`, which grants it",
    "53100": "the disk of PostgreSQL is full: free some space",
    "53200": "PostgreSQL is out of memory: give it more",
    "53300": "too many connections: raise max_connections of PostgreSQL, or lower `ledger.connections`",
    "25006": "this is a standby: let `ledger.url` lead to the primary",
    "55P03": "another gateway, or a program, holds the lock of the ledger: see pg_locks and pg_stat_activity",
    ("57P01", "57P02", "57P03"): "PostgreSQL is stopped or starts: wait for it",
    ("25P03", "25P04"): "this process was stopped for too long inside a transaction",
    "57014": "PostgreSQL was too slow: look at its load and its log",
    "XX001": "the data is damaged: restore the database from a backup",
    "58": "the disk of PostgreSQL fails: look at its log",
}
_FAIL_EVERY_WRITE: Final = ("08", "25006", "28", "3D", "3F", "42", "53", "55P03", "57", "58")
_ENDED: Final = ("08", "57P01", "57P02", "57P05")


def explain(exc: BaseException) -> str:
    first = find_error(exc)
    if isinstance(first, LedgerError):
        return str(first)
    state = error_state(exc)
    hint = next((hint for codes, hint in _HINTS.items() if state.startswith(codes)), "") if state else ""
    if not hint and is_lost(first):
        hint = find_remedy(str(first)) or "the connection to PostgreSQL is lost: see that it runs"
    what = _primary_text(first) or type(first).__name__
    return f"{what} ({hint})" if hint else what


def fails_every_write(exc: BaseException) -> bool:
    first = find_error(exc)
    return isinstance(first, LedgerError) or is_lost(first) or error_state(exc).startswith(_FAIL_EVERY_WRITE)


def is_lost(exc: BaseException) -> bool:
    """Whether the connection ended, or could not be made, without an error from PostgreSQL."""
    first = find_error(exc)
    return isinstance(first, psycopg.OperationalError) and not first.sqlstate


def is_ended(exc: BaseException) -> bool:
    """Whether the connection ended, with or without an error from PostgreSQL."""
    return is_lost(exc) or error_state(exc).startswith(_ENDED)


def error_state(exc: BaseException) -> str:
    """The SQLSTATE, or an empty string."""
    return str(getattr(find_error(exc), "sqlstate", "") or "")


def find_error(exc: BaseException) -> BaseException:
    """The error of psycopg that SQLAlchemy has wrapped."""
    orig = getattr(exc, "orig", None)
    return orig if isinstance(orig, BaseException) else exc


def _primary_text(exc: BaseException) -> str:
    primary = exc.diag.message_primary if isinstance(exc, psycopg.Error) else None
    return primary or " ".join(str(exc).split())
