"""Which errors another attempt may mend, and how long a client rests before it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import grpc
import pytest
from grpc_status import rpc_status

from eksgateway import errors
from eksgateway.client.attempts import Attempts, Credentials, Said, Timing
from eksgateway.rpc.interceptors.errors import status_of

LEAVES = sorted(errors.BY_REASON.items())
MENDED = {
    *("DECISION_STALE", "DRAINING", "EKS_THROTTLED", "EKS_UNAVAILABLE", "IDENTITY_UNAVAILABLE"),
    *("LEDGER_UNAVAILABLE", "OUTCOME_UNKNOWN", "OUTCOME_UNRECORDED", "OVERLOADED", "POLICY_UNAVAILABLE"),
    *("POLICY_UNDEFINED", "WATCHER_TOO_SLOW"),
}


def error_of(error: errors.GatewayError) -> grpc.aio.AioRpcError:
    """The error as a client gets it."""
    status = rpc_status.to_status(status_of(error))
    return grpc.aio.AioRpcError(
        status.code, grpc.aio.Metadata(), grpc.aio.Metadata(*status.trailing_metadata), details=status.details
    )


def broken(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    """An error that says nothing of the gateway's."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="made on the way")


class Waits:
    """The rests that were taken, with chance at its highest, or at ``chance``."""

    def __init__(self, chance: float = 1.0) -> None:
        self.taken: list[float] = []
        self.timing = Timing(sleep=self._sleep, random=lambda: chance)

    async def _sleep(self, seconds: float) -> None:
        self.taken.append(seconds)


@pytest.mark.parametrize(("reason", "kind"), LEAVES, ids=[reason for reason, _ in LEAVES])
def test_every_error_of_the_gateway(reason: str, kind: type[errors.GatewayError]) -> None:
    """Another attempt is made when time may mend it, and not otherwise."""
    retry = 1.0 if reason == "EKS_THROTTLED" else None  # the adapter always says when
    said = Said.by(error_of(kind(retry_after=retry)))
    assert (said.reason, said.passes) == (reason, reason in MENDED)


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_errors_made_on_the_way(code: grpc.StatusCode) -> None:
    """Broken connections pass; what a proxy refuses does not."""
    passing = ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED")
    assert Said.by(broken(code)).passes is (code.name in passing)


def test_details_beside_another_status() -> None:
    """What contradicts its own details counts as what its status says."""
    other = error_of(errors.PolicyDenied())
    mangled = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), other.trailing_metadata(), details="upstream reset"
    )
    assert Said.by(mangled) == Said(grpc.StatusCode.UNAVAILABLE)


async def test_the_rests_double_up_to_the_longest() -> None:
    """Anything from nothing to a bound that doubles, and begins anew after a message."""
    waits = Waits()
    attempts = Attempts(None, waits.timing)
    for _ in range(8):
        await attempts.failed(broken(grpc.StatusCode.UNAVAILABLE))
    assert waits.taken == [0.5, 1, 2, 4, 8, 16, 30, 30]
    attempts.succeeded()
    await attempts.failed(None)
    assert waits.taken[-1] == 0.5


async def test_the_jitter_is_full() -> None:
    """Chance may make it nothing: clients that lost one gateway together do not come back together."""
    waits = Waits(chance=0)
    await Attempts(None, waits.timing).failed(None)
    assert waits.taken == [0]


async def test_years_without_a_gateway() -> None:
    """No number becomes too large."""
    waits = Waits()
    attempts = Attempts(None, waits.timing)
    attempts.failures = 10_000_000
    await attempts.failed(None)
    assert waits.taken == [30]


async def test_what_the_gateway_asks_for_comes_on_top() -> None:
    """Nobody is back before the time it names, and not everybody right at it."""
    waits = Waits()
    await Attempts(None, waits.timing).failed(error_of(errors.Draining(retry_after=7.5)))
    assert waits.taken == [8.0]


async def test_new_credentials_are_asked_for_once() -> None:
    """A token may expire on the way; one that is refused again is of no use, until something worked."""
    waits, refusal = Waits(), error_of(errors.CredentialsExpired())
    attempts = Attempts(lambda: "token", waits.timing)
    await attempts.failed(refusal)
    with pytest.raises(grpc.aio.AioRpcError):
        await attempts.failed(refusal)
    attempts.succeeded()
    await attempts.failed(refusal)
    assert len(waits.taken) == 2


async def test_without_credentials_there_are_no_new_ones() -> None:
    """The first refusal is the last."""
    with pytest.raises(grpc.aio.AioRpcError):
        await Attempts(None, Waits().timing).failed(error_of(errors.CredentialsMissing()))


def _later(token: str) -> Awaitable[str]:
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    done.set_result(token)
    return done


@pytest.mark.parametrize(
    ("credentials", "metadata"),
    [
        pytest.param(None, (), id="none"),
        pytest.param(lambda: "abc", (("authorization", "Bearer abc"),), id="a function"),
        pytest.param(lambda: _later("abc"), (("authorization", "Bearer abc"),), id="one that waits"),
        pytest.param(lambda: "abc\n", (("authorization", "Bearer abc"),), id="the line of a file"),
    ],
)
async def test_credentials(credentials: Credentials | None, metadata: tuple[tuple[str, str], ...]) -> None:
    """They are asked each time, at once or with patience."""
    assert await Attempts(credentials, Timing()).metadata() == metadata
