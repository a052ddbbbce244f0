"""A file whose readers hang, as on a lost network file system."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hang_reads(path: Path) -> Iterator[None]:
    """Replace a file with one that hangs. It is removed at the end, and hanging readers get no content."""
    beside = path.with_suffix(".pipe")
    os.mkfifo(beside)  # opening it waits for a writer
    beside.replace(path)
    try:
        yield
    finally:
        held = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        path.unlink()
        os.close(held)
        for thread in threading.enumerate():
            if thread.name == "repeated-read":
                thread.join(timeout=10)
