"""The policy accepts every pattern that the schema of the data accepts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eksgateway.policy.wasm import WasmEngine
from support.questions import ACCOUNT, REGION, at_request, at_update, caller

_SCHEMA = (files("eksgateway.policy") / "data.schema.json").read_text(encoding="utf-8")
# Most drawn texts have no star, so texts with stars are added.
_SHORT = st.text("*/a", max_size=4)


def _patterns(definition: str, *starts: str) -> st.SearchStrategy[str]:
    pattern = json.loads(_SCHEMA)["definitions"][definition]["pattern"]
    stars = st.builds(str.__add__, st.sampled_from(starts), _SHORT)
    return st.from_regex(pattern, fullmatch=True).filter(_known) | stars.filter(
        lambda text: _known(text) and re.fullmatch(pattern, text)
    )


def _known(pattern: str) -> bool:
    """Until the Rego knows two stars and sets."""
    return pattern.count("*") < 2 or pattern.endswith("/**")


@settings(deadline=None)  # each example loads a policy
@given(data=st.data())
async def test_patterns_of_the_schema_are_wellformed(
    engines: Callable[[Any], WasmEngine], data: st.DataObject
) -> None:
    """Else a valid grant would be ignored, or a valid freeze would deny every cancel."""
    draw = data.draw
    pattern, subject = _patterns("pattern", ""), _patterns("subject", "jwt:", "spiffe://")
    who = caller("jwt:corp:alice", "corp:oncall", via="spiffe://corp.example/mesh")
    grant = {
        "id": "drawn",
        "actions": ["cancel"],
        "accounts": [ACCOUNT],
        "regions": [REGION],
        "update_types": ["VersionRollback"],
        "subjects": [who.id, draw(subject)],
        "groups": [draw(pattern)],
        "clusters": ["prod-1", draw(pattern)],
        "via": [who.via, draw(subject)],
    }
    freeze = {
        "id": "over",
        "clusters": [draw(pattern)],
        "except_groups": [draw(pattern)],
        "from": "2020-01-01T00:00:00Z",
        "until": "2020-01-02T00:00:00Z",
    }
    engine = engines({"grants": [grant], "freezes": [freeze]})
    decision = await engine.decide(at_update(at_request(who)))
    assert decision.allowed, decision.reasons
