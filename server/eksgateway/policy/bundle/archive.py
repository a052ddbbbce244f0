"""Packs files into the archive of an OPA bundle. Equal files give equal bytes."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from typing import Final

_MODE: Final = 0o644


def pack(files: Mapping[str, bytes]) -> bytes:
    """A tar.gz with these files, by their paths in the bundle, and nothing of this machine."""
    archive = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=archive, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path, content in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), _MODE
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()
