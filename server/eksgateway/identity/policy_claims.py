"""Reads the claims that an issuer's settings give to the policy. Unusable values are ignored, which only
removes rights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from eksgateway.identity.claim_paths import find_claim
from eksgateway.model import MAX_CLAIM_VALUES, Claim
from eksgateway.settings import ClaimName

MAX_CLAIM: Final = 1024  # of a value, in characters
_INTEGER_BITS: Final = 64


def read_policy_claims(
    payload: Mapping[str, Any], names: Mapping[str, ClaimName]
) -> tuple[tuple[Claim, ...], tuple[tuple[str, int], ...]]:
    """The claims with values, and the number of ignored values by claim, without zeros. Both are ordered by
    the policy's name.
    """
    claims, unusable = [], []
    for name in sorted(names):
        values, ignored = _read_values(find_claim(payload, names[name]))
        if values:
            claims.append(Claim(name, values))
        if ignored:
            unusable.append((name, ignored))
    return tuple(claims), tuple(unusable)


def _read_values(claimed: Any) -> tuple[tuple[str, ...], int]:
    """The usable values without duplicates, and the number of ignored ones. Empty text is no value: GitHub
    writes it for what a run does not have.
    """
    items = claimed if isinstance(claimed, list) else [claimed]
    present = [item for item in items if item is not None and item != ""]
    texts = [text for text in map(_to_text, present) if text is not None]
    values = tuple(dict.fromkeys(texts))[:MAX_CLAIM_VALUES]
    beyond = len(set(texts)) - len(values)
    return values, len(present) - len(texts) + beyond


def _to_text(value: Any) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() <= _INTEGER_BITS:
            return str(value)
        case str() if len(value) <= MAX_CLAIM and value.isprintable():
            return value
    return None
