"""A pattern that the schema of the data accepts matches alike in the Rego, in Python and in the reference."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eksgateway.model import Claim, ClusterRef
from eksgateway.policy import patterns
from eksgateway.policy.question import Question
from eksgateway.policy.wasm import WasmEngine
from support import policy_reference
from support.policy_deciders import ask
from support.policy_reference import is_blank
from support.questions import ACCOUNT, REGION, at_request, at_update, caller

_SCHEMA = json.loads((files("eksgateway.policy") / "data.schema.json").read_text(encoding="utf-8"))
_ALICE = caller("jwt:corp:alice", "corp:all")
_GET = at_request(_ALICE, "get", cluster="c")
_PRESENT = at_update(_GET)


def _at_version(text: str) -> Question:
    assert _PRESENT.facts is not None
    return replace(_PRESENT, facts=replace(_PRESENT.facts, version=text))


# Where patterns stand in a grant, each with the question that compares a text with them.
_PLACES: dict[str, Callable[[str], Question]] = {
    "clusters": lambda text: replace(_GET, cluster=ClusterRef(ACCOUNT, REGION, text)),
    "groups": lambda text: replace(_GET, caller=caller("jwt:x:y", text)),
    "subjects": lambda text: replace(_GET, caller=caller(text)),
    "via": lambda text: replace(_GET, caller=replace(_ALICE, via=text)),
    "claims": lambda text: replace(_GET, caller=replace(_ALICE, claims=(Claim("ref", (text,)),))),
    "versions": _at_version,
}
_GRANT = {
    "groups": ["corp:all"],
    "actions": ["get"],
    "accounts": [ACCOUNT],
    "regions": [REGION],
    "clusters": ["c"],
}


def _grant(place: str, pattern: str, number: int) -> dict[str, Any]:
    grant = {**_GRANT, "id": f"{place}-{number}"}
    if place == "subjects":
        del grant["groups"]
    return {**grant, place: {"ref": [pattern]} if place == "claims" else [pattern]}


def _patterns(definition: str) -> st.SearchStrategy[str]:
    pattern = _SCHEMA["definitions"][definition]["pattern"]
    # Most texts that the schema's pattern makes have no star, so texts with stars are added.
    starry = st.builds(str.__add__, st.sampled_from(["", "jwt:", "spiffe://"]), st.text("*/ab", max_size=6))
    return st.from_regex(pattern, fullmatch=True) | starry.filter(lambda text: re.fullmatch(pattern, text))


@settings(deadline=None)  # each example loads a policy
@given(data=st.data(), place=st.sampled_from([*_PLACES]))
async def test_patterns_match_alike_wherever_they_stand(
    engines: Callable[[Any], WasmEngine], data: st.DataObject, place: str
) -> None:
    definition = "subject" if place in ("subjects", "via") else "pattern"
    drawn = data.draw(st.lists(_patterns(definition), min_size=1, max_size=6))
    fills = st.text("ab/*", max_size=3)
    texts = [re.sub("[*]+", lambda _: data.draw(fills), each) for each in drawn] + [
        data.draw(_patterns(definition))
    ]
    grants = [_grant(place, pattern, number) for number, pattern in enumerate(drawn)]
    engine = engines({"grants": grants, "denials": [], "freezes": []})
    for text in texts:
        decision = await ask(engine, _PLACES[place](text))
        expected = {pattern for pattern in drawn if policy_reference.matches(pattern, text)}
        assert {pattern for pattern in drawn if patterns.matches(pattern, text)} == expected
        allowed = decision["rules"] if decision["allow"] else []
        assert {drawn[int(rule.removeprefix(f"{place}-"))] for rule in allowed} == expected, text


@settings(deadline=None)
@given(data=st.data())
async def test_clusters_are_excepted_by_the_same_patterns(
    engines: Callable[[Any], WasmEngine], data: st.DataObject
) -> None:
    drawn = data.draw(st.lists(_patterns("pattern"), min_size=1, max_size=6))
    text = re.sub("[*]+", lambda _: data.draw(st.text("ab/", max_size=3)), drawn[0])
    denials = [
        {"id": str(number), "groups": ["corp:all"], "reason": "x", "except_clusters": [pattern]}
        for number, pattern in enumerate(drawn)
    ]
    engine = engines(
        {"grants": [{**_GRANT, "id": "g", "clusters": [text]}], "denials": denials, "freezes": []}
    )
    decision = await ask(engine, _PLACES["clusters"](text))
    assert decision["allow"] is all(policy_reference.matches(pattern, text) for pattern in drawn)
    excepted = {pattern for number, pattern in enumerate(drawn) if str(number) not in decision["rules"]}
    assert excepted == {pattern for pattern in drawn if policy_reference.matches(pattern, text)}


@settings(deadline=None)
@given(data=st.data())
async def test_tickets_match_as_in_the_reference(
    engines: Callable[[Any], WasmEngine], data: st.DataObject
) -> None:
    pattern = _SCHEMA["definitions"]["ticket"]["pattern"]
    starry = st.text("*#/A-1", min_size=1, max_size=6).filter(lambda text: re.fullmatch(pattern, text))
    drawn = data.draw(st.lists(st.from_regex(pattern, fullmatch=True) | starry, min_size=1, max_size=4))
    fills = st.text("07٣A#*/-", max_size=3)
    texts = [re.sub("[*#]", lambda _: data.draw(fills), each) for each in drawn] + [data.draw(starry)]
    grant = {**_GRANT, "actions": ["cancel"], "update_types": ["x"]}
    grants = [{**grant, "id": str(number), "ticket_patterns": [each]} for number, each in enumerate(drawn)]
    engine = engines({"grants": grants, "denials": [], "freezes": []})
    for text in texts:
        decision = await ask(engine, at_request(_ALICE, cluster="c", ticket=text))
        allowed = decision["rules"] if decision["allow"] else []
        expected = [
            each for each in drawn if not is_blank(text) and policy_reference.matches_ticket(each, text)
        ]
        assert [drawn[int(rule)] for rule in sorted(allowed, key=int)] == expected, text
