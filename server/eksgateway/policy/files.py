"""The files of an in-process policy, a compiled module and the policy data, and their revision."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final, Self

from eksgateway.file_reader import FileUnreadable, read_file
from eksgateway.policy.compiled_policy import CompiledPolicy
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.source import SourceFile, read_sources

_MAX_MODULE_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class PolicyContent:
    """The bytes that are parsed and loaded; nothing is checked yet.

    Two are compared by a hash: comparing 16 MB would hold up the event loop for 10 ms.
    """

    wasm: bytes = field(compare=False)
    sources: tuple[SourceFile, ...] = field(compare=False)
    digest: bytes

    @classmethod
    def of(cls, wasm: bytes, sources: tuple[SourceFile, ...]) -> Self:
        digest = hashlib.blake2b()
        for name, raw in ((b"", wasm), *((os.fsencode(source.path), source.raw) for source in sources)):
            digest.update(b"%d %d %b" % (len(name), len(raw), name))
            digest.update(raw)
        return cls(wasm, sources, digest.digest())


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    data: Path  # a file or a folder
    module: Path | None = None  # the package's

    def read(self) -> PolicyContent:
        """Raises PolicyLoadError."""
        return PolicyContent.of(read_module(self.module), read_sources(self.data))


def read_module(path: Path | None) -> bytes:
    """A compiled policy, by default the package's. Raises PolicyLoadError."""
    if path is None:
        return _package_module()
    try:
        return read_file(path, _MAX_MODULE_BYTES)
    except FileUnreadable as exc:
        raise PolicyLoadError(f"{path}: cannot be read: {exc}") from exc


def revision_of(wasm: bytes, policy: CompiledPolicy) -> str:
    """A hash of module and data, whatever the format of the data."""
    both = hashlib.sha256(wasm).digest() + policy.revision.encode()
    return f"sha256:{hashlib.sha256(both).hexdigest()}"


@cache
def _package_module() -> bytes:
    return (files("eksgateway.policy") / "policy.wasm").read_bytes()
