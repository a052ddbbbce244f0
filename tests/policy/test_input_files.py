"""Inputs of earlier versions and those written by hand are completed, and faulty ones are refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from eksgateway.model import Claim
from eksgateway.policy.input_files import InputsError, load_inputs
from support.questions import NOW, at_request, at_target, at_update, caller

Input = dict[str, Any]

CREATED = datetime(2026, 11, 22, 7, 30, 0, 999_999, tzinfo=UTC)
WHO = replace(caller(), claims=(Claim("ref", ("refs/heads/main",)),))
OLD = at_update(at_request(WHO))
assert OLD.update is not None
OLD = replace(OLD, update=replace(OLD.update, created_at=CREATED))
INPUT = OLD.to_input()


def load(tmp_path: Path, document: Any, write: Callable[[Any], str] = yaml.safe_dump) -> Input:
    file = tmp_path / "input"
    file.write_text(write(document))
    (loaded,) = load_inputs(file, NOW)
    return loaded


def without(*paths: str) -> Input:
    """The input without members that earlier versions did not write."""
    document = copy.deepcopy(INPUT)
    for path in paths:
        *parents, name = path.split(".")
        member = document
        for parent in parents:
            member = member[parent]
        del member[name]
    return document


def test_age_and_seconds_follow_from_the_times() -> None:
    """Both texts drop fractions, and so does their difference."""
    update = INPUT["resource"]["properties"]["update"]
    assert (update["created_at"], INPUT["context"]["time"]) == (
        "2026-11-22T07:30:00Z",
        "2026-11-22T10:00:00Z",
    )
    assert (update["age_s"], INPUT["context"]["seconds"]) == (9000, 1_795_341_600)
    assert datetime.fromtimestamp(INPUT["context"]["seconds"], UTC) == NOW


@pytest.mark.parametrize("write", [yaml.safe_dump, json.dumps], ids=["yaml", "json"])
@pytest.mark.parametrize(
    "absent", [(), ("context.seconds", "resource.properties.update.age_s")], ids=["as written", "earlier"]
)
def test_absent_facts_are_computed(tmp_path: Path, absent: tuple[str, ...], write: Any) -> None:
    assert load(tmp_path, without(*absent), write) == INPUT


def test_seconds_and_age_follow_a_changed_time(tmp_path: Path) -> None:
    """So an entry of a decision log can be tried at another time."""
    document = without()
    document["context"]["time"] = "2026-11-22T10:00:07Z"
    loaded = load(tmp_path, document)
    assert loaded["context"]["seconds"] == INPUT["context"]["seconds"] + 7
    assert loaded["resource"]["properties"]["update"]["age_s"] == 9007


def test_an_update_without_a_time_has_no_age(tmp_path: Path) -> None:
    document = without("resource.properties.update.age_s")
    document["resource"]["properties"]["update"]["created_at"] = None
    assert load(tmp_path, document)["resource"]["properties"]["update"]["age_s"] is None


def test_claims_default_to_none(tmp_path: Path) -> None:
    document = without("subject.properties.claims")
    assert load(tmp_path, document)["subject"]["properties"]["claims"] == {}


@pytest.mark.parametrize("question", [at_request(WHO), at_target(WHO)], ids=["request", "target"])
def test_earlier_inputs_without_an_update_are_completed(tmp_path: Path, question: Any) -> None:
    document = question.to_input()
    expected = copy.deepcopy(document)
    del document["context"]["seconds"]
    assert load(tmp_path, document) == expected


@pytest.mark.parametrize(
    "time", ["tomorrow", "2026-02-31T00:00:00Z", "2026-11-22T10:00:00+01:00", "2026-1-2T3:04:05Z", ""]
)
def test_an_input_with_another_form_of_time_is_refused(tmp_path: Path, time: str) -> None:
    document = without()
    document["context"]["time"] = time
    with pytest.raises(InputsError, match=r"context\.time: .* is not a time: write it as"):
        load(tmp_path, document)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.update(subject=5),
        lambda document: document.update(subject={}),
        lambda document: document["subject"].update(properties=[1]),
        lambda document: document["subject"]["properties"].update(claims={"ref": "main"}),
        lambda document: document.update(resource="here"),
        lambda document: document["resource"].update(properties=None),
        lambda document: document["resource"]["properties"].update(update=["u-1"]),
        lambda document: document.update(context=7),
        lambda document: document["context"].update(time=["2026"]),
    ],
)
def test_a_malformed_input_is_refused(tmp_path: Path, spoil: Callable[[Input], None]) -> None:
    document = without()
    spoil(document)
    with pytest.raises(InputsError, match="input 1: "):
        load(tmp_path, document)
