"""Which errors another attempt may mend, and how long a client rests before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
from grpc_status import rpc_status

from eksgateway import errors
from eksgateway.client.addresses import AddressFault
from eksgateway.client.errors import ErrorDetails
from eksgateway.client.retries import Credentials, Retries, Timing, is_retryable
from eksgateway.rpc.error_status import status_of
from support.clock import FakeClock

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


def broken(code: grpc.StatusCode, details: str = "made on the way") -> grpc.aio.AioRpcError:
    """An error that says nothing of the gateway's."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


class Waits:
    """The rests that were taken, with chance at its highest, or at ``chance``; they take no time."""

    def __init__(self, chance: float = 1.0) -> None:
        self.taken: list[float] = []
        self.clock = FakeClock()
        self.timing = Timing(sleep=self._sleep, random=lambda: chance, monotonic=self.clock.monotonic)

    async def _sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        await self.clock.advance(seconds)


Make = Callable[..., Retries]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes attempts over a channel that has not connected."""
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        yield lambda timing, credentials=None, **more: Retries(channel, credentials, timing, **more)


@pytest.mark.parametrize(("reason", "kind"), LEAVES, ids=[reason for reason, _ in LEAVES])
async def test_errors_of_the_gateway(make: Make, reason: str, kind: type[errors.GatewayError]) -> None:
    """Another attempt follows when time may mend the error, and not otherwise."""
    retry = 1.0 if reason == "EKS_THROTTLED" else None  # the adapter always sets one
    error = error_of(kind(retry_after=retry))
    assert ErrorDetails.of(error).reason == reason
    assert is_retryable(ErrorDetails.of(error)) is (reason in MENDED)
    retries = make(Waits().timing)
    if reason in MENDED:
        await retries.wait_for_retry(error)
    else:
        with pytest.raises(grpc.aio.AioRpcError):
            await retries.wait_for_retry(error)


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
async def test_errors_made_on_the_way(make: Make, code: grpc.StatusCode) -> None:
    """A broken connection is tried again; what a proxy refuses is not."""
    retries = make(Waits().timing)
    if code.name in ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"):
        await retries.wait_for_retry(broken(code))
    else:
        with pytest.raises(grpc.aio.AioRpcError):
            await retries.wait_for_retry(broken(code))


async def test_a_reason_of_a_newer_gateway_counts_by_its_status(make: Make) -> None:
    class TooNew(errors.Unavailable):
        reason = "TOO_NEW"

    class TooNewToo(errors.FailedPrecondition):
        reason = "TOO_NEW_TOO"

    retries = make(Waits().timing)
    await retries.wait_for_retry(error_of(TooNew("one")))
    with pytest.raises(grpc.aio.AioRpcError):
        await retries.wait_for_retry(error_of(TooNewToo("two")))


async def test_the_rests_double_up_to_the_longest(make: Make) -> None:
    """Anything from nothing to a bound that doubles, and begins anew after a message."""
    waits = Waits()
    retries = make(waits.timing)
    for _ in range(8):
        await retries.wait_for_retry(broken(grpc.StatusCode.UNAVAILABLE))
    assert waits.taken == [0.5, 1, 2, 4, 8, 16, 30, 30]
    retries.record_success()
    await retries.wait_for_retry(None)
    assert waits.taken[-1] == 0.5


async def test_the_jitter_is_full(make: Make) -> None:
    """Chance may make it nothing: clients that lost one gateway together do not come back together."""
    waits = Waits(chance=0)
    await make(waits.timing).wait_for_retry(None)
    assert waits.taken == [0]


async def test_the_doubling_has_an_end(make: Make) -> None:
    """No number becomes too large."""
    waits = Waits(chance=0.5)
    retries = make(waits.timing)
    for _ in range(2000):
        await retries.wait_for_retry(broken(grpc.StatusCode.UNAVAILABLE))
    assert waits.taken[-1] == 15


async def test_the_time_that_the_gateway_asks_for_comes_first(make: Make) -> None:
    """No attempt comes before the time that it names, and not all come right at it."""
    waits = Waits()
    await make(waits.timing).wait_for_retry(error_of(errors.Draining(retry_after=7.5)))
    assert waits.taken == [8.0]


async def test_attempts_end_with_the_timeout(make: Make) -> None:
    """The rests are cut so that a last attempt of a second fits in; its error is raised."""
    waits = Waits()
    retries = make(waits.timing, timeout=20)
    for _ in range(6):
        await retries.wait_for_retry(broken(grpc.StatusCode.UNAVAILABLE))
    with pytest.raises(grpc.aio.AioRpcError):
        await retries.wait_for_retry(broken(grpc.StatusCode.UNAVAILABLE))
    assert waits.taken == [0.5, 1, 2, 4, 8, pytest.approx(3.5)]


async def test_a_time_beyond_the_timeout_is_not_waited_for(make: Make) -> None:
    """The error is raised at once: no attempt would fit in after it."""
    waits = Waits()
    with pytest.raises(grpc.aio.AioRpcError):
        await make(waits.timing, timeout=20).wait_for_retry(error_of(errors.Overloaded(retry_after=19.5)))
    assert waits.taken == []


async def test_a_token_that_has_expired_is_replaced_once(make: Make) -> None:
    """Until something worked: a new one that has expired too is the last."""
    waits, refusal = Waits(), error_of(errors.CredentialsExpired())
    tokens = iter(["first", "second", "third", "fourth", "fifth"])
    retries = make(waits.timing, lambda: next(tokens))
    assert await retries.metadata() == (("authorization", "Bearer first"),)
    await retries.wait_for_retry(refusal)
    assert await retries.metadata() == (("authorization", "Bearer second"),)
    with pytest.raises(grpc.aio.AioRpcError):
        await retries.wait_for_retry(refusal)
    retries.record_success()
    assert await retries.metadata() == (("authorization", "Bearer third"),)
    await retries.wait_for_retry(refusal)
    assert len(waits.taken) == 2


@pytest.mark.parametrize("kind", [errors.CredentialsExpired, errors.CredentialsInvalid])
async def test_the_same_credentials_are_not_tried_twice(make: Make, kind: type[errors.GatewayError]) -> None:
    retries = make(Waits().timing, lambda: "always this")
    await retries.metadata()
    with pytest.raises(grpc.aio.AioRpcError):
        await retries.wait_for_retry(error_of(kind()))


async def test_without_credentials_there_are_no_new_ones(make: Make) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await make(Waits().timing).wait_for_retry(error_of(errors.CredentialsMissing()))


FAULTS = {
    "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED": "no CA in this",
    "errors resolving nowhere.invalid:1: [hostname lookup error]": "name is not known",
    "failed to connect; last error: Socket closed": "found by looking",
}


@pytest.mark.parametrize("details", FAULTS, ids=["tls", "name", "looking"])
async def test_a_wrong_address_ends_the_attempts(make: Make, details: str) -> None:
    """After a few, with a note that says what to correct."""
    waits = Waits()
    retries = make(waits.timing, find_fault=_found)
    error = broken(grpc.StatusCode.UNAVAILABLE, details)
    await retries.wait_for_retry(error)
    await retries.wait_for_retry(error)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await retries.wait_for_retry(error)
    assert FAULTS[details] in raised.value.__notes__[0]


@pytest.mark.parametrize("details", FAULTS, ids=["tls", "name", "looking"])
async def test_an_address_that_was_right_before_is_tried_on(make: Make, details: str) -> None:
    """A name or a certificate may be missing for a while, as in a restart."""
    retries = make(Waits().timing, find_fault=_found)
    retries.record_success()
    for _ in range(100):
        await retries.wait_for_retry(broken(grpc.StatusCode.UNAVAILABLE, details))


async def _found() -> AddressFault:
    return AddressFault("found by looking", certain=True)


async def test_a_fault_that_may_be_a_gateway_that_is_away_ends_the_attempts_later(make: Make) -> None:
    async def guess() -> AddressFault:
        return AddressFault("may be it", certain=False)

    retries = make(Waits().timing, find_fault=guess)
    for _ in range(6):
        await retries.wait_for_retry(broken(grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    with pytest.raises(grpc.aio.AioRpcError):
        await retries.wait_for_retry(broken(grpc.StatusCode.UNAVAILABLE, "Socket closed"))


async def test_a_gateway_that_is_away_is_tried_on(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Without end; the log hints once that the address may be wrong, if no gateway has ever answered."""
    for reached, hints in ((False, 1), (True, 0)):
        caplog.clear()
        retries = make(Waits().timing, find_fault=_found)
        if reached:
            retries.record_success()
        for _ in range(100):
            await retries.wait_for_retry(
                broken(grpc.StatusCode.UNAVAILABLE, "Failed to connect: Connection refused")
            )
        assert [each.levelname for each in caplog.records].count("WARNING") == hints


@pytest.mark.parametrize("token", ["t\u00f6ken", "two\nlines", "nul\0"])
async def test_credentials_that_cannot_be_sent(make: Make, token: str) -> None:
    """grpc's own error would be about a batch of operations."""
    with pytest.raises(ValueError, match="no bearer token"):
        await make(Timing(), lambda: token).metadata()


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
async def test_credentials(
    make: Make, credentials: Credentials | None, metadata: tuple[tuple[str, str], ...]
) -> None:
    """They are asked each time, at once or with patience."""
    assert await make(Timing(), credentials).metadata() == metadata
