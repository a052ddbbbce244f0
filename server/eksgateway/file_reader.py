"""Reads files of a bounded size. Blocks: on the event loop, use it in ``blocking.RepeatedRead``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from eksgateway.blocking import READ_TIMEOUT_S

HUNG: Final = f"the file system has not answered for {READ_TIMEOUT_S:g} s"


class FileUnreadable(Exception):
    """A file cannot be read; the text contains neither its name nor its content."""


def read_file(path: Path, max_bytes: int) -> bytes:
    """Raises FileUnreadable, also for a file of more than ``max_bytes``."""
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as exc:
        raise FileUnreadable(exc.strerror or type(exc).__name__) from exc
    if len(content) > max_bytes:
        raise FileUnreadable(f"is larger than {max_bytes} bytes")
    return content
