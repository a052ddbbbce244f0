"""The parts of zones are those of tzdata, in every zone."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from eksgateway.policy.compiler.zones import (
    FIRST_YEAR,
    LAST_YEAR,
    RANGE_BEGINS,
    RANGE_ENDS,
    compile_zone,
    zone_names,
    zone_parts,
)
from support.wall_clock import load_zone, utc


def test_names_are_those_of_iana() -> None:
    assert {"Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires", "US/Eastern"} <= zone_names()
    assert not {"", "Berlin", "Factory", "europe/berlin", "../zones", "zone.tab"} & zone_names()


@pytest.mark.parametrize("name", ["Mars/Olympus", "../zones", "Europe", "/etc/localtime"])
def test_names_that_are_not_of_iana_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no IANA zone"):
        zone_parts(name)


def test_parts_have_no_gap_and_two_offsets_only_around_a_change() -> None:
    """In every zone; two changes are further apart than their shifts."""
    for name in sorted(zone_names()):
        parts = zone_parts(name)
        assert (parts[0].begins, parts[-1].ends) == (RANGE_BEGINS, RANGE_ENDS)
        for before, after in pairwise(parts):
            assert before.ends == after.begins
            assert (before.low == before.high) != (after.low == after.high), name
        for part in parts:
            assert part.low == part.high or part.ends - part.begins == 2 * (part.high - part.low), name


def test_no_change_is_missed() -> None:
    """As two within a week would be, which the search compares with the next."""
    for name in sorted(zone_names())[::12]:
        zone = load_zone(name)
        for part in zone_parts(name):
            for begins in range(part.begins, part.ends, 86_400):
                offset = datetime.fromtimestamp(begins, zone).utcoffset() or timedelta()
                assert part.low <= offset.total_seconds() <= part.high, name


def test_years_are_cut_at_their_ends() -> None:
    years = compile_zone("Europe/Berlin")
    assert list(years) == [str(year) for year in range(FIRST_YEAR, LAST_YEAR + 1)]
    for year, parts in years.items():
        assert parts[0]["from"] == utc(f"{year}-01-01T00:00:00").timestamp()
        assert parts[-1]["until"] == utc(f"{int(year) + 1}-01-01T00:00:00").timestamp()
        assert [(part["low"], part["high"]) for part in parts] == [
            (3600, 3600),
            (3600, 7200),
            (7200, 7200),
            (3600, 7200),
            (3600, 3600),
        ]
