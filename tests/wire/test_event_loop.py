"""Nothing blocks the event loop of a gateway process: see ``support.loop_watch``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway import logs
from eksgateway.v1 import update_service_pb2 as pb
from support import loop_watch
from support.authority import Authority, replace
from support.gateway import POLICY_DATA, Client
from support.gateway_process import AWS, GatewayFolder, GatewayProcess
from support.hanging_file import hang_reads
from support.jwks_server import JwksAnswer, JwksServer
from support.mtls import build_listeners, connect
from support.processes import clean_environment, eksgateway_command, run_program
from support.simulator import SimulatedEks
from support.tokens import Idp, rsa_key
from support.waiting import wait_until
from support.wire import check, get_update, list_cancellable, list_cancellations, list_updates

HARMLESS = (
    "prometheus_client/process_collector.py",  # /proc is in memory
    " release",  # of the ledger's lock, after the last call
)


@dataclass
class Scene:
    """A watched gateway with a plain and a certified listener, an issuer by file and one by URL."""

    served: GatewayProcess
    path: Path
    eks: SimulatedEks
    issuer: JwksServer
    corp: Idp
    authority: Authority

    def line(self, event: str) -> dict[str, Any]:
        return next(line for line in self.served.lines if line["event"] == event)

    async def wait_for_log(self, event: str, times: int = 1) -> None:
        await wait_until(lambda: sum(line["event"] == event for line in self.served.lines) >= times)

    def credentials(self, **header: Any) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.corp.token(datetime.now(UTC), header)}"),)


def findings(served: GatewayProcess) -> str:
    """One finding per line, with its stack, innermost first."""
    return "\n".join(
        f"{line['call']} at {line['at']}: {' < '.join(reversed(line['stack']))}"
        for line in served.lines
        if line["event"] == "watch.blocked"
        and not any(name in each for name in HARMLESS for each in line["stack"])
    )


@asynccontextmanager
async def scene(path: Path, eks: SimulatedEks) -> AsyncIterator[Scene]:
    corp, authority = Idp(), Authority()
    async with JwksServer.running(corp.jwks()) as issuer:
        place = GatewayFolder(path, eks.url, metrics={"listen": "127.0.0.1:0"})
        raw = yaml.safe_load(place.config.read_text())
        raw["listeners"] += _plain(build_listeners(path, authority, "mtls"))
        raw["identity"]["jwt"]["issuers"].append(corp.settings(issuer.url).model_dump(mode="json"))
        place.config.write_text(yaml.safe_dump(raw))
        command = (sys.executable, "-P", loop_watch.__file__, "serve", "--config", str(place.config))
        async with run_program(*command, env=AWS) as running:
            await wait_until(lambda: running.out.count("\n") == 2 or running.process.returncode is not None)
            assert running.out.startswith("Serving gRPC on "), running.err
            served = GatewayProcess(running, running.out.split("\n")[0].split()[-1], place.issuer)
            here = Scene(served, path, eks, issuer, corp, authority)
            # The start is not watched: it is mostly imports, and no call waits for it.
            await wait_until(lambda: any(line.get("faults") == {} for line in served.lines))
            served.process.send_signal(signal.SIGUSR1)
            await here.wait_for_log("watch.started")
            try:
                yield here
            finally:
                await served.channel.close()


def _plain(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Paths as text, for YAML."""
    return [
        each | {"tls": {name: str(place) for name, place in each["tls"].items()}, "address": "127.0.0.1:0"}
        for each in found
    ]


async def calls(here: Scene) -> None:
    """Every method, allowed and denied."""
    served: Any = here.served
    update_id = here.eks.rollback("staging-1")
    await get_update(served, "staging-1", update_id)
    await list_updates(served, "staging-1")
    await list_cancellable(served)
    await check(served, "staging-1", update_id)
    watch = served.watch("staging-1", update_id)
    await watch.read()
    await served.cancel("staging-1", update_id, request_id="one")
    await served.cancel("staging-1", update_id, request_id="one")
    await watch.read()
    watch.cancel()
    await list_cancellations(served)
    for who in (served.outsider, served.viewer):
        with suppress(grpc.aio.AioRpcError):
            await served.cancel("staging-1", update_id, who=who)


async def credentials(here: Scene) -> None:
    """Tokens good and bad, of both issuers, and a client certificate."""
    served: Any = here.served
    bad: list[Any] = [here.credentials(), here.credentials(kid="unknown"), (("authorization", "Bearer x"),)]
    bad += [served.credentials("late", exp=1), served.credentials("odd", "", "a\u00a0b")]
    for who in bad:
        with suppress(grpc.aio.AioRpcError):
            await check(served, "staging-1", "u", who=who)
    address = here.served.program.out.split("\n")[1].split()[-1]
    async with connect(address, here.authority.certificate, here.authority.issue()) as connection:
        with suppress(grpc.aio.AioRpcError):
            await connection.get("u")


async def keys(here: Scene) -> None:
    """A key file that changes and then hangs, and keys from a URL that are fetched again."""
    file, corp = here.path / "jwks.json", here.corp
    content = file.read_bytes()
    with hang_reads(file):
        await here.wait_for_log("identity.jwks_failed")
        await check(here.served, "staging-1", here.eks.rollback("staging-1"))  # type: ignore[arg-type]
    replace(file, content)
    corp.keys["rsa"] = rsa_key("replaced")
    here.issuer.answer = JwksAnswer(corp.jwks())
    before = sum(line["event"] == "identity.jwks_changed" for line in here.served.lines)
    here.served.process.send_signal(signal.SIGHUP)
    await here.wait_for_log("identity.jwks_changed", before + 1)
    await here.wait_for_log("identity.jwks_back")


async def policy(here: Scene) -> None:
    """Data that changes, data that a child process compiles, and data that does not load."""
    loaded = sum(line["event"] == "policy.loaded" for line in here.served.lines)
    small = yaml.safe_dump(POLICY_DATA)
    for number, text in enumerate((f"{small}# changed\n", f"{small}# {'x' * 100_000}\n"), loaded + 1):
        (here.path / "data.yaml").write_text(text)
        here.served.process.send_signal(signal.SIGHUP)
        await here.wait_for_log("policy.loaded", number)
    (here.path / "data.yaml").write_text("eksgateway: [")
    await here.wait_for_log("policy.refused")


async def certificates(here: Scene) -> None:
    """A new certificate and a bundle with a root that cannot be used."""
    here.authority.server().write(here.path)
    replace(here.path / "ca.crt", here.authority.certificate + b"-----BEGIN CERTIFICATE-----\n")
    await here.wait_for_log("tls.renewed")


async def probes(here: Scene) -> None:
    """Health, reflection's absence, metrics."""
    stub: Any = health_pb2_grpc.HealthStub(here.served.channel)
    await stub.Check(health_pb2.HealthCheckRequest())
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    await watch.read()
    watch.cancel()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{here.line('gateway.started')['metrics']}/metrics") as response,
    ):
        assert "eksgateway_calls_total" in await response.text()


PARTS: list[Callable[[Scene], Awaitable[None]]] = [calls, credentials, keys, policy, certificates, probes]


@pytest.mark.parametrize("part", PARTS, ids=[part.__name__ for part in PARTS])
async def test_nothing_blocks_the_event_loop(
    tmp_path: Path, eks: SimulatedEks, part: Callable[[Scene], Awaitable[None]]
) -> None:
    """Neither blocking calls nor long computations."""
    async with scene(tmp_path, eks) as here:
        await part(here)
        assert await here.served.end() == 0
        assert findings(here.served) == ""


AT_ONCE = 50  # calls on one connection: half of what it takes


@asynccontextmanager
async def run_with_unread_log(path: Path, eks: SimulatedEks) -> AsyncIterator[tuple[Process, Client, int]]:
    """A gateway process, a client of it, and the file descriptor of its log."""
    folder = GatewayFolder(path, eks.url)
    read, write = os.pipe()
    command = eksgateway_command("serve", "--config", str(folder.config))
    process = await asyncio.create_subprocess_exec(
        *command, env=clean_environment(AWS), stdout=PIPE, stderr=write
    )
    os.close(write)
    try:
        assert process.stdout is not None
        client = Client((await process.stdout.readline()).decode().split()[-1], folder.issuer)
        try:
            yield process, client, read
        finally:
            await client.channel.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def flood(client: Client, calls: int) -> None:
    """Calls without credentials, each of which logs a line."""

    async def call() -> None:
        with pytest.raises(grpc.aio.AioRpcError, match="No credentials"):
            await client.updates.GetUpdate(pb.GetUpdateRequest(), timeout=30)

    for _ in range(calls // AT_ONCE):
        await asyncio.gather(*(call() for _ in range(AT_ONCE)))


async def test_unread_log_delays_no_call(tmp_path: Path, eks: SimulatedEks) -> None:
    """Lines wait up to a bound; the others are counted."""
    before = logs.MAX_QUEUED_LINES + 500
    async with run_with_unread_log(tmp_path, eks) as (process, client, read):
        await flood(client, before)
        await client.channel.close()
        with os.fdopen(read, "rb") as pipe:
            lines = asyncio.create_task(asyncio.to_thread(pipe.readlines))
            process.terminate()
            assert await process.wait() == 0
            logged = [json.loads(line) for line in await lines]
    calls = sum(line["event"] == "rpc.call" for line in logged)
    lost = sum(line["lines"] for line in logged if line["event"] == "log.lines_lost")
    assert 0 < lost < before
    assert calls <= before <= calls + lost
    assert logged[-1]["event"] == "gateway.stopped"


async def test_gateway_stops_while_its_log_is_not_read(tmp_path: Path, eks: SimulatedEks) -> None:
    """Waiting lines are lost."""
    async with run_with_unread_log(tmp_path, eks) as (process, client, read):
        try:
            await flood(client, 20 * AT_ONCE)
            await client.channel.close()
            process.terminate()
            async with asyncio.timeout(60):
                assert await process.wait() == 0
        finally:
            os.close(read)
