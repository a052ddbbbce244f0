"""The signature of a bundle, as OPA verifies it: a JWT that has the hash of every file.

https://www.openpolicyagent.org/docs/management-bundles#signing
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from eksgateway.policy.bundle.signing_key import SigningKey

SIGNATURES_FILE: Final = ".signatures.json"
_STRUCTURED: Final = (".manifest", "data.json")  # OPA hashes their values, and of other files the bytes
# Go's encoder escapes these two in JSON, and Python's does not.
_LINE_SEPARATORS: Final = {0x2028: "\\u2028", 0x2029: "\\u2029"}


def sign(files: Mapping[str, bytes], key: SigningKey) -> bytes:
    """The content of ``SIGNATURES_FILE`` for these files, by their paths in the bundle."""
    hashes = [
        {"name": path, "hash": hash_file(path, content), "algorithm": "SHA-256"}
        for path, content in sorted(files.items())
    ]
    header = {"alg": key.algorithm, "kid": key.key_id, "typ": "JWT"}
    signed = b".".join(_encode(_to_json(part).encode()) for part in (header, {"files": hashes}))
    token = b".".join([signed, _encode(key.sign(signed))])
    return _to_json({"signatures": [token.decode()]}).encode()


def hash_file(path: str, content: bytes) -> str:
    """The SHA-256 of a file as OPA computes it, in hex. Structured files must not have fractions."""
    if path.rpartition("/")[2] in _STRUCTURED:
        content = _to_json(json.loads(content, parse_float=_refuse_fraction)).encode()
    return hashlib.sha256(content).hexdigest()


def _to_json(value: Any) -> str:
    """Without spaces, with sorted keys: what OPA hashes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.translate(_LINE_SEPARATORS)


def _refuse_fraction(text: str) -> NoReturn:
    raise ValueError(f"OPA hashes the text of {text}, which is lost here")


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
