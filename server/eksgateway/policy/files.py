"""The files that a policy in the process is made of: read as bytes, so that what was looked at is what is
loaded, and named together by one revision.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from eksgateway.policy.data import parse_data, read_data
from eksgateway.policy.engine import PolicyLoadError

_MAX_MODULE_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """What the files held at one time: a compiled module, and data of which nothing is checked yet."""

    wasm: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """Where the operators' data is, and their own module if they have one instead of the package's."""

    data: Path
    module: Path | None = None

    def read(self) -> Content:
        """Raises PolicyLoadError."""
        return Content(read_module(self.module), read_data(self.data))

    def parse(self, content: Content) -> dict[str, Any]:
        """The data document. Raises PolicyDataError with every fault."""
        return parse_data(content.data, self.data)


def read_module(path: Path | None) -> bytes:
    """A compiled policy, by default the package's. Raises PolicyLoadError."""
    if path is None:
        return _packaged()
    try:
        with path.open("rb") as file:
            wasm = file.read(_MAX_MODULE_BYTES + 1)
    except OSError as exc:
        raise PolicyLoadError(f"{path}: cannot be read: {exc.strerror}") from exc
    if len(wasm) > _MAX_MODULE_BYTES:
        raise PolicyLoadError(f"{path}: is larger than {_MAX_MODULE_BYTES} bytes")
    return wasm


def revision_of(wasm: bytes, data: dict[str, Any]) -> str:
    """Equal for what is equal in content, however the data is written."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    both = hashlib.sha256(wasm).digest() + hashlib.sha256(canonical).digest()
    return f"sha256:{hashlib.sha256(both).hexdigest()}"


@cache
def _packaged() -> bytes:
    return (files("eksgateway.policy") / "policy.wasm").read_bytes()
