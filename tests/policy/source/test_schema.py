"""The schema as it is checked here, and by a general validator."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eksgateway.model import Action
from eksgateway.policy.source import load_content
from eksgateway.policy.source.faults import Faults
from eksgateway.policy.source.schema import compile_check, document_check, read_schema
from support.opa import EXAMPLE_DATA, POLICIES
from support.policy_cases import CONTENT
from support.policy_parsing import find_faults, find_file_faults

_VALIDATOR = jsonschema.Draft7Validator(read_schema())
FULL: dict[str, Any] = {
    "eksgateway": {
        "sets": {"leads": ["corp:leads"]},
        "grants": [
            {
                **CONTENT["grants"][0],
                "except_clusters": ["a"],
                "via": ["spiffe://a/**"],
                "claims": {"ref": ["main", "$leads"]},
                "from": "2026-11-30T08:00:00Z",
                "windows": [{"days": ["mon"], "from": "22:00", "until": "24:00", "zone": "UTC"}],
                "group_tags": {"team": "corp:*"},
                "versions": ["1.2*"],
                "older_than": "2h",
                "ticket_patterns": ["OPS-#"],
                "owner": "a",
            }
        ],
        "denials": [{"id": "d", "subjects": ["jwt:a"], "reason": "b", "clusters": ["*"]}],
        "freezes": CONTENT["freezes"],
    }
}
_TEXTS = ["", "*", "**", "a*b*c*", "/**", "$leads", "$", "corp:*", "1h", "OPS-#", "é", "06:00", "a\n", "\x00"]
_VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 5, 1.5, [], {}, [[]], [{}], {"a": []}, {"": ""}, *_TEXTS, *([text] for text in _TEXTS)]
).map(copy.deepcopy)


def list_places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each mapping or list in a value with each of its keys."""
    for key, each in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(each, dict | list):
            yield from list_places(each)


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """The whole language, with some changes."""
    document = copy.deepcopy(FULL)
    for _ in range(draw(st.integers(1, 3))):
        within, key = draw(st.sampled_from(list(list_places(document))))
        match draw(st.integers(0, 3)):
            case 0:
                del within[key]
            case 1 if isinstance(within, dict):
                within[draw(st.sampled_from(["", "id", "tags", "zone", "a b", "x\n", "sets"]))] = draw(
                    _VALUES
                )
            case _:
                within[key] = draw(_VALUES)
        if not document:
            break
    return document


@given(documents())
@example(FULL)
def test_a_document_has_faults_where_a_general_validator_finds_them(document: Any) -> None:
    faults = Faults()
    document_check()(document, "", faults)
    # In Python `$` also matches before a final newline, where this schema's other readers do not.
    if not re.search(r"\\n\"", json.dumps(document)):
        assert _VALIDATOR.is_valid(document) == (faults.count == 0)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(_TEXTS),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(
            st.sampled_from(["eksgateway", "grants", "freezes", "denials", "sets", "id", "from", "a"]), each
        )
    ),
    max_leaves=12,
)


@given(
    documents()
    | _JSON
    | _JSON.map(lambda value: {"eksgateway": {"grants": value, "freezes": value, "sets": value}})
)
def test_faults_of_any_document_are_lines_with_a_path(document: Any) -> None:
    faults = find_faults(document)
    assert all(re.match(r"(the document|eksgateway|[^:]+): ", fault) for fault in faults), faults
    assert all(fault.isprintable() and len(fault) < 700 for fault in faults), faults


@given(st.text() | st.binary())
def test_any_file_is_read_or_refused(content: str | bytes) -> None:
    for name in ("data.yaml", "data.json"):
        faults = find_file_faults(name, content)
        assert faults
        assert all(fault.isprintable() for fault in faults), faults


@pytest.mark.parametrize("part", [{"type": "number"}, {"type": "string", "maxLength": 5}, {}], ids=repr)
def test_a_keyword_that_is_not_implemented_is_an_error(part: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError):
        compile_check(part)


def test_the_example_data_shows_every_key() -> None:
    content = load_content(EXAMPLE_DATA)
    for kind, definition in (("grants", "grant"), ("denials", "denial"), ("freezes", "freeze")):
        keys = set(read_schema()["definitions"][definition]["properties"])
        assert keys - set().union(*content[kind]) == set(), kind


def test_the_schemas_have_the_actions_of_the_model() -> None:
    grant = read_schema()["definitions"]["grant"]["properties"]
    question = json.loads((POLICIES / "schemas" / "input.json").read_text())["properties"]["action"][
        "properties"
    ]
    assert grant["actions"]["items"]["enum"] == question["name"]["enum"] == [str(each) for each in Action]
