"""A file of a gateway's settings, for commands that read the policy's."""

from __future__ import annotations

from pathlib import Path

import yaml


def write_settings(file: Path, **policy: str) -> Path:
    """With this policy, one issuer and one target. Returns the file."""
    settings = {
        "identity": {"jwt": {"issuers": [{"name": "n", "issuer": "i", "audience": "a", "jwks": "j.json"}]}},
        "policy": policy,
        "ledger": {"path": "ledger.db"},
        "eks": {"targets": [{"account_id": "111122223333", "region": "us-east-1"}]},
    }
    file.write_text(yaml.safe_dump(settings))
    return file
