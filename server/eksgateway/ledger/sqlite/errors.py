"""SQLite's errors: the remedy for each, and whether every other write would meet it."""

from __future__ import annotations

from typing import Final

from eksgateway.ledger.database import LedgerError

# By the first entry that an error's name begins with, so special codes come first.
_HINTS: Final[dict[str | tuple[str, ...], str]] = {
    "SQLITE_NOTADB": "this is not a ledger: set `ledger.path` to a new file, or restore it from a backup",
    "SQLITE_CORRUPT": "the file is damaged: restore it from a backup",
    "SQLITE_FULL": "the disk is full: free some space",
    "SQLITE_READONLY": "the file cannot be written: fix the permissions of it and its folder, mount the"
    " volume writable, or set `ledger.path` elsewhere",
    "SQLITE_PERM": "the file cannot be used: fix the permissions of it and its folder",
    "SQLITE_CANTOPEN": "a file cannot be opened: check that the ledger and its folder can be read and"
    " written, and that the process has file descriptors left (ulimit -n)",
    ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL"): "another program holds the file: end that program",
    ("SQLITE_NOMEM", "SQLITE_IOERR_NOMEM"): "the process is out of memory: raise its memory limit",
    "SQLITE_TOOBIG": "the record is too large for SQLite",
    "SQLITE_NOLFS": "the file system does not take files of this size: set `ledger.path` to another one",
    "SQLITE_IOERR_GETTEMPPATH": "SQLite found no folder for a temporary file: set SQLITE_TMPDIR or TMPDIR to"
    " a folder that can be written",
    "SQLITE_IOERR_SHORT_READ": "the file is shorter than it has to be: it, or its -wal, was cut; restore it"
    " from a backup",
    "SQLITE_IOERR_CORRUPTFS": "the file system is damaged: check it",
    "SQLITE_IOERR_LOCK": "the file system has no working file locks: use a local disk",
    "SQLITE_IOERR_SHM": "the -shm file beside the ledger cannot be used: check the space on the disk, and use"
    " a local disk",
    "SQLITE_IOERR": "the disk fails, or a quota is used up: look at the system's log",
}

_FAIL_EVERY_WRITE: Final = (
    *("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL", "SQLITE_FULL", "SQLITE_READONLY", "SQLITE_PERM"),
    *("SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_NOLFS", "SQLITE_IOERR"),
)
# The exceptions: one page or one statement is at fault.
_FAIL_ONE_WRITE: Final = (
    *("SQLITE_IOERR_GETTEMPPATH", "SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ"),
    *("SQLITE_IOERR_CORRUPTFS", "SQLITE_IOERR_NOMEM"),
)


def explain(exc: BaseException) -> str:
    name = error_name(exc)
    hint = next((hint for codes, hint in _HINTS.items() if name.startswith(codes)), "")
    return f"{_first_error(exc)} ({hint})" if hint else str(_first_error(exc))


def fails_every_write(exc: BaseException) -> bool:
    name = error_name(exc)
    return isinstance(_first_error(exc), LedgerError) or (
        name.startswith(_FAIL_EVERY_WRITE) and not name.startswith(_FAIL_ONE_WRITE)
    )


def error_name(exc: BaseException) -> str:
    """SQLite's extended code, or an empty string."""
    return str(getattr(_first_error(exc), "sqlite_errorname", ""))


def _first_error(exc: BaseException) -> BaseException:
    """Ending the transaction after it may have failed as well."""
    while exc.__context__ is not None:
        exc = exc.__context__
    return exc
