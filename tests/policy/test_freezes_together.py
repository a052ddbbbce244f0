"""As many freezes are accepted as one decision can look at, which are those that can be in force together."""

from __future__ import annotations

from typing import Any

import pytest

from eksgateway.policy.compiler import compile_content
from eksgateway.policy.engine import PolicyTooLarge

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
COUNT = 500


def at_one_hour(_: int) -> dict[str, Any]:
    return {"windows": [{"from": "18:00", "until": "06:00", "zone": "Europe/Berlin"}]}


def at_different_hours(number: int) -> dict[str, Any]:
    hour = number % 22
    times = {"from": f"{hour:02}:15", "until": f"{hour:02}:45"}
    return {"windows": [{"days": [DAYS[number % 7]], "zone": "America/New_York", **times}]}


def in_one_month(number: int) -> dict[str, Any]:
    return {"from": f"2026-12-01T00:00:{number % 60:02}Z", "until": "2026-12-31T00:00:00Z"}


def on_different_days(number: int) -> dict[str, Any]:
    day = f"2026-{number % 12 + 1:02}-{number % 28 + 1:02}"
    return {"from": f"{day}T00:00:00Z", "until": f"{day}T12:00:00Z"}


def in_windows_of_one_month(number: int) -> dict[str, Any]:
    return in_one_month(number) | at_one_hour(number)


def in_windows_of_different_days(number: int) -> dict[str, Any]:
    return on_different_days(number) | at_one_hour(number)


def compile_freezes(time: Any) -> None:
    freezes = [{"id": f"f{number}", "clusters": ["prod-*"], **time(number)} for number in range(COUNT)]
    compile_content({"grants": [], "denials": [], "freezes": freezes})


@pytest.mark.parametrize("time", [at_different_hours, on_different_days, in_windows_of_different_days])
def test_freezes_of_different_times_are_accepted(time: Any) -> None:
    compile_freezes(time)


@pytest.mark.parametrize("time", [at_one_hour, in_one_month, in_windows_of_one_month])
def test_too_many_freezes_of_one_time_are_refused(time: Any) -> None:
    with pytest.raises(PolicyTooLarge, match=r"for the freezes that apply together, with 'prod-\*'"):
        compile_freezes(time)
