"""`eksgateway policy check`: prints what the policy's own check of the operators' data finds."""

from __future__ import annotations

from pathlib import Path

from eksgateway.policy.data import PolicyDataError, describe, load_data


def check_data(file: Path) -> int:
    """The exit code: 0 for data that a gateway would put in force."""
    try:
        data = load_data(file)
    except PolicyDataError as exc:
        print(exc)
        return 1
    print(f"{file}: good: {describe(data)}")
    return 0
