"""Remembers the decisions of a policy that declares that time matters at its edges only."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain
from sys import getsizeof
from typing import Final, TypeAlias

from eksgateway.model import Action, Decision
from eksgateway.policy.edges import Edges
from eksgateway.policy.question import Question, age_at

_MAX_BYTES: Final = 8 << 20
_ENTRY_BYTES: Final = 1000  # without texts of any number or length; twice as much with facts

Key: TypeAlias = tuple[object, ...]


class DecisionMemory:
    """Of one revision and its ``edges``. ``ages`` are those that grants demand of updates, in seconds.

    A remembered decision takes 4 µs, an evaluation 100 to 300. For one event loop.
    """

    def __init__(self, edges: Edges, ages: Sequence[int]) -> None:
        self._edges = edges
        self._ages = ages  # ascending
        self._decisions: OrderedDict[Key, tuple[Decision, int]] = OrderedDict()  # with its size
        self._bytes = 0
        self._undeclared = False

    def key_of(self, question: Question) -> Key | None:
        """Equal for questions whose decisions are equal. None for the final question of a cancel, which is
        always evaluated.

        The key has all of the input but the decision id and the time. In their place are the next edge, and
        the number of ages that the update has passed.
        """
        caller, cluster, facts, update = question.caller, question.cluster, question.facts, question.update
        live: Key = ()
        if facts is not None and update is not None:
            if question.action is Action.CANCEL:
                return None
            age = age_at(question.time, update.created_at) if self._ages else None
            live = (
                *(facts.status, facts.version, frozenset(facts.tags.items())),
                *(update.id, update.type, update.status, update.created_at),
                update.cancellation and update.cancellation.status,
                None if age is None else bisect_left(self._ages, age),
            )
        return (
            self._edges.next_second(question.time),
            *(caller.id, caller.type, caller.issuer, caller.groups, caller.via, caller.claims),
            *(question.action.value, question.method, question.any_cluster),
            *(cluster.account_id, cluster.region, cluster.name),
            *(question.justification.reason, question.justification.ticket),
            live,
        )

    @property
    def holds_all(self) -> bool:
        """Whether the policy has declared this with every decision so far."""
        return bool(self._decisions) and not self._undeclared

    def note_undeclared(self) -> None:
        self._undeclared = True

    def find(self, key: Key | None, decision_id: str) -> Decision | None:
        if key is None or (found := self._decisions.get(key)) is None:
            return None
        self._decisions.move_to_end(key)
        known, _ = found
        return Decision(  # ``dataclasses.replace`` takes 4 µs more
            decision_id,
            known.allowed,
            known.rule_ids,
            known.reasons,
            known.policy_revision,
            known.obligations,
        )

    def keep(self, key: Key | None, question: Question, decision: Decision) -> None:
        """Forgets those that were not found for longest, if the memory is full."""
        if key is None or key in self._decisions or decision.obligations:  # these may have any size
            return
        size = _estimate_bytes(question, decision)
        self._decisions[key] = decision, size
        self._bytes += size
        while self._bytes > _MAX_BYTES:
            _, (_, freed) = self._decisions.popitem(last=False)
            self._bytes -= freed


def _estimate_bytes(question: Question, decision: Decision) -> int:
    """As measured: 900 to 2,500 bytes, 16 KB for a caller in 200 groups, and 53 KB with a hundred reasons."""
    texts = [question.justification.reason, *question.caller.groups, *decision.rule_ids, *decision.reasons]
    texts += (value for claim in question.caller.claims for value in claim.values)
    if question.facts is not None:
        texts += chain.from_iterable(question.facts.tags.items())
    return _ENTRY_BYTES * (1 if question.facts is None else 2) + sum(map(getsizeof, texts)) + 8 * len(texts)
