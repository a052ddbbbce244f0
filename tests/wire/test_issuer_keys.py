"""Issuers' keys under a running gateway: hanging files, readiness, withdrawn keys."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.authority import replace
from support.gateway import Client, run_gateway
from support.gateway_process import GatewayFolder, run_gateway_process
from support.hanging_file import hang_reads
from support.jwks_server import JwksAnswer, JwksServer
from support.logs import capture_logs
from support.simulator import SimulatedEks
from support.tokens import Idp, rsa_key
from support.waiting import wait_until
from support.wire import expect_refusal

CORP = Idp()


def trust(place: str | Path) -> dict[str, Any]:
    """The section of settings that trusts CORP."""
    return {"jwt": {"issuers": [CORP.settings(place).model_dump(mode="json")]}}


async def read_reason(gateway: Client, idp: Idp, key: str = "rsa", **header: Any) -> str:
    """The reason of a call's error with a token of this issuer; POLICY_DENIED if the token is valid."""
    token = idp.token(datetime.now(UTC), header, key)
    request = pb.GetUpdateRequest(cluster=ClusterRef(name="staging-1"), update_id="u")
    metadata = (("authorization", f"Bearer {token}"),)
    call = gateway.updates.GetUpdate(request, metadata=metadata, timeout=20)
    return (await expect_refusal(call)).reason


async def wait_for_reason(gateway: Client, idp: Idp, wanted: str, key: str) -> None:
    """Call with a token of this key until the error has this reason."""
    async with asyncio.timeout(30):
        while await read_reason(gateway, idp, key) != wanted:  # noqa: ASYNC110  the answer comes over the wire
            await asyncio.sleep(0.05)


def causes(logged: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(line["issuer"], line["cause"]) for line in logged if line["event"] == "identity.jwks_failed"]


async def test_hanging_key_file_delays_no_call(tmp_path: Path, eks: SimulatedEks) -> None:
    """The file is followed again afterwards."""
    path = tmp_path / "corp.json"
    path.write_bytes(CORP.jwks())
    new = Idp()
    new.keys["new"] = rsa_key("new")
    async with run_gateway(tmp_path, eks, identity=trust(path)) as gateway:
        assert await read_reason(gateway, CORP) == "POLICY_DENIED"
        with hang_reads(path):
            strangers = [asyncio.create_task(read_reason(gateway, CORP, kid=f"k-{n}")) for n in range(20)]
            for _ in range(20):
                assert await read_reason(gateway, CORP) == "POLICY_DENIED"
                assert await gateway.is_ready()
            assert set(await asyncio.gather(*strangers)) == {"CREDENTIALS_INVALID"}
        path.write_bytes(new.jwks())
        await wait_for_reason(gateway, new, "POLICY_DENIED", "new")


async def test_gateway_with_a_hanging_key_file_is_not_ready_and_stops(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    place = GatewayFolder(tmp_path, eks.url)
    with hang_reads(tmp_path / "jwks.json"):
        async with run_gateway_process(place) as served:
            assert not await served.is_ready()
            assert await served.end() == 0


async def test_readiness_waits_for_the_keys_of_each_issuer(tmp_path: Path, eks: SimulatedEks) -> None:
    """The log names issuer and cause; a later outage leaves the gateway ready."""
    path = tmp_path / "corp.json"
    with capture_logs() as logged:
        async with run_gateway(tmp_path, eks, identity=trust(path)) as gateway:
            await wait_until(lambda: gateway.gateway.health.faults == {"identity": "IDENTITY_UNAVAILABLE"})
            assert not await gateway.is_ready()
            path.write_bytes(CORP.jwks())
            await wait_until(lambda: gateway.gateway.health.faults == {})
            assert await gateway.is_ready()
            path.unlink()
            await wait_until(lambda: len(causes(logged)) == 2)
            assert await gateway.is_ready()
            assert await read_reason(gateway, CORP) == "POLICY_DENIED"
    assert causes(logged) == [("corp", f"{path}: No such file or directory")] * 2


async def test_sighup_withdraws_a_removed_key(tmp_path: Path, eks: SimulatedEks) -> None:
    """Also for tokens that were verified before, within the cool-down."""
    corp = Idp()
    async with JwksServer.running(corp.jwks()) as issuer:
        place = GatewayFolder(tmp_path, eks.url, identity=trust(issuer.url))
        async with run_gateway_process(place) as served:
            assert await read_reason(served, corp) == "POLICY_DENIED"
            left = Idp()
            del left.keys["rsa"]
            issuer.answer = JwksAnswer(left.jwks())
            assert await read_reason(served, corp) == "POLICY_DENIED"
            served.process.send_signal(signal.SIGHUP)
            await wait_for_reason(served, corp, "CREDENTIALS_INVALID", "rsa")
            assert await read_reason(served, corp, "ec") == "POLICY_DENIED"
            assert await served.end() == 0


async def test_key_removed_from_a_file_is_withdrawn_within_seconds(tmp_path: Path, eks: SimulatedEks) -> None:
    path, left = tmp_path / "corp.json", Idp()
    path.write_bytes(CORP.jwks())
    del left.keys["rsa"]
    async with run_gateway(tmp_path, eks, identity=trust(path)) as gateway:
        assert await read_reason(gateway, CORP) == "POLICY_DENIED"
        replace(path, left.jwks())
        await wait_for_reason(gateway, CORP, "CREDENTIALS_INVALID", "rsa")
        assert await read_reason(gateway, CORP, "ec") == "POLICY_DENIED"
