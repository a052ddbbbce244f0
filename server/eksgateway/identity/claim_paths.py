"""Finds a claim in a token's payload by its name or path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eksgateway.settings import ClaimName


def find_claim(payload: Mapping[str, Any], name: ClaimName) -> Any:
    """The value of a claim, or None. A list is a path into nested objects; so is a string with dots, unless
    it is the exact name of a claim.
    """
    if isinstance(name, str) and name in payload:
        return payload[name]
    value: Any = payload
    for member in name.split(".") if isinstance(name, str) else name:
        value = value.get(member) if isinstance(value, dict) else None
    return value
