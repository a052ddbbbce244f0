"""Remembers verified tokens, because verifying a signature costs as much as a policy decision."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache

from eksgateway.identity.claims import TokenClaims
from eksgateway.identity.jwk_set import KeySet
from eksgateway.model import Caller

GROUPS_PER_TOKEN: Final = 25  # on average, of some 100 bytes each
_GROUP_BYTES: Final = 100


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """Its signature was verified with ``keys``."""

    claims: TokenClaims
    keys: KeySet


class VerifiedTokens:
    """By the SHA-256 of `authorization`: the tokens themselves are not kept. Callers must still compare the
    keys and the clock.

    Groups and claims take most of the memory, so the cache is bounded by their number. A long value of a
    claim counts as several groups.
    """

    def __init__(self, capacity: int) -> None:
        max_groups = capacity * GROUPS_PER_TOKEN

        def size(token: VerifiedToken) -> int:
            return min(max_groups, max(GROUPS_PER_TOKEN, _count_groups(token.claims.caller)))

        self._tokens: LRUCache[bytes, VerifiedToken] = LRUCache(max_groups, size)

    def __len__(self) -> int:
        return len(self._tokens)

    def get(self, authorization: str | bytes) -> VerifiedToken | None:
        return self._tokens.get(_digest(authorization))

    def remember(self, authorization: str | bytes, token: VerifiedToken) -> None:
        self._tokens[_digest(authorization)] = token

    def forget(self, authorization: str | bytes) -> None:
        self._tokens.pop(_digest(authorization), None)


def _count_groups(caller: Caller) -> int:
    values = (value for claim in caller.claims for value in claim.values)
    return len(caller.groups) + sum(1 + len(value) // _GROUP_BYTES for value in values)


def _digest(authorization: str | bytes) -> bytes:
    if isinstance(authorization, str):
        authorization = authorization.encode("utf-8", "surrogatepass")
    return hashlib.sha256(authorization).digest()
