"""A bounded memory of tokens already verified, because a signature check costs as much as a decision.

It remembers proofs and not rights: who looks one up still compares the keys and the clock.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from eksgateway.identity.claims import Standing
from eksgateway.identity.keys import KeySet

GROUPS_EACH: Final = 25  # on average; some 100 bytes each


@dataclass(frozen=True, slots=True)
class Proof:
    """What a token was found to say, and the key set that proved it."""

    standing: Standing
    keys: KeySet


class VerifiedTokens:
    """Proofs by the SHA-256 of their token (the token itself is not kept); the least used go first. Groups
    are most of a proof's memory, so their number is bounded too.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._most_groups = capacity * GROUPS_EACH
        self._groups = 0
        self._proofs: OrderedDict[bytes, Proof] = OrderedDict()

    def __len__(self) -> int:
        return len(self._proofs)

    def get(self, token: str) -> Proof | None:
        """The proof, which is used just now by this."""
        digest = _digest(token)
        proof = self._proofs.get(digest)
        if proof is not None:
            self._proofs.move_to_end(digest)
        return proof

    def find(self, token: str) -> Proof | None:
        """The proof, without using it: any text may be asked for, and remembered ones keep their order."""
        return self._proofs.get(_digest(token))

    def put(self, token: str, proof: Proof) -> None:
        """Remember a proof, in the place of an older one."""
        self.drop(token)
        self._proofs[_digest(token)] = proof
        self._groups += _groups(proof)
        while len(self._proofs) > self._capacity or (
            self._groups > self._most_groups and len(self._proofs) > 1
        ):
            _, least_used = self._proofs.popitem(last=False)
            self._groups -= _groups(least_used)

    def drop(self, token: str) -> None:
        proof = self._proofs.pop(_digest(token), None)
        if proof is not None:
            self._groups -= _groups(proof)


def _groups(proof: Proof) -> int:
    return len(proof.standing.caller.groups)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
