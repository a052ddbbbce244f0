"""Assembles the index."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from eksgateway.policy.compiler.callers import Callers
from eksgateway.policy.compiler.conditions import Conditions
from eksgateway.policy.compiler.edges import compile_edges
from eksgateway.policy.compiler.freezes import FreezeTable
from eksgateway.policy.compiler.places import Places

FORM: Final = "eksgateway-index/1"
# What an index without one of these might allow that this one denies. Each has the revision under "", and
# the Rego allows nothing unless all do.
MARKED: Final = (
    "scopes",
    "tables",
    "except_clusters",
    "few",
    "many",
    "is_many",
    "by_subject",
    "freezes",
    "freeze_at",
)


def compile_content(content: dict[str, Any]) -> dict[str, Any]:
    """``{"eksgateway": {"index": …}}`` for checked content with its sets resolved."""
    places, callers, conditions = Places(), Callers(), Conditions()
    for grant in content["grants"]:
        conditions.add(grant)
        callers.add(grant, place=places.add_place(grant), scope=places.add_scope(grant))
    freezes = FreezeTable()
    for freeze in content["freezes"]:
        freezes.add(freeze, places.add_place(freeze))
        for pattern in freeze.get("except_groups", ()):
            callers.add_token("groups", pattern)
    tables = places.tables | callers.tables
    index = {
        "form": FORM,
        **conditions.to_json(),
        **callers.to_json(),
        **freezes.to_json(),
        "edges": compile_edges(content),
        "scopes": places.scopes,
        "except_clusters": places.except_clusters,
        "tables": {name: table.to_json() for name, table in tables.items()},
    }
    index["revision"] = _hash(index)
    for name in MARKED:
        index[name][""] = index["revision"]
    return {"eksgateway": {"index": index}}


def _hash(index: dict[str, Any]) -> str:
    canonical = json.dumps(index, sort_keys=True, separators=(",", ":")).encode()
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"
