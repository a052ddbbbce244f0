"""The bound of what matches together is never below what does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eksgateway.policy.compiler.overlaps import Targets, list_patterns, weigh_patterns
from eksgateway.policy.compiler.pattern_table import PatternTable
from eksgateway.policy.compiler.places import Places
from eksgateway.policy.patterns import matches

_TEXT = st.text("ab", max_size=3)
_PATTERNS = st.one_of(
    _TEXT,
    st.builds("{}*{}".format, _TEXT, _TEXT),
    st.builds("{}*{}*{}".format, _TEXT, st.sampled_from(["a", "b", "ab"]), _TEXT),
    st.builds("{}/**".format, _TEXT),
)
_VALUES = st.text("ab/", max_size=6)


@given(patterns=st.lists(_PATTERNS, max_size=12), value=_VALUES)
def test_the_heaviest_patterns_weigh_no_less_than_those_of_any_value(patterns: list[str], value: str) -> None:
    table = PatternTable()
    for number, pattern in enumerate(patterns):
        table.add(pattern, str(number))
    weights = {str(number): number + 1 for number in range(len(patterns))}
    bound = weigh_patterns(
        (pattern, sum(weights[name] for name in names)) for pattern, names in list_patterns(table.to_json())
    )
    matching = sum(number + 1 for number, pattern in enumerate(patterns) if matches(pattern, value))
    assert matching <= bound.weight


_LISTS = st.lists(st.sampled_from(["*", "1", "2"]), min_size=1, max_size=2, unique=True)


@given(
    entries=st.lists(
        st.tuples(_LISTS, _LISTS, st.lists(_PATTERNS, min_size=1, max_size=2, unique=True)), max_size=8
    ),
    account=st.sampled_from("123"),
    region=st.sampled_from("123"),
    cluster=_VALUES,
)
def test_the_heaviest_places_weigh_no_less_than_those_of_any_cluster(
    entries: list[tuple[list[str], list[str], list[str]]], account: str, region: str, cluster: str
) -> None:
    places = Places()
    matching: set[str] = set()
    for accounts, regions, clusters in entries:
        entry = {"id": "any", "accounts": accounts, "regions": regions, "clusters": clusters}
        name = places.add_place(entry)
        if {account, "*"} & {*accounts} and {region, "*"} & {*regions}:
            matching |= {name for pattern in clusters if matches(pattern, cluster)}
    tables = {name: table.to_json() for name, table in places.tables.items()}
    names = {name for table in tables.values() for _, found in list_patterns(table) for name in found}
    weights = {name: 2.0 ** int(name[1:]) for name in names}
    bound = Targets({**places.to_json(), "tables": tables}).weigh_places(weights)
    assert sum(weights[name] for name in matching) <= bound.weight
