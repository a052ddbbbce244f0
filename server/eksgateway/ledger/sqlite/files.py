"""The ledger's files: owned by one process, and unchanged by others while it runs.

    ledger.db        the database; its inode carries the lock that counts
    ledger.db-wal    SQLite's: the newest commits, while a gateway runs
    ledger.db.lock   locked for gateways up to 0.1.0, which check nothing else
    ledger.db.head   the checkpoint of the newest event, which a start must find in the database

A symbolic link is resolved once, so that all of them lie beside the database itself.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from pathlib import Path
from typing import Final

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.hash_chain import Checkpoint
from eksgateway.ledger.migrate import EMPTY
from eksgateway.ledger.sqlite.connecting import WAL_LIMIT, WalShrunk
from eksgateway.ledger.sqlite.create import create_ledger
from eksgateway.logs import Log

log = Log(__name__)

# A byte that SQLite never locks: its own are at 1 GB. A lock may lie behind a file's end.
_LOCK_BYTE: Final = 1 << 62
_USER_VERSION: Final = 60  # offset of the four bytes in SQLite's header (sqlite.org/fileformat2.html)
_IN_USE: Final = (
    "{path}: another gateway process uses this ledger: end that one, or give this one a `ledger.path` of its"
    " own"
)


def beside(path: Path, suffix: str) -> Path:
    """The file with this suffix beside the database, not beside a link to it."""
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + suffix)


def wal_bytes(path: Path) -> int:
    """0 where there is none."""
    try:
        return beside(path, "-wal").stat().st_size
    except OSError:
        return 0


def read_noted_head(path: Path) -> Checkpoint | None:
    """The newest event, as the gateway noted it. Raises LedgerError for an invalid note."""
    head = beside(path, ".head")
    try:
        text = head.read_text("ascii").strip("\0\n ")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise LedgerError(f"{head}: cannot be read: {exc}") from exc
    try:
        return Checkpoint.parse(text) if text else None
    except ValueError as exc:
        raise LedgerError(f"{head}: {exc}") from exc


class LedgerFile:
    """The database file, locked by this process. ``given`` is the configured path, ``path`` the resolved one.

    ``noted_head``, ``had_wal`` (the -wal file held commits) and ``user_version`` (of the main file alone) are
    as this process found them.
    """

    def __init__(self, path: Path) -> None:
        """Create the ledger where there never was one. Raises LedgerError."""
        self.given = path
        self.path = _resolve(path)
        self._wal = beside(self.path, "-wal")
        self._last_stat: dict[Path, os.stat_result] = {}  # each file as this process left it
        self._descriptors: list[int] = []
        try:
            self._take_lock_file()
            self.noted_head = read_noted_head(path)
            self.had_wal = wal_bytes(path) > 0
            if not self.path.exists():
                self._create()
            self._lock_database()
            self._head = _open(beside(self.path, ".head"), "the newest event cannot be noted")
            self._descriptors.append(self._head)
        except BaseException:
            self.release()
            raise

    @property
    def is_locked(self) -> bool:
        return bool(self._descriptors)

    def check(self) -> None:
        """Raises LedgerError if a file was removed, replaced or cut: a write would be lost."""
        self._check(self.given, self.path, "put it back and restart")
        if self._wal in self._last_stat:
            self._check(
                self._wal,
                self._wal,
                "end this gateway with SIGTERM, which still writes what was in it into the ledger, and start"
                " it again",
            )

    def _check(self, path: Path, opened: Path, advice: str) -> None:
        last = self._last_stat[opened]
        now = _stat(path)
        if now is None or not os.path.samestat(now, last):
            raise LedgerError(f"{path}: the file was removed or replaced: {advice}")
        if now.st_size < last.st_size:
            text = (
                f"{path}: the file was cut while this gateway used it, so events may be lost: end the"
                " gateway, and restore the ledger from a backup"
            )
            if opened == self._wal:
                raise WalShrunk(text, lambda: self._last_stat.update({opened: now}))
            raise LedgerError(text)

    def remember_sizes(self) -> int:
        """Returns the -wal file's bytes.

        SQLite never shortens the main file here, and the -wal file only to its limit.
        """
        for path, least in ((self.path, sys.maxsize), (self._wal, WAL_LIMIT)):
            now, last = _stat(path), self._last_stat.get(path)
            if now is None or (last is not None and not os.path.samestat(now, last)):
                continue  # the next ``check`` fails
            if last is None or now.st_size >= min(last.st_size, least):
                self._last_stat[path] = now
        return self._last_stat[self._wal].st_size if self._wal in self._last_stat else 0

    def is_cut(self) -> bool:
        stats = [(_stat(path), last) for path, last in self._last_stat.items()]
        return any(now is not None and now.st_size < last.st_size for now, last in stats)

    def replace_head(self, head: Checkpoint) -> None:
        """Raises LedgerError."""
        try:
            os.ftruncate(self._head, 0)
        except OSError as exc:
            raise LedgerError(f"{beside(self.path, '.head')}: cannot be written: {exc.strerror}") from exc
        self.note_head(head)

    def note_head(self, head: Checkpoint) -> None:
        """The event itself is durable already, so a failure is only logged."""
        try:
            os.pwrite(self._head, f"{head}\n".encode("ascii"), 0)
        except OSError as exc:
            log.warning("ledger.head_not_noted", seq=head.seq, detail=exc.strerror)

    def release(self) -> None:
        """Unlock the ledger. Close this process's SQLite connections first: closing any descriptor of the
        database drops the locks that SQLite has on it.
        """
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def _take_lock_file(self) -> None:
        lock = _open(beside(self.path, ".lock"), "the ledger's lock cannot be taken")
        self._descriptors.append(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise LedgerError(_IN_USE.format(path=self.given)) from exc

    def _create(self) -> None:
        noted = self.noted_head
        if noted is not None or self.had_wal:
            left = f"it had {noted.seq} events" if noted else "its -wal file is still there"
            witness = beside(self.path, ".head") if noted else self._wal
            raise LedgerError(
                f"{self.given}: the ledger is gone, and {left}. Put it back, or restore it from a backup; to"
                f" begin a new one, remove {witness}"
            )
        create_ledger(self.path)

    def _lock_database(self) -> None:
        """Lock the database's inode, so that every path, link and mount leads to the same lock.

        The lock belongs to the open file description. SQLite's locks belong to the process, and neither
        kind affects the other.
        """
        database = _open(
            self.path, "the ledger must be a file that this process can read and write", new=False
        )
        if sys.platform == "linux":  # elsewhere only the lock file protects
            wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _LOCK_BYTE, 1, 0)
            try:
                fcntl.fcntl(database, fcntl.F_OFD_SETLK, wanted)
            except BlockingIOError as exc:
                # The descriptor stays open: if this very process has the ledger open, closing it would drop
                # SQLite's locks.
                raise LedgerError(_IN_USE.format(path=self.given)) from exc
            except OSError as exc:
                os.close(database)
                raise LedgerError(
                    f"{self.given}: the file cannot be locked ({exc.strerror}): use a local disk"
                ) from exc
        self._descriptors.append(database)
        self._last_stat[self.path] = os.fstat(database)
        self.user_version = int.from_bytes(os.pread(database, 4, _USER_VERSION))
        # Before SQLite opens it: beside an empty file SQLite deletes the -wal file, perhaps the only copy.
        require_content(self.path, self.given)


def require_content(path: Path, shown: Path) -> None:
    if path.stat().st_size == 0:
        raise LedgerError(f"{shown}: {EMPTY}")


def _resolve(path: Path) -> Path:
    try:
        real = path.resolve()
        if not real.parent.is_dir():
            raise LedgerError(
                f"{path}: {real.parent} is not a folder: create it, or set `ledger.path` to another place"
            )
        if real.exists() and not real.is_file():
            what = "Is a directory" if real.is_dir() else "is not an ordinary file"
            raise LedgerError(f"{path}: {what}: set `ledger.path` to another place")
    except (OSError, RuntimeError) as exc:  # RuntimeError: links in a circle
        raise LedgerError(f"{path}: cannot be reached: {exc}") from exc
    return real


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _open(path: Path, otherwise: str, *, new: bool = True) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags | os.O_CREAT if new else flags, 0o600)
    except OSError as exc:
        raise LedgerError(f"{path}: {exc.strerror}: {otherwise}") from exc
