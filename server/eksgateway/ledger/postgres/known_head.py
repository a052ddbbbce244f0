"""The newest event that this gateway has seen. A chain that lacks it has gone back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.hash_chain import GENESIS, Checkpoint
from eksgateway.logs import Log

log = Log(__name__)

_HEAD: Final = """
    SELECT clock_timestamp() AT TIME ZONE 'UTC', (SELECT hash FROM {schema}.events WHERE seq = %s), seq, hash
    FROM (VALUES (1)) AS always LEFT JOIN (
        SELECT seq, hash FROM {schema}.events ORDER BY seq DESC LIMIT 1
    ) AS newest ON true"""


def head_statement(schema: str) -> str:
    """Its parameter is the number of the known head.

    Its row has the time, the hash at that number, and the newest event's number and hash.
    """
    return _HEAD.replace("{schema}", f'"{schema}"')


class KnownHead:
    """Events are only ever appended. So a head that is missing, or has another hash, means that the database
    was restored to an older state, or that a standby without the newest commits became the primary. Then
    acknowledged records may be lost, and no later ones must be mixed with them: this gateway stops using it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._fault = ""
        self.head = GENESIS

    def require_sound(self) -> None:
        """Raises LedgerError once the chain has gone back, until this process ends."""
        if self._fault:
            raise LedgerError(self._fault)

    def check(self, known: Checkpoint, row: Sequence[Any]) -> Checkpoint:
        """Return the newest event of a row of ``head_statement``, asked for ``known``. Raises LedgerError."""
        _, digest, seq, newest = row
        head = Checkpoint(seq, newest) if seq is not None else GENESIS
        if known != GENESIS and digest != known.hash:
            self._fault = (
                f"{self._name}: the ledger has gone back: this gateway has seen event {known}, and the newest"
                f" one is {head} now. The database was restored to an older state, or a standby that lagged"
                " became the primary. Compare the heads in the logs of all gateways, recover the events after"
                " that if you can, and restart the gateways"
            )
            log.error("ledger.went_back", known=str(known), found=str(head))
            self.require_sound()
        self.advance(head)
        return head

    def advance(self, head: Checkpoint) -> None:
        if head.seq > self.head.seq:
            self.head = head
