"""The files of a bundle: the policy's Rego, the compiled data and the manifest.

https://www.openpolicyagent.org/docs/management-bundles
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from eksgateway.errors import StartError

_FOLDER: Final = "eksgateway"  # of the Rego, and the one root of the bundle's data and packages
_REGO_VERSION: Final = 1


def list_files(data: bytes, revision: str) -> dict[str, bytes]:
    """The content of each file by its path in the bundle; ``data`` is compiled, with this revision.

    Raises StartError if this installation has no Rego.
    """
    rego = _read_rego()
    manifest = {
        "revision": bundle_revision(revision, rego),
        "roots": [_FOLDER],
        "rego_version": _REGO_VERSION,
    }
    return {
        **{f"{_FOLDER}/{name}": content for name, content in rego.items()},
        "data.json": data,
        ".manifest": json.dumps(manifest).encode(),
    }


def bundle_revision(revision: str, rego: Mapping[str, bytes] | None = None) -> str:
    """The data's revision and a hash of the Rego, by default the package's: both decide."""
    sources = _read_rego() if rego is None else rego
    text = json.dumps({name: content.decode() for name, content in sources.items()}, sort_keys=True)
    return f"{revision}+rego.{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@cache
def _read_rego() -> dict[str, bytes]:
    return {source.name: source.read_bytes() for source in sorted(_rego_folder().glob("*.rego"))}


def _rego_folder() -> Path:
    """Beside policy.wasm in an installed package, at the top of a checkout."""
    package = Path(str(files("eksgateway.policy")))
    for place in (package / "rego", package.parents[2] / "policies" / "eksgateway"):
        if (place / "authz.rego").is_file():
            return place
    raise StartError("this installation lacks the policy's Rego: install eksgateway again, or use a checkout")
