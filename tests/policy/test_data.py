"""The check of policy data: each fault has its path and how to correct it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eksgateway.clock import SystemClock
from eksgateway.model import Action
from eksgateway.policy.factory import open_policy_engine
from eksgateway.policy.source import (
    MAX_BYTES,
    PolicyDataError,
    SourceFile,
    count_entries,
    load_content,
    parse_sources,
)
from eksgateway.settings import WasmPolicySettings
from support.opa import EXAMPLE_DATA, POLICIES
from support.policy_cases import CONTENT
from support.questions import at_request, caller

Change = Callable[[Any], object]


def _grant(**changes: Any) -> Change:
    return lambda content: content["grants"][0].update(changes)


def _freeze(**changes: Any) -> Change:
    return lambda content: content["freezes"][0].update(changes)


FAULTS: dict[str, tuple[Change, str]] = {
    "unknown-action": (
        _grant(actions=["cancle"]),
        "eksgateway.grants[0].actions[0]: 'cancle' is not one of cancel, check, get, list, watch, history",
    ),
    "misspelt-key": (
        _grant(requires=["ticket"]),
        "eksgateway.grants[0].requires: is not known here; the keys",
    ),
    "misspelt-part": (
        lambda c: c.update(freeze=[]),
        "eksgateway.freeze: is not known here; the keys are grants",
    ),
    "missing-key": (lambda c: c["grants"][0].pop("regions"), "eksgateway.grants[0].regions: is missing"),
    "no-grants": (lambda c: c.pop("grants"), "eksgateway.grants: is missing"),
    "freezes-empty": (lambda c: c.update(freezes=None), "eksgateway.freezes: must be a list, and is empty"),
    "text-for-list": (
        _grant(clusters="prod-*"),
        "eksgateway.grants[0].clusters: must be a list, and is 'prod-*'",
    ),
    "empty-list": (_grant(groups=[]), "eksgateway.grants[0].groups: is empty"),
    "number": (_grant(accounts=[5]), "eksgateway.grants[0].accounts[0]: 5 without quotes is a number"),
    "short-account": (
        _grant(accounts=["12"]),
        "accounts[0]: '12' is not understood; an account has 12 digits",
    ),
    "account-newline": (
        _grant(accounts=["111122223333\n"]),
        "accounts[0]: '111122223333\\n' is not understood",
    ),
    "region": (
        _grant(regions=["us-east"]),
        "regions[0]: 'us-east' is not understood; a region is written as",
    ),
    "two-stars": (_grant(clusters=["a*b*c*"]), "clusters[0]: 'a*b*c*' is not understood; a pattern is exact"),
    "double-star-inside": (_grant(groups=["a/**/b"]), "groups[0]: 'a/**/b' is not understood"),
    "double-star-glued": (_grant(clusters=["a**"]), "clusters[0]: 'a**' is not understood"),
    "double-star-for-a-kind": (_grant(subjects=["jwt:**"]), "subjects[0]: 'jwt:**' is not understood"),
    "star-twice": (_grant(subjects=["spiffe://a/*/**"]), "subjects[0]: 'spiffe://a/*/**' is not understood"),
    "subject-of-no-kind": (_grant(subjects=["bot"]), "subjects[0]: 'bot' is not understood; a pattern over"),
    "id-with-space": (_grant(id="a b"), "eksgateway.grants[0].id: 'a b' is not understood"),
    "tags-flat": (_grant(tags={"env": "prod"}), "grants[0].tags.env: must be a list, and is 'prod'"),
    "require": (_grant(require=["approval"]), "require[0]: 'approval' is not one of reason, ticket"),
    "cancel-without-types": (
        lambda c: c["grants"][0].pop("update_types"),
        "eksgateway.grants[0].update_types: is missing; list the update types",
    ),
    "nobody": (
        lambda c: [c["grants"][0].pop(key) for key in ("subjects", "groups")],
        "eksgateway.grants[0]: names no caller; give it subjects or groups",
    ),
    "same-id": (
        lambda c: c["grants"].append(c["grants"][1]),
        "eksgateway.grants[3].id: 'viewers' is the id of",
    ),
    "freeze-named-as-grant": (
        _freeze(id="oncall"),
        "eksgateway.freezes[0].id: 'oncall' is the id of eksgateway.g",
    ),
    "ends-before-it-begins": (
        _freeze(until="2026-12-19T00:00:00Z"),
        "eksgateway.freezes[0].until: is not after from ('2026-12-20T00:00:00Z')",
    ),
    "no-length": (_freeze(until="2026-12-20T00:00:00Z"), "eksgateway.freezes[0].until: is not after from"),
    "no-such-date": (
        _freeze(**{"from": "2026-13-40T00:00:00Z"}),
        "eksgateway.freezes[0].from: '2026-13-40T00:00:00Z' is no time that exists",
    ),
    "no-such-hour": (
        _freeze(until="2026-12-31T24:01:00Z"),
        "until: '2026-12-31T24:01:00Z' is no time that exists",
    ),
    "offset": (
        _freeze(until="2027-01-03T00:00:00+01:00"),
        "freezes[0].until: '2027-01-03T00:00:00+01:00' is not",
    ),
    "day-only": (_freeze(until="2027-01-03"), "until: '2027-01-03' is not understood; times are UTC"),
    "grant-number": (lambda c: c["grants"].append(5), "eksgateway.grants[3]: must be a mapping, and is 5"),
}


@pytest.mark.parametrize(("change", "fault"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_is_reported_once_with_its_path(change: Change, fault: str) -> None:
    content = copy.deepcopy(CONTENT)
    change(content)
    faults = find_faults({"eksgateway": content})
    assert len(faults) == 1, faults
    assert fault in faults[0]


@pytest.mark.parametrize("document", [None, [], "x", 5, {}, {"eksgateway": None}, {"grants": []}], ids=repr)
def test_documents_of_another_shape_are_refused(document: Any) -> None:
    assert find_faults(document)


def find_faults(document: Any) -> tuple[str, ...]:
    try:
        parse_sources([SourceFile(Path("data.json"), json.dumps(document).encode())])
    except PolicyDataError as exc:
        return exc.faults
    return ()


TRAPS = {
    "date": (
        "from: 2026-12-20T00:00:00Z",
        '2026-12-20T00:00:00Z without quotes is a date; write it as text: "2026',
    ),
    "number": (
        "accounts: [111122223333]",
        "accounts[0]: 111122223333 without quotes is a number; write it as text",
    ),
    "octal": (
        "accounts: [012345670123]",
        'accounts[0]: 012345670123 without quotes is a number; write it as text: "0',
    ),
    "boolean": ("clusters: [on]", "clusters[0]: on without quotes is a boolean"),
    "key-twice": (
        "id: other",
        "column 7: the key 'id' stands twice in one mapping",
    ),
    "region": ("regions: [no]", 'regions[0]: no without quotes is a boolean; write it as text: "no"'),
    "key-number": ("5: x", 'the key 5 without quotes is a number; write it as text: "5"'),
    "key-boolean": ("tags: {on: [x]}", 'the key on without quotes is a boolean; write it as text: "on"'),
    "key-list": ("[a]: x", "a key must be text"),
    "tab": ("\tid: y", "line 5, column 7: is not YAML: found a tab character"),
    "tag": ("clusters: !!python/name:os.system", "the tag tag:yaml.org,2002:python/name:os.system is not"),
}


@pytest.mark.parametrize(("line", "expected"), TRAPS.values(), ids=TRAPS.keys())
def test_yaml_traps_are_reported(line: str, expected: str, tmp_path: Path) -> None:
    """Octal accounts, dates, booleans and duplicate keys."""
    path = tmp_path / "data.yaml"
    path.write_text(f"eksgateway:\n  grants: []\n  freezes:\n    - id: x\n      {line}\n")
    with pytest.raises(PolicyDataError) as caught:
        load_content(path)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", b'{"eksgateway": {"grants": [], "grants": []}}', "the key 'grants' stands twice"),
        ("a.json", b'{"eksgateway": {"grants": 5}}', "eksgateway.grants: must be a list, and is 5"),
        ("a.json", b"{", "line 1, column 2: is not JSON"),
        ("a.yaml", b"\xff\xfe", "is not UTF-8"),
        ("a.yaml", b"a: \x00", "is not YAML"),
        ("a.yaml", b"a: [" * 5000, "is nested deeper than 100 levels"),
        ("a.yaml", b"eksgateway: {grants: &a [*a]}", "stands inside its own anchor"),
        ("a.yaml", b"a" * (MAX_BYTES + 1), "is larger than"),
        ("a.yaml", b"", "the document: must be a mapping, and is empty"),
    ],
    ids=["twice", "number", "cut-off", "not-utf-8", "nul", "deep", "itself", "large", "empty"],
)
def test_an_unreadable_file_is_refused_with_its_path(
    name: str, content: bytes, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PolicyDataError) as caught:
        load_content(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused_with_the_system_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyDataError, match="cannot be read: No such file"):
        load_content(tmp_path / "none.yaml")


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"eksgateway": {"grants": [{"id": "a"}], "freezes": [{"id": "a"}]}}))
    with pytest.raises(PolicyDataError) as caught:
        load_content(path)
    assert len(caught.value.faults) >= 8


def test_the_example_data_is_valid() -> None:
    assert count_entries(load_content(EXAMPLE_DATA)) == "4 grants, 1 freeze"


def test_the_example_data_shows_every_key_of_the_schema() -> None:
    definitions = _schema("data")["definitions"]
    grants = load_content(EXAMPLE_DATA)["grants"]
    assert set().union(*grants) <= set(definitions["grant"]["properties"])


def test_the_schemas_have_the_actions_of_the_model() -> None:
    grant = _schema("data")["definitions"]["grant"]["properties"]
    question = _schema("input")["properties"]["action"]["properties"]
    assert grant["actions"]["items"]["enum"] == question["name"]["enum"] == [str(each) for each in Action]


def _schema(name: str) -> Any:
    return json.loads((POLICIES / "schemas" / f"{name}.json").read_text())


async def test_a_change_of_the_data_changes_the_decision(tmp_path: Path) -> None:
    path = tmp_path / "grants.yaml"
    answers = {}
    for group in ("corp:platform", "corp:nobody"):
        path.write_text(EXAMPLE_DATA.read_text().replace("corp:platform", group))
        engine = await open_policy_engine(WasmPolicySettings(data=path), SystemClock())
        try:
            answers[group] = await engine.decide(at_request(caller("jwt:corp:alice", "corp:platform")))
        finally:
            await engine.close()
    assert answers["corp:platform"].rule_ids == ("platform-oncall",)
    assert not answers["corp:nobody"].allowed
    assert len({answer.policy_revision for answer in answers.values()}) == 2


async def test_an_engine_does_not_open_with_invalid_data(tmp_path: Path) -> None:
    """The error has every fault."""
    path = tmp_path / "grants.yaml"
    path.write_text("eksgateway: {grants: [{id: a}]}")
    with pytest.raises(PolicyDataError, match=r"eksgateway\.grants\[0\]\.actions: is missing"):
        await open_policy_engine(WasmPolicySettings(data=path), SystemClock())
