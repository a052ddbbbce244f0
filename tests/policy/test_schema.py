"""The schema's own reader agrees with jsonschema on what is right."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from eksgateway.policy.schema import KEYWORDS, Schema
from support.policy_cases import CONTENT

DOCUMENT: dict[str, Any] = json.loads((files("eksgateway.policy") / "data.schema.json").read_text())
RIGHT: dict[str, Any] = {"eksgateway": CONTENT}
TEXTS = st.sampled_from(["", "a", "a\n", "cancel", "ticket", "a*b*", "jwt:a", "111122223333", "us-east-1"])
KEYS = st.sampled_from(["id", "tags", "grants", "freezes", "subjects", "from", "env", "nobody-knows"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document, as what holds it and the key there."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in pairs:
        yield value, key
        yield from places(each)


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema and every schema within it."""
    yield schema
    inner = [*schema.get("definitions", {}).values(), *schema.get("properties", {}).values()]
    inner += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    for each in inner:
        yield from parts(each)


def is_right(document: Any) -> bool:
    """As jsonschema judges, but for a newline after what `$` ends."""
    schema = re.sub(r"\$\"", r'\\\\Z"', json.dumps(DOCUMENT))
    return jsonschema.Draft7Validator(json.loads(schema)).is_valid(document)


@given(st.data())
def test_it_refuses_what_jsonschema_refuses_and_nothing_else(data: st.DataObject) -> None:
    """Whatever stands in the place of anything, or beside it."""
    document = copy.deepcopy(RIGHT)
    for _ in range(data.draw(st.integers(1, 2))):
        holder, key = data.draw(st.sampled_from(list(places(document)) or [(document, "id")]))
        match data.draw(st.sampled_from(["replace", "write", "remove", "add"])), holder:
            case "remove", dict():
                holder.pop(key, None)
            case "remove", _:
                del holder[key]
            case "write", _:
                holder[key] = data.draw(TEXTS)
            case "add", dict():
                holder[data.draw(KEYS)] = data.draw(VALUES)
            case _:
                holder[key] = data.draw(VALUES)
    assert (not list(Schema(DOCUMENT).faults(document))) == is_right(document), document


def test_it_knows_every_keyword_of_the_schema() -> None:
    """One that it did not know would be passed over in silence."""
    for part in parts(DOCUMENT):
        assert part.keys() <= KEYWORDS
        assert "type" in part or "$ref" in part
        assert part.get("minItems", 1) == part.get("minLength", 1) == 1
        assert part.get("type") != "object" or "additionalProperties" in part
        assert part.get("type") != "array" or "items" in part
        assert "pattern" not in part or "description" in part
