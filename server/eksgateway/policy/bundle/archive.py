"""Makes the archive of an OPA bundle. Equal data and keys give equal bytes, but for PS algorithms."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from typing import Final

from eksgateway.policy.bundle.files import list_files
from eksgateway.policy.bundle.signature import SIGNATURES_FILE, sign
from eksgateway.policy.bundle.signing_key import SigningKey

_MODE: Final = 0o644


def make_bundle(data: bytes, revision: str, key: SigningKey | None = None) -> bytes:
    """A bundle with compiled data of this revision, signed if there is a key.

    Raises StartError if this installation has no Rego.
    """
    files = list_files(data, revision)
    if key is not None:
        files[SIGNATURES_FILE] = sign(files, key)
    return pack(files)


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
