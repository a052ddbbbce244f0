"""Where the bytes of a JWK set come from. ``jwks_url`` has the source for URLs."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from eksgateway.blocking import RepeatedRead
from eksgateway.file_reader import HUNG, FileUnreadable, read_file

MAX_BYTES: Final = 262_144  # the largest sets in use have some 30 KB


class SourceError(Exception):
    """The text is for the log."""


class JwksSource(Protocol):
    """A ``followed`` source is cheap enough to be read every second."""

    followed: bool

    async def read(self) -> bytes:
        """At most MAX_BYTES. Raises SourceError."""


class FileSource:
    followed = True

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._reader = RepeatedRead(lambda: read_file(path, max_bytes))

    async def read(self) -> bytes:
        try:
            return await self._reader.read()
        except FileUnreadable as exc:
            raise SourceError(f"{self._path}: {exc}") from exc
        except TimeoutError as exc:
            raise SourceError(f"{self._path}: {HUNG}") from exc
