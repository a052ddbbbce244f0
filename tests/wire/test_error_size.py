"""The largest errors, on the wire and through a real nginx with its default buffers."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from eksgateway.client import ErrorDetails
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.fake_opa import make_result, run_fake_opa
from support.gateway import Client, RunningGateway, run_gateway
from support.nginx import run_nginx
from support.raw_http2 import connect_http2, frame_message
from support.simulator import SimulatedEks

CANCEL = "/eksgateway.v1.UpdateService/CancelUpdate"
WATCH = "/eksgateway.v1.UpdateService/WatchUpdate"
MOST_BYTES = 3072
DENIED = {
    "allow": False,
    "reasons": [f"Störung {number}: 障害 {'x' * 100}" for number in range(100)],
    "rules": [f"rule-{number}-{'y' * 80}" for number in range(100)],
    "obligations": [],
}
WORDS = {"ASCII": "w" * 500, "CJK": "障" * 500, "emoji": "🙂" * 500, "percent": "%" * 500}


def cancel(update_id: str = "u", **fields: Any) -> pb.CancelUpdateRequest:
    return pb.CancelUpdateRequest(cluster=ClusterRef(name="prod-1"), update_id=update_id, **fields)


@asynccontextmanager
async def run_refusing_gateway(
    path: Path, eks: SimulatedEks, what: str
) -> AsyncIterator[tuple[RunningGateway, Any]]:
    """A gateway and a cancel that fails with a large error."""
    if what == "denial":
        async with run_fake_opa() as (fake, engine), run_gateway(path, eks, policy=engine) as gateway:
            fake.decide = lambda _: make_result(DENIED)
            yield gateway, cancel(request_id="r" * 64)
    elif what == "violations":
        async with run_fake_opa() as (_, engine), run_gateway(path, eks, policy=engine) as gateway:
            bad = ClusterRef(name="/", account_id="x", region="R" * 500)
            texts: Any = {"request_id": "/", "reason": "\n", "ticket": "\n"}
            yield gateway, pb.CancelUpdateRequest(cluster=bad, update_id="/", **texts)
    else:
        async with run_gateway(path, eks) as gateway:
            update_id = eks.rollback("prod-1", tags={"environment": "production"}, update_id="u" * 64)
            eks.fault("CancelUpdate", code="InvalidStateException", message=WORDS[what])
            yield gateway, cancel(update_id, request_id="r" * 64, reason="why", ticket="T-1")


def size(trailers: dict[str, str]) -> int:
    """The size that proxies count at least: names and values, binary ones in base64."""
    binary = {key: len(value) * 4 // 3 + 4 for key, value in trailers.items() if key.endswith("-bin")}
    return sum(len(key) + binary.get(key, len(value)) for key, value in trailers.items())


@pytest.mark.parametrize("what", ["denial", "violations", *WORDS])
async def test_trailers_stay_below_three_kilobytes(tmp_path: Path, eks: SimulatedEks, what: str) -> None:
    """Base64 and percent-encoding included."""
    async with (
        run_refusing_gateway(tmp_path, eks, what) as (gateway, request),
        connect_http2(gateway.address) as http,
    ):
        body = frame_message(request.SerializeToString())
        token = dict(gateway.oncall)["authorization"]
        answer = await http.answer(http.send(CANCEL, body, authorization=token))
    assert answer.status != "0"
    assert answer.reason
    assert size(answer.headers | answer.trailers) <= MOST_BYTES
    assert 400 < answer.blocks[-1] <= MOST_BYTES


@pytest.mark.skipif(sys.platform != "linux", reason="nginx comes as a package for Linux")
@pytest.mark.parametrize("what", ["denial", "CJK"])
async def test_largest_refusal_passes_nginx(tmp_path: Path, eks: SimulatedEks, what: str) -> None:
    """nginx would answer 502 in its place."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            run_refusing_gateway(tmp_path, eks, what) as (gateway, request),
            run_nginx(Path(folder), gateway.address) as address,
        ):
            there = Client(address, gateway.issuer)
            try:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await there.updates.CancelUpdate(request, metadata=there.oncall, timeout=30)
            finally:
                await there.channel.close()
    told = ErrorDetails.of(caught.value)
    assert told.reason == {"denial": "POLICY_DENIED", "CJK": "EKS_INVALID_STATE"}[what]
    if what == "denial":
        reasons = told.metadata["reasons"].split("\n")
        assert len(reasons) > 3
        assert len(reasons) + int(told.metadata["reasons_left_out"]) == len(DENIED["reasons"])  # type: ignore[arg-type]
