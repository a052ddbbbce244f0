"""The table of error reasons in error_reason.proto and docs/clients.md, against the code."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from eksgateway import errors
from eksgateway.client.retries import Retries, Timing
from eksgateway.rpc.error_status import status_of

ROOT = Path(__file__).parents[2]
TABLE = {each["reason"]: each for each in json.loads((ROOT / "clients/testing/reasons.json").read_text())}
BY_CLASS = {error.__name__: reason for reason, error in errors.BY_REASON.items()}


def test_every_reason_is_in_the_table_and_its_retry_rule_is_a_known_one() -> None:
    assert set(TABLE) == set(errors.BY_REASON)
    assert {row["retry"] for row in TABLE.values()} == {"yes", "no", "with_new_token", "without_resume_token"}


@pytest.mark.parametrize("reason", TABLE)
def test_status_in_the_table_is_the_gateways(reason: str) -> None:
    status = status_of(errors.BY_REASON[reason]())
    assert TABLE[reason]["code"] == rpc_status.to_status(status).code.name


def given_pauses() -> set[str]:
    """The reasons of errors that some place in the gateway creates with ``retry_after``."""
    found = set()
    for path in (ROOT / "server" / "eksgateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and any(each.arg == "retry_after" for each in node.keywords):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
                found.add(BY_CLASS[name])
    return found


def test_pause_in_the_table_is_the_gateways() -> None:
    """An error has a RetryInfo always if its class has a default, and sometimes if a place gives one."""
    always = {reason for reason, error in errors.BY_REASON.items() if error.retry_s is not None}
    sometimes = given_pauses() - always
    assert sometimes
    assert {reason for reason, row in TABLE.items() if row["retry_info"] == "always"} == always
    assert {reason for reason, row in TABLE.items() if row["retry_info"] == "sometimes"} == sometimes


class Sleeps:
    def __init__(self) -> None:
        self.slept: list[float] = []
        self.timing = Timing(sleep=self._sleep, random=lambda: 1.0)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def error_of(reason: str, retry_after: float | None) -> grpc.aio.AioRpcError:
    status: Any = rpc_status.to_status(status_of(errors.BY_REASON[reason](retry_after=retry_after)))
    trailing = grpc.aio.Metadata(*status.trailing_metadata)
    return grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), trailing, details=status.details)


@pytest.mark.parametrize("reason", TABLE)
async def test_the_python_client_follows_the_table(reason: str) -> None:
    """It retries what the table retries, after RetryInfo plus a back-off of 0.5 s at first."""
    row, sleeps = TABLE[reason], Sleeps()
    pause = None if row["retry_info"] == "never" else 7.0
    tokens = iter(("first", "second", "third"))
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        retries = Retries(channel, lambda: next(tokens), sleeps.timing)
        await retries.metadata()
        if row["retry"] in ("no", "without_resume_token"):  # watch() itself drops a token that was refused
            with pytest.raises(grpc.aio.AioRpcError):
                await retries.wait_for_retry(error_of(reason, pause))
            assert sleeps.slept == []
            return
        await retries.wait_for_retry(error_of(reason, pause))
        assert sleeps.slept == [0.5 + (pause or 0.0)]
        assert (await retries.metadata())[0][1] == "Bearer second"
        if row["retry"] == "with_new_token":
            with pytest.raises(grpc.aio.AioRpcError):
                await retries.wait_for_retry(error_of(reason, pause))
        else:
            await retries.wait_for_retry(error_of(reason, pause))
            assert sleeps.slept[-1] == 1.0 + (pause or 0.0)
