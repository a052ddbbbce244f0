"""The ledger's files on the disk: which ones they are, that one process has them, and that they are whole.

    ledger.db        the database; its inode carries the lock that counts
    ledger.db-wal    SQLite's: the newest commits, as long as a gateway runs
    ledger.db.lock   an empty file with a lock, for gateways up to 0.1.0, which look at nothing else
    ledger.db.head   the checkpoint of the newest event: what a start has to find in the database

A path that is a symbolic link is resolved once, so that all of them lie beside the database itself.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from pathlib import Path

from eksgateway.ledger.hash_chain import Checkpoint
from eksgateway.ledger.migrate import EMPTY, create
from eksgateway.ledger.sqlite import WAL_LIMIT, LedgerError, WalShrunk
from eksgateway.logs import Log

log = Log(__name__)

# A byte that SQLite locks for nothing: its own lie at 1 GB, and a lock may lie behind a file's end.
_LOCK_BYTE = 1 << 62
_USER_VERSION = 60  # where SQLite's header has it, in four bytes (sqlite.org/fileformat2.html)
_IN_USE = (
    "{path}: another gateway process uses this ledger: end that one, or give this one a `ledger.path` of its"
    " own"
)


def beside(path: Path, suffix: str) -> Path:
    """The file of this suffix that belongs to a ledger, wherever a link to the ledger lies."""
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + suffix)


def wal_bytes(path: Path) -> int:
    """The size of the -wal file; 0 where there is none. An empty one holds as much as none."""
    try:
        return beside(path, "-wal").stat().st_size
    except OSError:
        return 0


def read_head(path: Path) -> Checkpoint | None:
    """The newest event that a gateway has noted beside its ledger. Raises LedgerError for another text."""
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
    """The database file, held by one process at a time. ``path`` is the resolved one.

    ``known`` is the newest event noted beside it, ``had_wal`` whether commits were in its -wal file when it
    was opened, and ``user_version`` what the main file alone had: ``completeness`` judges the ledger by them.
    """

    def __init__(self, path: Path) -> None:
        """Locks the ledger, and makes a new one where there never was one. Raises LedgerError."""
        self.given = path
        self.path = _resolve(path)
        self._wal = beside(self.path, "-wal")
        self._opened: dict[Path, os.stat_result] = {}  # each file as this process left it
        self._descriptors: list[int] = []
        try:
            self._take_lock_file()
            self.known = read_head(path)
            self.had_wal = wal_bytes(path) > 0
            if not self.path.exists():
                self._create()
            self._take_database()
            self._head = _open(beside(self.path, ".head"), "the newest event cannot be noted")
            self._descriptors.append(self._head)
        except BaseException:
            self.release()
            raise

    @property
    def held(self) -> bool:
        """Whether this process has the ledger."""
        return bool(self._descriptors)

    def check(self) -> None:
        """Raises LedgerError when the files are no longer those that were opened: what is written into
        a file that was removed is lost.
        """
        self._check(self.given, self.path, "put it back and restart")
        if self._wal in self._opened:
            self._check(
                self._wal,
                self._wal,
                "end this gateway with SIGTERM, which still writes what was in it into the ledger, and start"
                " it again",
            )

    def _check(self, path: Path, opened: Path, advice: str) -> None:
        left = self._opened[opened]
        found = _stat(path)
        if found is None or not os.path.samestat(found, left):
            raise LedgerError(f"{path}: the file was removed or replaced: {advice}")
        if found.st_size < left.st_size:
            text = (
                f"{path}: the file was cut while this gateway used it, so events may be lost: end the"
                " gateway, and restore the ledger from a backup"
            )
            if opened == self._wal:
                raise WalShrunk(text, lambda: self._opened.update({opened: found}))
            raise LedgerError(text)

    def committed(self) -> int:
        """Note the files as a commit of this process has left them; the -wal file's size in bytes.

        SQLite never shortens the main file here, and the -wal file to its limit only.
        """
        for path, least in ((self.path, sys.maxsize), (self._wal, WAL_LIMIT)):
            found, left = _stat(path), self._opened.get(path)
            if found is None or (left is not None and not os.path.samestat(found, left)):
                continue  # ``check`` finds it
            if left is None or found.st_size >= min(left.st_size, least):
                self._opened[path] = found
        return self._opened[self._wal].st_size if self._wal in self._opened else 0

    def was_cut(self) -> bool:
        """Whether one of the files is shorter than a commit of this process has left it."""
        found = [(_stat(path), left) for path, left in self._opened.items()]
        return any(now is not None and now.st_size < left.st_size for now, left in found)

    def begin_notes(self, head: Checkpoint) -> None:
        """Replace what was noted before this process."""
        try:
            os.ftruncate(self._head, 0)
        except OSError as exc:
            raise LedgerError(f"{beside(self.path, '.head')}: cannot be written: {exc.strerror}") from exc
        self.note(head)

    def note(self, head: Checkpoint) -> None:
        """Note the newest event beside the ledger. It is durable already, and a failure here is logged."""
        try:
            os.pwrite(self._head, f"{head}\n".encode("ascii"), 0)
        except OSError as exc:
            log.warning("ledger.head_not_noted", seq=head.seq, detail=exc.strerror)

    def release(self) -> None:
        """Give the ledger up. Every SQLite connection of this process to it must be closed before: closing
        a descriptor of the database drops the locks that SQLite has on it.
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
        left = f"it had {self.known.seq} events" if self.known else "its -wal file is still there"
        if self.known is not None or self.had_wal:
            witness = beside(self.path, ".head") if self.known else self._wal
            raise LedgerError(
                f"{self.given}: the ledger is gone, and {left}. Put it back, or restore it from a backup; to"
                f" begin a new one, remove {witness}"
            )
        create(self.path)

    def _take_database(self) -> None:
        """Lock the database by its inode, whatever path, link or mount leads to it.

        The lock is one of the open file description (fcntl F_OFD_SETLK): SQLite's own locks, which are the
        process's, do not touch it, nor it them.
        """
        database = _open(
            self.path, "the ledger must be a file that this process can read and write", new=False
        )
        if sys.platform == "linux":  # elsewhere the lock file has to do
            wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _LOCK_BYTE, 1, 0)
            try:
                fcntl.fcntl(database, fcntl.F_OFD_SETLK, wanted)
            except BlockingIOError as exc:
                # The descriptor stays open: if it is this very process that has the ledger open, closing it
                # would drop SQLite's locks. The process is about to end.
                raise LedgerError(_IN_USE.format(path=self.given)) from exc
            except OSError as exc:
                os.close(database)
                raise LedgerError(
                    f"{self.given}: the file cannot be locked ({exc.strerror}): use a local disk"
                ) from exc
        self._descriptors.append(database)
        self._opened[self.path] = os.fstat(database)
        self.user_version = int.from_bytes(os.pread(database, 4, _USER_VERSION))
        # Before SQLite sees it: beside an empty file it deletes the -wal, which may hold the only copy.
        require_content(self.path, self.given)


def require_content(path: Path, shown: Path) -> None:
    """Raises LedgerError for a file of no bytes."""
    if path.stat().st_size == 0:
        raise LedgerError(f"{shown}: {EMPTY}")


def _resolve(path: Path) -> Path:
    """The file that a path leads to. Raises LedgerError where no ledger can be."""
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
