"""Sets: their items stand in the place of `$name`."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from eksgateway.policy.source import PolicyDataError
from support.policy_cases import ONCALL, YEAR_END
from support.policy_parsing import find_faults, parse_content, parse_texts

SETS = {
    "prod": ["111122223333", "444455556666"],
    "home": ["us-east-1"],
    "fleet": ["prod-*", "*-canary"],
    "leads": ["corp:leads", "corp:owners"],
    "robots": ["jwt:corp:robot", "spiffe://corp.example/robots/**"],
    "words": ["VersionRollback", "1.31"],
}
NAMING: dict[str, Any] = {
    "id": "naming",
    "subjects": ["$robots"],
    "groups": ["corp:a", "$leads"],
    "actions": ["cancel"],
    "accounts": ["$prod"],
    "regions": ["$home", "eu-central-1"],
    "clusters": ["$fleet"],
    "except_clusters": ["$fleet"],
    "via": ["$robots"],
    "versions": ["$words"],
    "update_types": ["$words"],
    "tags": {"environment": ["$words", "production"], "team": ["a"]},
    "claims": {"ref": ["$words"]},
}


def test_items_stand_in_the_place_of_names() -> None:
    content = parse_content(
        sets=SETS,
        grants=[NAMING],
        denials=[
            {
                "id": "d",
                "reason": "r",
                "groups": ["$leads"],
                "clusters": ["$fleet"],
                "except_clusters": ["$fleet"],
            }
        ],
        freezes=[
            YEAR_END
            | {
                "clusters": ["$fleet"],
                "accounts": ["$prod"],
                "regions": ["$home"],
                "except_clusters": ["$fleet"],
                "except_groups": ["$leads"],
                "except_subjects": ["$robots"],
                "tags": {"a": ["$words"]},
                "update_types": ["$words"],
            }
        ],
    )
    assert "$" not in json.dumps(content)
    (grant,) = content["grants"]
    assert grant["groups"] == ["corp:a", "corp:leads", "corp:owners"]
    assert grant["regions"] == ["us-east-1", "eu-central-1"]
    assert grant["tags"] == {"environment": ["VersionRollback", "1.31", "production"], "team": ["a"]}
    assert content["denials"][0]["clusters"] == SETS["fleet"]
    assert content["freezes"][0]["except_subjects"] == SETS["robots"]


def test_items_that_stand_twice_are_dropped() -> None:
    grant = ONCALL | {"groups": ["corp:leads", "$leads", "$leads", "corp:a"]}
    content = parse_content(sets=SETS, grants=[grant])
    assert content["grants"][0]["groups"] == ["corp:leads", "corp:owners", "corp:a"]


def test_entries_without_names_stay_as_written() -> None:
    grant = ONCALL | {"groups": ["corp:a", "corp:a"]}
    assert parse_content(sets=SETS, grants=[grant])["grants"] == [grant]


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "unknown": (
        {},
        {"accounts": ["$prods"]},
        "eksgateway.grants[0].accounts[0]: '$prods' is not known; the sets are prod, home, fleet",
    ),
    "unknown in tags": (
        {},
        {"tags": {"env": ["a", "$x"]}},
        "grants[0].tags.env[1]: '$x' is not known; the sets are",
    ),
    "set in a set": (
        {"more": ["$leads"]},
        {},
        "eksgateway.sets.more[0]: '$leads' names a set, and a set holds no set; write its items here",
    ),
    "groups as accounts": (
        {},
        {"accounts": ["111122223333", "$leads"]},
        "accounts[1]: $leads does not fit here: eksgateway.sets.leads[0]: 'corp:leads' is not understood",
    ),
    "groups as subjects": (
        {},
        {"subjects": ["$leads"]},
        "subjects[0]: $leads does not fit here: eksgateway.sets.leads[0]",
    ),
    "one item of another kind": (
        {"mixed": ["us-east-1", "prod-*"]},
        {"regions": ["$mixed"]},
        "regions[0]: $mixed does not fit here: eksgateway.sets.mixed[1]: 'prod-*' is not understood",
    ),
    "three stars as clusters": (
        {"stars": ["***"]},
        {"clusters": ["$stars"]},
        "clusters[0]: $stars does not fit here",
    ),
    "name that is none": (
        {},
        {"accounts": ["$a b"]},
        "grants[0].accounts[0]: '$a b' is not understood; an account",
    ),
    "empty": ({"none": []}, {}, "eksgateway.sets.none: is empty; leave it out, or fill it"),
    "empty item": ({"none": [""]}, {}, "eksgateway.sets.none[0]: is empty"),
    "name with a space": (
        {"a b": ["x"]},
        {},
        "eksgateway.sets.a b: 'a b' is not understood; an id has letters",
    ),
    "items as text": ({"text": "x"}, {}, "eksgateway.sets.text: must be a list, and is 'x'"),
    "among actions": ({}, {"actions": ["$words"]}, "grants[0].actions[0]: '$words' is not one of cancel"),
    "among requirements": (
        {},
        {"require": ["$words"]},
        "grants[0].require[0]: '$words' is not one of reason, ticket",
    ),
}


@pytest.mark.parametrize(("sets", "changes", "fault"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_of_sets_have_the_path(sets: dict[str, Any], changes: dict[str, Any], fault: str) -> None:
    content = {"sets": SETS | sets, "grants": [ONCALL | {"update_types": ["VersionRollback"]} | changes]}
    faults = find_faults({"eksgateway": content})
    assert any(fault in line for line in faults), faults


def test_a_set_that_nothing_names_is_good() -> None:
    assert find_faults({"eksgateway": {"sets": SETS, "grants": [ONCALL]}}) == ()


def test_sets_are_shared_by_files() -> None:
    content = parse_texts(
        a_yaml=json.dumps({"eksgateway": {"grants": [ONCALL | {"accounts": ["$prod"]}]}}),
        b_json=json.dumps({"eksgateway": {"sets": SETS}}),
    )
    assert content["grants"][0]["accounts"] == SETS["prod"]


def test_the_same_set_in_two_files_is_refused() -> None:
    text = json.dumps({"eksgateway": {"sets": {"leads": ["corp:a"]}, "grants": []}})
    with pytest.raises(PolicyDataError) as caught:
        parse_texts(a_yaml=text, b_yaml=text)
    assert caught.value.faults == (
        "b.yaml: eksgateway.sets.leads: is defined by a.yaml: eksgateway.sets.leads already",
    )


def test_sets_that_multiply_are_refused() -> None:
    """A small file could else stand for billions of items."""
    items = [f"c{number}" for number in range(10_000)]
    grants = [ONCALL | {"id": f"g{number}", "clusters": ["$all"]} for number in range(501)]
    (fault,) = find_faults({"eksgateway": {"sets": {"all": items}, "grants": grants}})
    assert (
        fault == "eksgateway.grants[500].clusters: with this list, sets stand for more than 5,000,000 items"
    )


def test_a_fault_has_the_first_sets_only() -> None:
    """Thousands of names, listed in each of thousands of faults, would take minutes."""
    sets = {f"s{number}": ["a"] for number in range(5000)}
    began = time.process_time()
    faults = find_faults(
        {
            "eksgateway": {
                "sets": sets,
                "grants": [ONCALL | {"clusters": [f"$x{number}" for number in range(20_000)]}],
            }
        }
    )
    assert time.process_time() - began < 1.5
    assert faults[0].endswith("s18, s19 and 4,980 more")
