"""Assembles the index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from eksgateway.policy.compiler.callers import Callers
from eksgateway.policy.compiler.conditions import Conditions
from eksgateway.policy.compiler.edges import compile_edges
from eksgateway.policy.compiler.freezes import FreezeTable
from eksgateway.policy.compiler.limits import check_entries, check_size
from eksgateway.policy.compiler.places import Places
from eksgateway.policy.compiler.width import check_width
from eksgateway.policy.compiler.windows import compile_windows
from eksgateway.policy.compiler.zones import RANGE_BEGINS, RANGE_ENDS

FORM: Final = "eksgateway-index/1"
# The tables. One that is lost or of another revision could open something, so each has the revision under "",
# and the Rego allows nothing unless all do.
MARKED: Final = (
    *("grants", "conditions", "windows", "zones"),
    *("scopes", "tables", "except_clusters"),
    *("few", "many", "is_many", "by_subject", "anywhere_by_group", "anywhere_by_subject"),
    *("denials", "freezes", "freeze_at", "freeze_hours"),
)


def compile_content(content: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """``{"eksgateway": {"index": …}}`` for checked content with its sets resolved. Raises PolicyLoadError."""
    check_entries(content)
    index = _compile(content)
    canonical = json.dumps(index, sort_keys=True, separators=(",", ":")).encode()
    check_size(canonical)
    check_width(index)
    index["revision"] = f"sha256:{hashlib.sha256(canonical).hexdigest()}"
    for name in MARKED:
        index[name][""] = index["revision"]
    return {"eksgateway": {"index": index}}


def _compile(content: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    windows = compile_windows([*content["grants"], *content["freezes"]])
    places, callers = Places(), Callers()
    conditions, freezes = Conditions(windows), FreezeTable(windows)
    for grant in content["grants"]:
        where = places.add_place(grant)
        callers.add(grant, place=where, scope=places.add_scope(grant), alike=conditions.add(grant))
    for denial in content["denials"]:
        everywhere = "clusters" not in denial and "except_clusters" not in denial
        scope = places.add_scope(denial) if everywhere else None
        callers.add(denial, place=places.add_place(denial), scope=scope, alike=f"denial {denial['id']}")
    for freeze in content["freezes"]:
        freezes.add(freeze, places.add_place(freeze))
        callers.add_exceptions(freeze)
    return {
        "form": FORM,
        **conditions.to_json(),
        **callers.to_json(),
        "denials": {denial["id"]: _pick(denial, "reason", "from", "until") for denial in content["denials"]},
        **freezes.to_json(),
        "windows": windows.windows,
        "zones": windows.zones,
        "rules": {"from": RANGE_BEGINS, "until": RANGE_ENDS},
        "edges": compile_edges(content),
        **places.to_json(),
        "tables": {name: table.to_json() for name, table in (places.tables | callers.tables).items()},
    }


def _pick(entry: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: entry[key] for key in keys if key in entry}
