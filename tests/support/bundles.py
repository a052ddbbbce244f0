"""Bundles of policy data, as `eksgateway policy bundle` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eksgateway.policy.bundle.archive import make_bundle
from eksgateway.policy.bundle.signing_key import load_signing_key
from eksgateway.policy.compiled_policy import compile_policy
from eksgateway.policy.source import SourceFile


def bundle_of(data: dict[str, Any], signing_key: Path | None = None, key_id: str = "policy-1") -> bytes:
    """``data`` is a document as operators write it."""
    compiled = compile_policy((SourceFile(Path("data.json"), json.dumps(data).encode()),))
    key = None if signing_key is None else load_signing_key(signing_key, key_id=key_id)
    return make_bundle(compiled.data, compiled.revision, key)
