"""A policy that cannot answer turns readiness off; the log has the cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eksgateway.clock import SystemClock
from eksgateway.policy.opa import OpaEngine
from eksgateway.settings import OpaSettings
from support.fake_opa import ALLOW, OpaAnswer, make_result, run_fake_opa
from support.gateway import run_gateway
from support.logs import capture_logs
from support.simulator import SimulatedEks
from support.waiting import wait_until


def causes(logs: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The log events of the policy's readiness, in order."""
    kinds = ("policy.cannot_answer", "policy.answers")
    return [(each["event"], each.get("reason", "")) for each in logs if each["event"] in kinds]


async def test_each_cause_of_an_unready_opa_is_logged_once(tmp_path: Path, eks: SimulatedEks) -> None:
    async with run_fake_opa() as (opa, engine):
        opa.decide = lambda _: OpaAnswer(b"{}")
        with capture_logs() as logs:
            async with run_gateway(tmp_path, eks, policy=engine):
                told = [("policy.cannot_answer", "POLICY_UNDEFINED")]
                await wait_until(lambda: causes(logs) == told)
                asked = len(opa.inputs)
                await wait_until(lambda: len(opa.inputs) >= asked + 2)
                assert causes(logs) == told

                opa.decide = lambda _: OpaAnswer(make_result(ALLOW).body, content_type="text/html")
                told.append(("policy.cannot_answer", "POLICY_INVALID"))
                await wait_until(lambda: causes(logs) == told)
                assert "text/html" in [each["detail"] for each in logs if "detail" in each][-1]

                opa.decide = lambda _: make_result(ALLOW)
                told.append(("policy.answers", ""))
                await wait_until(lambda: causes(logs) == told)


NOWHERE = "127.0.0.1:1"  # nothing listens there


@pytest.mark.parametrize(
    ("url", "bundle", "detail"),
    [
        pytest.param(f"http://{NOWHERE}", "", "Cannot connect", id="refused"),
        pytest.param("{fake}", "main", "not loaded the bundle 'main'", id="no bundle"),
        pytest.param("{tls}", "", "ssl", id="TLS to plaintext"),
    ],
)
async def test_logged_cause_names_connection_bundle_or_tls(
    tmp_path: Path, eks: SimulatedEks, url: str, bundle: str, detail: str
) -> None:
    async with run_fake_opa() as (opa, unused):
        await unused.close()
        address = url.format(fake=opa.url, tls=opa.url.replace("http:", "https:"))
        engine = await OpaEngine.open(OpaSettings(url=address, bundle=bundle), SystemClock(), timeout_s=2)
        with capture_logs() as logs:
            async with run_gateway(tmp_path, eks, policy=engine):
                await wait_until(lambda: bool(causes(logs)))
        logged = next(each for each in logs if each["event"] == "policy.cannot_answer")
        assert logged["reason"] == "POLICY_UNAVAILABLE"
        assert logged["log_level"] == "error"
        assert detail.lower() in logged["detail"].lower()
