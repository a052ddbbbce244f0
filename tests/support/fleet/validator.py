"""Proves from a history that several replicas kept the promise together. Pure.

The points are those of the design of several replicas; a violation names its point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from support.fleet.history import History
from support.fleet.ledger_rules import (
    acknowledgements_are_in_the_ledger,
    cancellations_settle,
    chain_is_sound,
    phases_follow_eks,
)
from support.fleet.request_rules import one_answer_each, unavailable_means_nothing_sent
from support.fleet.send_rules import calls_keep_the_budget, looks_do_not_overlap, sends_have_intents
from support.fleet.stream_rules import lines_go_on

POINTS: Final[dict[int, Callable[[History], Iterator[str]]]] = {
    1: chain_is_sound,
    2: sends_have_intents,
    3: one_answer_each,
    4: acknowledgements_are_in_the_ledger,
    5: unavailable_means_nothing_sent,
    6: lines_go_on,
    7: phases_follow_eks,
    8: calls_keep_the_budget,
    9: looks_do_not_overlap,
    10: cancellations_settle,
}


def find_violations(history: History) -> list[str]:
    """Each as ``point: text``; empty for a sound history."""
    return [f"{point}: {text}" for point, check in POINTS.items() for text in check(history)]
