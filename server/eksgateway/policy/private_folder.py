"""A folder of files that only root and this process's user can have written."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_PATH: Final = getattr(os, "O_PATH", os.O_RDONLY)  # macOS has none
_PARENT: Final = _PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # opening a FIFO must not wait
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class PrivateFolder:
    """From ``open_private_folder``. Names are relative to the open folder, wherever its path leads later."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, name: str, max_bytes: int) -> bytes:
        """Raises OSError, also for a file that others may have written, or of more than ``max_bytes``."""
        with os.fdopen(os.open(name, _READ, dir_fd=self._descriptor), "rb") as file:
            state = os.fstat(file.fileno())
            if state.st_size > max_bytes:
                raise OSError(f"{name}: is larger than {max_bytes} bytes")
            _require_private(state, name)
            return file.read(max_bytes)

    def replace(self, name: str, content: bytes) -> None:
        """Readers see the old file or the new one. Raises OSError."""
        beside = f"{secrets.token_hex(8)}-{name}"
        try:
            with os.fdopen(os.open(beside, _CREATE, 0o600, dir_fd=self._descriptor), "wb") as file:
                file.write(content)
            os.rename(beside, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=self._descriptor)
            raise

    def keep_newest(self, count: int, suffix: str) -> None:
        """Remove older files with the suffix. Raises OSError."""
        with os.scandir(self._descriptor) as entries:
            names = [each.name for each in entries if each.name.endswith(suffix)]
        with contextlib.suppress(FileNotFoundError):  # another process removes them, too
            for name in sorted(names, key=self._time_of, reverse=True)[count:]:
                os.unlink(name, dir_fd=self._descriptor)

    def _time_of(self, name: str) -> int:
        return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_mtime_ns


@contextmanager
def open_private_folder(path: Path) -> Iterator[PrivateFolder]:
    """Create the folder if it is missing. Raises OSError if others can change or replace it.

    Each folder above it must belong to root or this process's user, too, and either no other user can write
    it, or it is sticky, as /tmp is: there, others cannot rename what is not theirs.
    """
    for each in (*reversed(path.parents), path):
        each.mkdir(mode=0o700, exist_ok=True)  # with parents=True, a umask of 002 would make unsafe parents
    *parents, last = path.resolve(strict=True).parts
    with contextlib.ExitStack() as stack:
        descriptor: int | None = None
        for part, flags in [*((part, _PARENT) for part in parents), (last, _FOLDER)]:
            descriptor = os.open(part, flags, dir_fd=descriptor)
            stack.callback(os.close, descriptor)
            _require_private(os.fstat(descriptor), part, sticky=flags == _PARENT)
        assert descriptor is not None  # noqa: S101 - for mypy
        yield PrivateFolder(descriptor)


def _require_private(state: os.stat_result, name: str, *, sticky: bool = False) -> None:
    if state.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{name}: belongs to the user {state.st_uid}")
    if state.st_mode & _OTHERS_WRITE and not (sticky and state.st_mode & stat.S_ISVTX):
        raise PermissionError(f"{name}: others can write it")
