"""The advisory lock of a ledger's chain: each batch of any gateway takes it, and each migration."""

from __future__ import annotations

import hashlib


def chain_lock_key(schema: str) -> int:
    """The key for ``pg_advisory_xact_lock``, whose locks belong to one database."""
    digest = hashlib.sha256(f"eksgateway chain {schema}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
