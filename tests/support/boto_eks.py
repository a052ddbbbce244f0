"""Credentials and a clock for tests of the EKS adapter."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import boto3

from eksgateway.clock import Timer
from eksgateway.eks.adapter import BotoEks
from eksgateway.model import Caller

ACCOUNT, REGION = "111122223333", "us-east-1"
CALLER = Caller("jwt", "jwt:test:oncall", "https://idp.test.example")

MakeEks = Callable[..., BotoEks]


class SkippingClock:
    """Implements ``eksgateway.clock.Clock``: the machine's, set ahead from any thread.

    ``wall_ahead`` sets the wall clock alone.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        self.wall_ahead = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead + self.wall_ahead)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"the adapter never sleeps on the loop: {seconds}")

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:  # noqa: ARG002
        raise AssertionError(f"the adapter has no timers on the loop: {seconds}")


def session(account_id: str = ACCOUNT, token: str | None = None) -> boto3.Session:
    """A session with credentials of this account at the simulated EKS."""
    return boto3.Session(
        aws_access_key_id=f"AKIA{account_id}",
        aws_secret_access_key="simulated",
        aws_session_token=token,
        region_name=REGION,
    )
