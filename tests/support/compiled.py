"""Compiled policy data and bundles of it, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eksgateway.policy.bundle.archive import make_bundle
from eksgateway.policy.bundle.signing_key import load_signing_key
from eksgateway.policy.compiled_policy import CompiledPolicy, compile_policy
from eksgateway.policy.source import SourceFile


def compile_data(data: dict[str, Any]) -> CompiledPolicy:
    """``data`` is a document as operators write it."""
    return compile_policy((SourceFile(Path("data.json"), json.dumps(data).encode()),))


def bundle_of(data: dict[str, Any], signing_key: Path | None = None, key_id: str = "policy-1") -> bytes:
    """The bundle that `eksgateway policy bundle` writes for this data."""
    compiled = compile_data(data)
    key = None if signing_key is None else load_signing_key(signing_key, key_id=key_id)
    return make_bundle(compiled.data, compiled.revision, key)
