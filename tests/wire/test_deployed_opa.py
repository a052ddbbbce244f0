"""A gateway beside an OPA that docs/opa.md describes: readiness, calls and open streams follow its bundle."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

from eksgateway.clock import SystemClock
from eksgateway.policy.factory import open_policy_engine
from eksgateway.settings import OpaPolicySettings, OpaSettings
from support.bundle_host import host_bundles
from support.bundles import bundle_of
from support.deployed_opa import run_deployed_opa
from support.gateway import POLICY_DATA, run_gateway
from support.logs import capture_logs
from support.signing_keys import write_key
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import PRODUCTION, expect_refusal

WITHOUT_ONCALL = copy.deepcopy(POLICY_DATA)
WITHOUT_ONCALL["eksgateway"]["grants"].pop(0)
SOON_S = 25.0  # OPA pulls its bundle every 2 to 5 s


async def test_readiness_calls_and_streams_follow_the_bundle(tmp_path: Path, eks: SimulatedEks) -> None:
    """Nothing is sent to EKS while OPA has no trusted bundle; the log has why."""
    key, other = write_key(tmp_path, "ES256"), write_key(tmp_path, "ES256", "other")
    update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=600, node_replacing_s=600)
    with host_bundles(bundle_of(POLICY_DATA, other.private)) as host, capture_logs() as logs:
        async with run_deployed_opa(host.url, key.public, tmp_path) as opa:
            settings = OpaPolicySettings(opa=OpaSettings(url=opa.url, bundle="eksgateway"))
            engine = await open_policy_engine(settings, SystemClock())
            async with run_gateway(tmp_path, eks, policy=engine) as gateway:
                await wait_until(lambda: [one for one in logs if one["event"] == "policy.cannot_answer"])
                told = next(one["detail"] for one in logs if one["event"] == "policy.cannot_answer")
                assert "eksgateway" in told
                await wait_until(lambda: any("verify JWT" in str(one.get("detail")) for one in logs))
                assert not await gateway.is_ready()
                refused = await expect_refusal(gateway.cancel("prod-1", update_id))
                assert refused.status_and_reason == ("UNAVAILABLE", "POLICY_UNAVAILABLE")
                assert eks.calls() == ()

                host.bundle = bundle_of(POLICY_DATA, key.private)
                await gateway.wait_for_readiness()
                cancelled = await gateway.cancel("prod-1", update_id)
                stream = gateway.watch("prod-1", update_id)
                await stream.read()

                host.bundle = bundle_of(WITHOUT_ONCALL, key.private)
                async with asyncio.timeout(SOON_S):
                    ended = await expect_refusal(_read_all(stream))
                assert ended.status_and_reason == ("PERMISSION_DENIED", "POLICY_DENIED")
                assert cancelled.decision.policy_revision != engine.revision

                await opa.kill()
                await gateway.wait_for_readiness(ready=False)
                await opa.start()
                await gateway.wait_for_readiness()


async def _read_all(stream: Any) -> None:
    while True:
        await stream.read()
