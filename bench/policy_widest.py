"""Measures the costliest decisions that the limits of policy data admit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from functools import cache
from typing import Any, Final

from bench.policy import encode, load_module
from bench.policy_data import CLUSTER, NOW, cancel_by, list_by, make_grant
from bench.report import Ratio
from eksgateway.model import Caller
from eksgateway.policy.compiled_policy import build_policy
from eksgateway.policy.compiler import compile_content
from eksgateway.policy.engine import PolicyTooLarge
from eksgateway.policy.loaded_policy import LoadedPolicy
from eksgateway.policy.source import Content

GROUPS: Final = [f"bench:g{number}" for number in range(200)]
CALLER: Final = Caller("jwt", "jwt:bench:member", "https://issuer.example", tuple(GROUPS))
# Each matches the cluster.
PATTERNS: Final = [
    f"{CLUSTER.name[:head]}*{CLUSTER.name[tail:]}"
    for head in range(len(CLUSTER.name) + 1)
    for tail in range(head, len(CLUSTER.name) + 1)
]
_MOST: Final = 10_000
_DECISIONS: Final = 60

_Entry = dict[str, Any]


async def measure_widest() -> float:
    """CPU time in milliseconds, of the costliest of all shapes of data."""
    return await asyncio.to_thread(lambda: max(map(_measure, _SHAPES)))


def _measure(shape: str) -> float:
    count, content = _find_widest(shape)
    document = encode(
        list_by(CALLER) if shape == "conditions where clusters are listed" else cancel_by(CALLER)
    )
    took_s = []
    with load_module() as module, closing(LoadedPolicy(module, build_policy(content))) as policy:
        for _ in range(_DECISIONS):
            began = time.thread_time()
            policy.evaluate(document, deadline_s=10)
            took_s.append(time.thread_time() - began)
    least_ms = 1000 * min(took_s)  # other work of the machine only adds to it
    print(f"policy_widest: {least_ms:.2f} ms with {count} {shape}", flush=True)
    return least_ms


@cache
def _find_widest(shape: str) -> tuple[int, Content]:
    """As many entries as the compiler takes."""
    make = _SHAPES[shape]
    least, most = 1, _MOST
    while least < most:
        middle = (least + most + 1) // 2
        try:
            compile_content(make(middle))
        except PolicyTooLarge:
            most = middle - 1
        else:
            least = middle
    return least, make(least)


def _make_grants(vary: Callable[[int], _Entry]) -> Callable[[int], Content]:
    return lambda count: _join([make_grant(f"g-{n}", **vary(n)) for n in range(count)])


def _join(grants: list[_Entry], **others: list[_Entry]) -> Content:
    return {"grants": grants, "denials": [], "freezes": [], **others}


def _make_freezes(count: int) -> Content:
    window = {"from": f"{NOW.year}-01-01T00:00:00Z", "until": f"{NOW.year + 1}-01-01T00:00:00Z"}
    freezes = [
        {"id": f"f-{n}", "clusters": ["prod-*"], "tags": {f"t{n}": ["x"]}, **window} for n in range(count)
    ]
    return _join([make_grant("g", groups=GROUPS[:1])], freezes=freezes)


def _make_denials(count: int) -> Content:
    denials = [
        {"id": f"d-{n}", "groups": [GROUPS[n % len(GROUPS)]], "reason": "Compromised."} for n in range(count)
    ]
    return _join([make_grant("g", groups=GROUPS[:1])], denials=denials)


def _vary_conditions(number: int) -> _Entry:
    return {"groups": GROUPS[:1], "tags": {"environment": ["production", f"e-{number}"]}}


def _fail_conditions(number: int) -> _Entry:
    return {"groups": GROUPS[:1], "tags": {"environment": [f"e-{number}"]}, "versions": ["1.2*"]}


_SHAPES: Final[dict[str, Callable[[int], Content]]] = {
    "groups": _make_grants(lambda n: {"groups": [GROUPS[n % len(GROUPS)]]}),
    "groups × cluster patterns": _make_grants(
        lambda n: {
            "groups": [GROUPS[n % len(GROUPS)]],
            "clusters": [PATTERNS[n // len(GROUPS) % len(PATTERNS)]],
        }
    ),
    "groups × cluster patterns, of which none is granted": _make_grants(
        lambda n: {
            "groups": [f"bench:other-{n}"],
            "clusters": [PATTERNS[n % len(PATTERNS)]],
        }
    ),
    "group patterns": _make_grants(lambda n: {"groups": [f"bench:*-{n}"]}),
    "group patterns that match": _make_grants(lambda n: {"groups": [f"bench:g{n}*", f"*g{n}"]}),
    "conditions that hold": _make_grants(_vary_conditions),
    "conditions that do not hold": _make_grants(_fail_conditions),
    "conditions where clusters are listed": _make_grants(_vary_conditions),
    "freezes": _make_freezes,
    "denials": _make_denials,
}


RATIOS: Final = (
    Ratio(
        "policy_widest", "the costliest decision that is admitted, CPU in ms", "at most", 2, 3, measure_widest
    ),
)
