"""Limits of the compiled policy: companies that are admitted, and data that is refused with its place."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from eksgateway.policy.compiler import compile_content
from eksgateway.policy.compiler.limits import MAX_ENTRIES, MAX_ITEMS
from eksgateway.policy.engine import PolicyTooLarge

Entry = dict[str, Any]
BASE = {
    "actions": ["cancel", "get", "list"],
    "accounts": ["111122223333"],
    "regions": ["us-east-1"],
    "update_types": ["VersionRollback"],
    "require": ["reason"],
}
MARCH = {"from": "2027-03-01T06:00:00Z", "until": "2027-03-09T06:00:00Z"}
NIGHTS = [{"from": "18:00", "until": "06:00", "zone": "Europe/Berlin"}]


def grant(number: int, **keys: Any) -> Entry:
    own = {"id": f"g-{number}", "groups": [f"corp:team-{number}"], "clusters": ["*"]}
    return {**BASE, **own, **keys}


def freeze(number: int, **keys: Any) -> Entry:
    return {"id": f"f-{number}", "clusters": ["*"], **MARCH, **keys}


def compile_entries(grants: list[Entry], freezes: list[Entry], denials: list[Entry] | None = None) -> None:
    compile_content({"grants": grants, "denials": denials or [], "freezes": freezes})


COMPANIES: dict[str, Callable[[], tuple[list[Entry], list[Entry]]]] = {
    "50 teams on 200 clusters": lambda: (
        [
            grant(n, groups=[f"corp:team-{n % 50}"], clusters=[f"prod-{n // 50}"], tags={"env": ["prod"]})
            for n in range(10_000)
        ],
        [],
    ),
    "10,000 teams on all clusters": lambda: ([grant(n) for n in range(10_000)], []),
    "1,000 freezes of different months": lambda: (
        [grant(0)],
        [
            freeze(n, **{"from": f"{2027 + n // 12}-{n % 12 + 1:02}-01T06:00:00Z",
                         "until": f"{2027 + n // 12}-{n % 12 + 1:02}-09T06:00:00Z"})
            for n in range(1000)
        ],
    ),
    "1,000 freezes of different clusters": lambda: (
        [grant(0)], [freeze(n, clusters=[f"team-{n}-*"]) for n in range(1000)],
    ),
    "100 freezes until the end of time": lambda: (
        [grant(0)],
        [
            freeze(n, clusters=[f"team-{n}-*"], until="9999-12-31T23:59:59Z") for n in range(100)
        ],
    ),
    "300 teams with nights of their own": lambda: (
        [grant(0)],
        [{"id": f"f-{n}", "clusters": [f"team-{n}-*"], "windows": NIGHTS} for n in range(300)],
    ),
    "patterns of groups and clusters": lambda: (
        [
            grant(n, groups=[f"corp:{n}-*", "corp:*-leads"], clusters=[f"{n}-*", f"*-{n}", "*-prod-*"])
            for n in range(100)
        ],
        [],
    ),
    "50 accounts with grants of their own": lambda: (
        [
            grant(
                100 * team + 10_000 * account + cluster,
                accounts=[f"{account:012}"], clusters=[f"prod-{cluster}-*"], groups=[f"corp:{team}"],
            )
            for account in range(50) for cluster in range(20) for team in range(10)
        ],
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("company", COMPANIES.values(), ids=COMPANIES)
def test_usual_data_of_large_companies_is_admitted(
    company: Callable[[], tuple[list[Entry], list[Entry]]],
) -> None:
    compile_entries(*company())


TOO_WIDE: dict[str, tuple[Callable[[], tuple[list[Entry], list[Entry]]], str]] = {
    "grants on one cluster": (
        lambda: ([grant(n, groups=["corp:all"], clusters=["prod-1"]) for n in range(1000)], []),
        r"and at most 2 ms are possible\. .* grants and denials that apply together, with 'corp:all' among",
    ),
    "conditions on one cluster": (
        lambda: ([grant(n, tags={f"k{n}": ["v"]}) for n in range(1000)], []),
        r"grants and denials that apply together",
    ),
    "patterns of groups": (
        lambda: ([grant(n, groups=[f"corp:*{'x' * n}"]) for n in range(30)], []),
        r"group patterns that apply together, with 'corp:\*' among them: name groups without `\*`",
    ),
    "patterns of clusters": (
        lambda: (
            [
                grant(n, groups=[f"corp:{n}-{team}" for team in range(300)], clusters=[f"{'p' * n}*"])
                for n in range(60)
            ],
            [],
        ),
        r"cluster patterns that apply together, with 'p{59}\*' among them: merge grants",
    ),
    "two stars in conditions": (
        lambda: ([grant(0, via=[f"spiffe://*-{n}-*" for n in range(450)])], []),
        "grants and denials that apply together",
    ),
    "two stars in claims": (
        lambda: ([grant(0, claims={"ref": [f"*-{n}-*" for n in range(30)]})], []),
        "grants and denials that apply together",
    ),
    "two stars in exceptions": (
        lambda: ([grant(0, except_clusters=[f"*-{n}-*" for n in range(450)])], []),
        "cluster patterns that apply together",
    ),
    "freezes of one week": (
        lambda: ([grant(0)], [freeze(n, clusters=["prod-*"]) for n in range(1000)]),
        r"freezes that apply together, with 'prod-\*' among them: merge freezes",
    ),
}


@pytest.mark.parametrize(("company", "expected"), TOO_WIDE.values(), ids=TOO_WIDE)
def test_too_many_entries_that_apply_together_are_refused(
    company: Callable[[], tuple[list[Entry], list[Entry]]], expected: str
) -> None:
    """The error names what costs most, a pattern that takes part, and what to change."""
    with pytest.raises(PolicyTooLarge, match=expected):
        compile_entries(*company())


def test_too_many_entries_are_refused() -> None:
    denials = [
        {"id": f"d-{n}", "subjects": [f"jwt:corp:{n}"], "reason": "See INC-7."}
        for n in range(MAX_ENTRIES["denials"] + 1)
    ]
    compile_entries([], [], denials[:-1])
    with pytest.raises(
        PolicyTooLarge, match=r"there are 2001 denials, and at most 2000 are possible: let one"
    ):
        compile_entries([], [], denials)


def test_too_many_items_of_an_entry_are_refused() -> None:
    with pytest.raises(PolicyTooLarge, match=r"g-7: its lists have \d+ items, and at most 2000 are possible"):
        compile_entries([grant(7, groups=[f"corp:{n}" for n in range(MAX_ITEMS + 1)])], [])


def test_a_large_index_is_refused() -> None:
    grants = [grant(n, groups=[f"corp:{'x' * 200}-{n}-{m}" for m in range(10)]) for n in range(2500)]
    with pytest.raises(PolicyTooLarge, match=r"the compiled policy has \d+ KB, and at most 5120 KB"):
        compile_entries(grants, [])


def test_accounts_and_regions_that_multiply_are_refused() -> None:
    """At once: thousands of such entries would take gigabytes."""
    regions = [f"us-{'a' * length}-{number}" for length in range(1, 101) for number in range(10)]
    wide = [grant(n, accounts=[f"{n + m:012}" for m in range(900)], regions=regions) for n in range(3)]
    began = time.process_time()
    with pytest.raises(PolicyTooLarge, match="with g-0, accounts × regions of distinct lists are 900,000"):
        compile_entries(wide, [])
    assert time.process_time() - began < 2
