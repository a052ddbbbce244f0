"""AWS credentials that cannot be obtained: the gateway serves, is not ready, and recovers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from support.gateway import ACCOUNT, REGION
from support.gateway_process import AWS, GatewayFolder, GatewayProcess, run_gateway_process
from support.simulator import SimulatedEks
from support.sts import Sts
from support.waiting import wait_until
from support.wire import PRODUCTION, expect_refusal

SERVING = health_pb2.HealthCheckResponse.SERVING
ROLE = f"arn:aws:iam::{ACCOUNT}:role/eksgateway"
OTHER = {"account_id": "444455556666", "region": REGION}


async def wait_for_log(served: GatewayProcess, event: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait for so many lines of an event. Lines are written after the event."""

    def lines() -> list[dict[str, Any]]:
        found = [line for line in served.lines if line["event"] == event]
        return found if len(found) >= count else []

    return await wait_until(lines)


async def test_missing_token_file_keeps_readiness_off(tmp_path: Path, eks: SimulatedEks, moto: str) -> None:
    """Until the file exists; no call is needed for that."""
    token = tmp_path / "token"
    web_identity = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL_STS": moto,
        "AWS_ROLE_ARN": ROLE,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
    }
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    async with run_gateway_process(GatewayFolder(tmp_path, eks.url), env=AWS | web_identity) as served:
        await wait_for_log(served, "health.readiness")
        assert not await served.is_ready()
        assert (await wait_for_log(served, "health.readiness"))[-1]["faults"] == {
            "credentials": "UPSTREAM_CREDENTIALS"
        }
        refusal = await expect_refusal(served.cancel("prod-1", update_id))
        assert refusal.status_and_reason == ("INTERNAL", "UPSTREAM_CREDENTIALS")
        assert str(token).encode() not in refusal.raw
        (failed,) = await wait_for_log(served, "eks.credentials_failed")
        assert failed["AWS_WEB_IDENTITY_TOKEN_FILE"] == str(token)
        assert "FileNotFoundError" in failed["detail"]
        (target,) = await wait_for_log(served, "eks.target")
        assert (target["account"], target["endpoint"]) == (ACCOUNT, eks.url)
        assert "FileNotFoundError" in target["fault"]
        token.write_text("a-token-of-the-cluster")
        await served.wait_for_readiness()
        assert (await served.cancel("prod-1", update_id)).update.status == "Cancelling"


async def test_only_the_home_targets_role_affects_readiness(
    tmp_path: Path, eks: SimulatedEks, moto: str
) -> None:
    async with Sts(moto, eks.simulator.control.accounts) as home, Sts(moto, home.accounts) as other:
        url = {"endpoint_url": eks.url}
        role = f"arn:aws:iam::{OTHER['account_id']}:role/eksgateway"
        targets = [
            {"account_id": ACCOUNT, "region": REGION, "role_arn": ROLE, "sts_endpoint_url": home.url} | url,
            OTHER | {"role_arn": role, "sts_endpoint_url": other.url} | url,
        ]
        home.fault = other.fault = (403, "AccessDenied")
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        async with run_gateway_process(GatewayFolder(tmp_path, eks.url, eks={"targets": targets})) as served:
            await wait_for_log(served, "health.readiness")
            assert not await served.is_ready()
            home.fault = None
            await served.wait_for_readiness()
            assert (await served.cancel("prod-1", update_id)).update.status == "Cancelling"
            first, second = await wait_for_log(served, "eks.target", 2)
            assert (first["role"], first["credentials"]) == (ROLE, "env")
            assert "AccessDenied" in first["fault"]
            assert (second["role"], second["account"]) == (role, OTHER["account_id"])
            assert other.requests == []
            assert await served.end() == 0


async def test_start_logs_the_credentials_of_each_target(
    tmp_path: Path, eks: SimulatedEks, moto: str
) -> None:
    """Endpoint, source of the credentials, and the role's session."""
    async with Sts(moto, eks.simulator.control.accounts) as sts:
        target = {"account_id": ACCOUNT, "region": REGION, "role_arn": ROLE, "sts_endpoint_url": sts.url}
        place = GatewayFolder(tmp_path, eks.url, eks={"targets": [target | {"endpoint_url": eks.url}]})
        async with run_gateway_process(place) as served:
            await served.wait_for_readiness()
            (line,) = await wait_for_log(served, "eks.target")
            assert line["endpoint"] == eks.url
            assert line["credentials"] == "env"
            assert line["session"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/eksgateway/eksgateway"
            assert "fault" not in line
            assert "simulated" not in served.program.err


async def test_wrong_clock_is_reported_as_such(tmp_path: Path, eks: SimulatedEks) -> None:
    """In the error and in the log, not as bad credentials."""
    eks.cluster("prod-1", tags=PRODUCTION)
    async with run_gateway_process(GatewayFolder(tmp_path, eks.url)) as served:
        await served.wait_for_readiness()
        eks.fault("*", times=9, code="RequestTimeTooSkewed", status=403)
        refusal = await expect_refusal(served.cancel("prod-1", "an-update"))
        assert refusal.status_and_reason == (grpc.StatusCode.INTERNAL.name, "UPSTREAM_CREDENTIALS")
        assert "clock is wrong" in refusal.message
        assert "clock is wrong" in (await wait_for_log(served, "rpc.error"))[-1]["detail"]
