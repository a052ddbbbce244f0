"""An interval is cut into few years, months and days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksgateway.policy.compiler.intervals import cut_interval
from eksgateway.policy.question import utc_seconds

CUTS = {
    "a day": ("2027-03-08T00:00:00Z", "2027-03-09T00:00:00Z", ["2027-03-08"]),
    "a second of two days": ("2027-03-08T23:59:59Z", "2027-03-09T00:00:01Z", ["2027-03-08", "2027-03-09"]),
    "a month": ("2027-02-01T00:00:00Z", "2027-03-01T00:00:00Z", ["2027-02"]),
    "a year and a day": ("2027-12-31T12:00:00Z", "2029-01-01T00:00:00Z", ["2027-12-31", "2028"]),
    "the end of time": ("9999-12-31T00:00:00Z", "9999-12-31T23:59:59Z", ["9999-12-31"]),
    "until the end of time": (
        "2098-06-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        [*(f"2098-{month:02}" for month in range(6, 13)), "2099", *map(str, range(21, 100))],
    ),
    "all time": ("0001-01-01T00:00:00Z", "0003-01-01T00:00:00Z", ["0001", "0002"]),
}


@pytest.mark.parametrize(("begins", "ends", "expected"), CUTS.values(), ids=CUTS)
def test_an_interval_is_cut_into_whole_centuries_years_months_and_days(
    begins: str, ends: str, expected: list[str]
) -> None:
    assert cut_interval(begins, ends) == expected


_TIMES = st.datetimes(datetime(2027, 1, 1), datetime(2030, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))  # noqa: DTZ001 - hypothesis takes naive ones


@given(first=_TIMES, second=_TIMES, share=st.floats(0, 1))
def test_each_time_of_an_interval_is_in_one_cut(first: datetime, second: datetime, share: float) -> None:
    """And there are few: less than two months of days, two years of months."""
    begins, ends = min(first, second), max(first, second) + timedelta(seconds=1)
    cuts = cut_interval(utc_seconds(begins), utc_seconds(ends))
    within = utc_seconds(begins + (ends - timedelta(seconds=1) - begins) * share)
    assert sum(within.startswith(cut) for cut in cuts) == 1
    assert len(set(cuts)) == len(cuts) <= 2 * 30 + 2 * 11 + 3
