"""The sentences of a denial that a reason or a ticket answers."""

from __future__ import annotations

import pytest

from eksgateway.cli.refusals import find_help

TICKET = ["needs a ticket: --ticket TICKET"]
REASON = ["needs a reason: --reason TEXT"]
SENTENCES: dict[str, tuple[list[str], list[str]]] = {
    "required": (["A ticket is required by grant oncall."], TICKET),
    "a reason": (["A reason is required by grant oncall."], REASON),
    "of a form": (["Grant oncall asks for a ticket like OPS-# or INC-#."], TICKET),
    "both": (["A reason is required by grant a.", "Grant a asks for a ticket like OPS-#."], REASON + TICKET),
    "of two grants": (["A ticket is required by grant a.", "Grant b asks for a ticket like OPS-#."], TICKET),
    "other words": (["The Ticket is missing"], TICKET),
    "a denial": (["Denial stop forbids this: a ticket is required from security."], []),
    "a claim": (["Grant ci asks for the token's claim ref to be refs/heads/main."], []),
    "a version": (["Grant old asks for the cluster's version to be 1.31 or 1.2*."], []),
    "a time": (["Grant week ended at 2026-12-07T08:00:00Z."], []),
}


@pytest.mark.parametrize(("sentences", "expected"), SENTENCES.values(), ids=SENTENCES)
def test_a_denial_is_explained_by_what_would_help(sentences: list[str], expected: list[str]) -> None:
    assert find_help("POLICY_DENIED", tuple(sentences)) == expected
