"""Policy reloads under a running gateway."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import yaml

from eksgateway.ledger.codec import decode
from eksgateway.ledger.inspection import read_denials, read_events
from eksgateway.model import Intent
from support.gateway import POLICY_DATA, RunningGateway
from support.gateway_process import GatewayFolder, run_gateway_process
from support.hanging_file import hang_reads
from support.logs import capture_logs
from support.processes import list_children
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import check, expect_refusal

Data = dict[str, Any]


def without(*grants: str) -> Data:
    """The grants of the wire tests without these."""
    data = copy.deepcopy(POLICY_DATA)
    data["eksgateway"]["grants"] = [each for each in data["eksgateway"]["grants"] if each["id"] not in grants]
    return data


def only_look(*grants: str) -> Data:
    """The grants of the wire tests, where these do not allow cancel."""
    data = copy.deepcopy(POLICY_DATA)
    for grant in data["eksgateway"]["grants"]:
        if grant["id"] in grants:
            grant["actions"] = [each for each in grant["actions"] if each != "cancel"]
            del grant["update_types"]
    return data


async def replace_data(gateway: RunningGateway, data: Data) -> str:
    """Replace the data file and reload; returns the new revision."""
    before = gateway.gateway.policy.revision
    beside = gateway.path / "data.new"
    beside.write_text(yaml.safe_dump(data))
    beside.replace(gateway.path / "data.yaml")
    gateway.gateway.reload()
    async with asyncio.timeout(60):
        return await gateway.gateway.policy.revision_after(before)


async def test_saved_policy_data_is_in_force_within_seconds(
    gateway: RunningGateway, eks: SimulatedEks
) -> None:
    """Each record names its revision."""
    first, second = eks.rollback("staging-1"), eks.rollback("staging-2")
    old = (await gateway.cancel("staging-1", first)).decision.policy_revision
    (gateway.path / "data.yaml").write_text(yaml.safe_dump(without("staging")))
    async with asyncio.timeout(30):
        new = await gateway.gateway.policy.revision_after(old)
    assert (await expect_refusal(gateway.cancel("staging-2", second))).reason == "POLICY_DENIED"
    assert len({old, new}) == 2
    ledger = gateway.path / "ledger.db"
    recorded = [decode(Intent, each.body).decision for each in read_events(ledger) if each.kind == "intent"]
    assert [each.policy_revision for each in recorded] == [old]
    await wait_until(lambda: bool(list(read_denials(ledger))))
    assert [each.decision.policy_revision for each in read_denials(ledger)] == [new]


@asynccontextmanager
async def check_all_the_time(
    gateway: RunningGateway, update_id: str
) -> AsyncIterator[list[tuple[str, bool]]]:
    """Clients that check without a pause. Yields their decisions and revisions."""
    told: list[tuple[str, bool]] = []

    async def ask() -> None:
        while True:
            decision = (await check(gateway, "staging-1", update_id)).decision
            told.append((decision.policy_revision, decision.allowed))

    clients = [asyncio.create_task(ask()) for _ in range(8)]
    try:
        yield told
        for client in clients:
            assert not client.done(), client.exception()
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def test_fifty_reloads_under_load_fail_no_call(gateway: RunningGateway, eks: SimulatedEks) -> None:
    """Each decision is by one revision as a whole."""
    update_id = eks.rollback("staging-1")
    allows = {gateway.gateway.policy.revision: True}
    async with check_all_the_time(gateway, update_id) as told:
        for number in range(50):
            data = POLICY_DATA if number % 2 else only_look("staging")
            allows[await replace_data(gateway, data)] = bool(number % 2)
            answered = len(told)
            await wait_until(lambda answered=answered: len(told) > answered)  # type: ignore[misc]  # a default argument
    assert len(allows) == 2
    assert gateway.gateway.policy.reloads.loaded == 51
    assert {allowed for _, allowed in told} == {True, False}
    assert [(revision, allowed) for revision, allowed in told if allows[revision] != allowed] == []


def with_grants(count: int) -> Data:
    """The grants of the wire tests, where `staging` does not allow cancel, and so many more."""
    data = only_look("staging")
    grant = data["eksgateway"]["grants"][0]
    names = [f"g-{number}" for number in range(count)]  # on one cluster, so many would be refused
    data["eksgateway"]["grants"] += [grant | {"id": name, "clusters": [name]} for name in names]
    return data


async def test_killed_compiler_leaves_the_old_policy_in_force(
    gateway: RunningGateway, eks: SimulatedEks
) -> None:
    """Large data is compiled in a process of its own; the next try loads it."""
    update_id, before = eks.rollback("staging-1"), gateway.gateway.policy.revision
    data, others = yaml.safe_dump(with_grants(1000)), list_children()  # a worker of the tests has servers
    async with check_all_the_time(gateway, update_id):
        with capture_logs() as logs:
            (gateway.path / "data.yaml").write_text(data)
            gateway.gateway.reload()
            (compiler,) = await wait_until(lambda: list_children() - others)
            os.kill(compiler, signal.SIGKILL)
            await wait_until(lambda: gateway.gateway.policy.reloads.failing)
        refused = next(each for each in logs if each["event"] == "policy.refused")
        assert refused["faults"] == ["the process that compiles the policy ended by SIGKILL"]
        assert gateway.gateway.policy.revision == before
        assert (await check(gateway, "staging-1", update_id)).decision.allowed
        gateway.gateway.reload()
        async with asyncio.timeout(60):
            await gateway.gateway.policy.revision_after(before)
        assert not (await check(gateway, "staging-1", update_id)).decision.allowed


async def test_sighup_reloads_and_faulty_data_changes_nothing(tmp_path: Path, eks: SimulatedEks) -> None:
    """Each reload is logged, with the path of a fault."""
    place = GatewayFolder(tmp_path, eks.url)
    data = tmp_path / "data.yaml"
    update_id = eks.rollback("staging-1")
    async with run_gateway_process(place) as served:

        def events(name: str) -> list[dict[str, Any]]:
            return [each for each in served.lines if each["event"] == name]

        served.process.send_signal(signal.SIGHUP)  # logged although nothing has changed
        await wait_until(lambda: len(events("policy.loaded")) == 2)
        first, again = events("policy.loaded")
        assert again["revision"] == first["revision"]

        data.write_text(data.read_text().replace("clusters:", "clusterz:"))
        served.process.send_signal(signal.SIGHUP)
        (told,) = await wait_until(lambda: events("policy.refused"))
        assert told["level"] == "error"
        assert "eksgateway.grants[0].clusterz: is not known here" in "\n".join(told["faults"])
        assert (await served.cancel("staging-1", update_id)).decision.policy_revision == first["revision"]

        data.write_text(yaml.safe_dump(without("staging", "viewers")))
        served.process.send_signal(signal.SIGHUP)
        await wait_until(lambda: len(events("policy.loaded")) == 3)
        last = events("policy.loaded")[-1]
        assert last["grants_removed"] == ["staging", "viewers"]
        with contextlib.suppress(grpc.aio.AioRpcError):
            await served.cancel("staging-1", update_id)
        assert (await wait_until(lambda: served.calls[1:]))[0]["reason"] == "POLICY_DENIED"
        assert [each["faults"] for each in events("health.readiness")] == [{}]
        assert await served.end() == 0


async def test_process_with_hanging_policy_data_serves_and_stops(tmp_path: Path, eks: SimulatedEks) -> None:
    place = GatewayFolder(tmp_path, eks.url)
    update_id = eks.rollback("staging-1")
    async with run_gateway_process(place) as served:
        with hang_reads(tmp_path / "data.yaml"):
            served.process.send_signal(signal.SIGHUP)
            await wait_until(lambda: [each for each in served.lines if each["event"] == "policy.refused"])
            await served.cancel("staging-1", update_id)
            async with asyncio.timeout(60):
                assert await served.end() == 0
