"""The metrics over HTTP, as Prometheus scrapes them."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from eksgateway.settings import SettingsError
from support.gateway import RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import PRODUCTION, expect_refusal

UPDATES = "/eksgateway.v1.UpdateService"
Samples = dict[tuple[str, tuple[str, ...]], float]


async def scrape(gateway: RunningGateway) -> Samples:
    """Every sample by its name and its labels' values, in the order of the labels' names."""
    url = f"http://{gateway.gateway.metrics.address}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        families = text_string_to_metric_families(await answer.text())
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def metrics_on() -> dict[str, Any]:
    """The setting that serves metrics on a free port."""
    return {"metrics": {"listen": "127.0.0.1:0"}}


async def test_calls_forwards_and_eks_calls_are_counted(
    tmp_path: Path, eks: SimulatedEks, metrics_on: dict[str, Any]
) -> None:
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    async with run_gateway(tmp_path, eks, **metrics_on) as gateway:
        cancel = f"{UPDATES}/CancelUpdate"
        await expect_refusal(gateway.cancel("prod-1", update_id, ticket=""))
        await expect_refusal(gateway.cancel("prod-1", "no-such-update"))
        await gateway.cancel("prod-1", update_id)
        found = await scrape(gateway)
        assert found["eksgateway_calls_total", (cancel, "POLICY_DENIED", "PERMISSION_DENIED")] == 1
        assert found["eksgateway_calls_total", (cancel, "EKS_NOT_FOUND", "NOT_FOUND")] == 1
        assert found["eksgateway_calls_total", (cancel, "", "OK")] == 1
        assert found["eksgateway_call_duration_seconds_count", (cancel,)] == 3
        assert found["eksgateway_forwards_total", ("accepted",)] == 1
        assert found["eksgateway_eks_calls_total", ("CancelUpdate", "ok")] == 1
        assert found["eksgateway_eks_calls_total", ("DescribeUpdate", "EKS_NOT_FOUND")] == 1
        assert found["process_start_time_seconds", ()] > 0


async def test_open_watches_are_counted_and_have_no_duration(
    tmp_path: Path, eks: SimulatedEks, metrics_on: dict[str, Any]
) -> None:
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    async with run_gateway(tmp_path, eks, **metrics_on) as gateway:
        streams = [gateway.watch("prod-1", update_id) for _ in range(3)]
        for stream in streams:
            await stream.read()
        found = await scrape(gateway)
        assert (found["eksgateway_watchers", ()], found["eksgateway_pollers", ()]) == (3, 1)
        for stream in streams:
            stream.cancel()
        await wait_until(lambda: gateway.gateway.watches.pollers == 0)
        found = await scrape(gateway)
        assert (found["eksgateway_watchers", ()], found["eksgateway_pollers", ()]) == (0, 0)
        watch = f"{UPDATES}/WatchUpdate"
        assert found["eksgateway_calls_total", (watch, "", "CANCELLED")] == 3
        assert ("eksgateway_call_duration_seconds_count", (watch,)) not in found


async def test_metrics_show_the_policy_in_force(
    tmp_path: Path, eks: SimulatedEks, metrics_on: dict[str, Any]
) -> None:
    """Its revision, its time of loading, and whether a reload fails."""
    async with run_gateway(tmp_path, eks, **metrics_on) as gateway:
        engine = gateway.gateway.policy
        first = engine.revision
        found = await scrape(gateway)
        assert found["eksgateway_policy_info", ("wasm", first)] == 1
        assert found["eksgateway_policy_reload_failing", ()] == 0
        loaded = found["eksgateway_policy_loaded_timestamp_seconds", ()]

        (tmp_path / "data.yaml").write_text("eksgateway: {}")
        gateway.gateway.reload()
        await wait_until(lambda: engine.reloads.failing)
        found = await scrape(gateway)
        assert found["eksgateway_policy_info", ("wasm", first)] == 1
        assert found["eksgateway_policy_reload_failing", ()] == 1
        assert found["eksgateway_policy_reloads_total", ("refused",)] == 1
        assert found["eksgateway_policy_loaded_timestamp_seconds", ()] == loaded

        (tmp_path / "data.yaml").write_text(yaml.safe_dump({"eksgateway": {"grants": []}}))
        gateway.gateway.reload()
        second = await engine.revision_after(first)
        await wait_until(lambda: not engine.reloads.failing)
        found = await scrape(gateway)
        assert ("eksgateway_policy_info", ("wasm", first)) not in found
        assert found["eksgateway_policy_info", ("wasm", second)] == 1
        assert found["eksgateway_policy_reload_failing", ()] == 0
        assert found["eksgateway_policy_reloads_total", ("loaded",)] == 2
        assert found["eksgateway_policy_loaded_timestamp_seconds", ()] > loaded


async def test_labels_do_not_grow_by_what_clients_send(
    tmp_path: Path, eks: SimulatedEks, metrics_on: dict[str, Any]
) -> None:
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    async with run_gateway(tmp_path, eks, **metrics_on) as gateway:
        channel: Any = gateway.channel  # its stubs know no call of raw bytes
        for number in range(20):
            await expect_refusal(channel.unary_unary(f"/no.such/Method{number}")(b"", timeout=30))
        await gateway.cancel("prod-1", update_id, request_id="canary")
        await expect_refusal(gateway.cancel("canary-1", "canary", who=gateway.outsider))
        found = await scrape(gateway)
        assert found["eksgateway_calls_total", ("unknown", "METHOD_UNKNOWN", "UNIMPLEMENTED")] == 20
        told = repr(sorted(found))
        for secret in ("no.such", "canary", "prod-1", update_id, "oncall", "outsider"):
            assert secret not in told


async def test_metrics_are_off_by_default(gateway: RunningGateway) -> None:
    assert gateway.gateway.metrics.address == ""


async def test_taken_metrics_port_fails_the_start(tmp_path: Path, eks: SimulatedEks) -> None:
    """The error names the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingsError, match=rf"cannot serve metrics on {listen}: .*metrics\.listen"):
            async with run_gateway(tmp_path, eks, metrics={"listen": listen}):
                pass


async def test_openmetrics_is_served_by_the_accept_header(
    tmp_path: Path, eks: SimulatedEks, metrics_on: dict[str, Any]
) -> None:
    async with run_gateway(tmp_path, eks, **metrics_on) as gateway:
        url = f"http://{gateway.gateway.metrics.address}/metrics"
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with aiohttp.ClientSession(headers=accept) as http, http.get(url) as answer:
            assert answer.content_type == "application/openmetrics-text"
            assert (await answer.text()).endswith("# EOF\n")
