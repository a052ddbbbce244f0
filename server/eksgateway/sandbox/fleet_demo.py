"""`eksgateway demo --fleet`: three gateways over one PostgreSQL, which are killed while they serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import grpc

from eksgateway.blocking import run_blocking
from eksgateway.client.error_report import ErrorReport, phase_name
from eksgateway.ledger.verify import verify
from eksgateway.sandbox.clusters import CLUSTERS
from eksgateway.sandbox.demo_client import DemoClient
from eksgateway.sandbox.demo_screen import DemoScreen
from eksgateway.sandbox.fleet_database import FleetDatabase
from eksgateway.sandbox.fleet_watches import DemoWatch, RowFeed
from eksgateway.sandbox.gateway_process import LOOPBACK_OPTIONS, GatewayProcess
from eksgateway.sandbox.options import SandboxOptions
from eksgateway.sandbox.postgres_server import PostgresServer
from eksgateway.sandbox.sandbox import Sandbox
from eksgateway.sandbox.scenes import JUSTIFICATION, Demo, Scene, SceneFailed, expect, poll
from eksgateway.settings.postgres_url import PostgresLocation
from eksgateway.v1 import cancellation_pb2

_SPEED: Final = 60.0  # a cancel takes twelve simulated minutes: twelve seconds
_ALL_SCENES_S: Final = 90.0
_NAMES: Final = ("A", "B", "C")
_COUNT_S: Final = 8.0
_MORE: Final = 1.25  # random rests make a difference of some calls; without sharing it would be 3
_ENDS: Final = {"prod-1": "CANCELLED", "staging-1": "CANCELLED"}


@dataclass(slots=True)
class FleetContext:
    """``clients`` by the name of a gateway; ``roaming`` calls B, or A if B does not answer."""

    screen: DemoScreen
    sandbox: Sandbox
    clients: Mapping[str, DemoClient]
    roaming: DemoClient
    rows: RowFeed
    watches: dict[str, DemoWatch] = field(default_factory=dict)

    @property
    def gateways(self) -> dict[str, GatewayProcess]:
        return dict(zip(_NAMES, self.sandbox.gateways, strict=True))

    @property
    def database(self) -> FleetDatabase:
        assert self.sandbox.database is not None  # noqa: S101 - the options have replicas
        return self.sandbox.database

    @property
    def postgres(self) -> PostgresServer:
        assert self.database.server is not None  # noqa: S101 - the options have no database
        return self.database.server

    def watch(self, name: str, client: DemoClient, cluster: str) -> DemoWatch:
        watch = DemoWatch(name, client.watch("viewer", cluster), self.rows.add)
        self.watches[f"{cluster} {name}"] = watch
        return watch

    async def kill(self, name: str) -> None:
        await self.gateways[name].kill()
        self.rows.note("killed:", f"gateway {name}")

    async def count_calls(self, operation: str, cluster: str) -> int:
        calls = await self.sandbox.eks_calls()
        return sum((call["operation"], call["cluster"]) == (operation, cluster) for call in calls)


async def run(screen: DemoScreen) -> int:
    """Return the exit code: 0 if each scene had the expected outcome. Raises StartError."""
    demo = Demo(
        SandboxOptions(port=0, speed=_SPEED, replicas=len(_NAMES)),
        "Starting a simulated EKS, a PostgreSQL and three gateways on this machine; nothing reaches AWS.",
        f"All are up. The simulated clock runs {_SPEED:.0f} times as fast as a real one.",
        _connect,
        _SCENES,
        _ALL_SCENES_S,
    )
    return await demo.run(screen)


@asynccontextmanager
async def _connect(sandbox: Sandbox, screen: DemoScreen) -> AsyncIterator[FleetContext]:
    a, b, _ = addresses = [gateway.address for gateway in sandbox.gateways]
    async with AsyncExitStack() as stack:

        async def connect(address: str) -> DemoClient:
            channel = grpc.aio.insecure_channel(address, options=LOOPBACK_OPTIONS)
            return DemoClient(await stack.enter_async_context(channel), sandbox.tokens)

        clients = {name: await connect(address) for name, address in zip(_NAMES, addresses, strict=True)}
        roaming = await connect(f"ipv4:{b},{a}")  # gRPC takes the first that answers
        context = FleetContext(screen, sandbox, clients, roaming, RowFeed(screen))
        try:
            yield context
        finally:
            await asyncio.gather(*(watch.close() for watch in context.watches.values()))


async def _watch_at_two(context: FleetContext) -> None:
    context.screen.call("viewer", "WatchUpdate", "prod-1, at A and at B")
    with context.rows.table():
        for name, client in (("A", context.clients["A"]), ("B", context.roaming)):
            await context.watch(name, client, "prod-1").wait_for("InProgress")


async def _cancel_at_two(context: FleetContext) -> None:
    fields = {"request_id": "fleet-1", **JUSTIFICATION}
    context.screen.call("oncall", "CancelUpdate", "prod-1, request_id fleet-1, at A and at C at once")
    answers = await asyncio.gather(
        *(context.clients[name].cancel("oncall", "prod-1", **fields) for name in ("A", "C"))
    )
    for name, answer in zip(("A", "C"), answers, strict=True):
        context.screen.detail(f"{name}: {phase_name(answer.phase)}, {answer.cancellation_id}")
    expect(answers[0].cancellation_id == answers[1].cancellation_id, "there are two cancellations")
    sent = await context.count_calls("CancelUpdate", "prod-1")
    expect(sent == 1, f"EKS received {sent} CancelUpdate")
    context.screen.answer("OK: one cancellation, and EKS received one CancelUpdate.")


async def _kill_one(context: FleetContext) -> None:
    with context.rows.table():
        await context.kill("C")
        for name in ("A", "B"):
            await context.watches[f"prod-1 {name}"].wait_for("Cancelling")
    context.screen.answer("OK: both watches go on.")


async def _kill_the_watched(context: FleetContext) -> None:
    """The update ends after B was killed, so the rest of its watch is A's."""
    moved = context.watches["prod-1 B"]
    before = moved.states[-1]
    expect(not before.final, "the update ended before B was killed")
    with context.rows.table():
        await context.kill("B")
        moved.name = "now A"
        for name in ("A", "B"):
            await context.watches[f"prod-1 {name}"].wait_for("Cancelled")
    numbers = [each.sequence for each in moved.states]
    expected = list(range(1, before.sequence + 2))  # those of B, and the end
    expect(numbers == expected, f"the numbers are {numbers}")
    context.screen.answer(
        f"OK: number {numbers[-1]} from A follows number {before.sequence} from B; none is lost or repeated."
    )
    await asyncio.gather(*(context.gateways[name].start() for name in ("B", "C")))
    context.screen.detail("B and C are started again.")


async def _stop_postgres(context: FleetContext) -> None:
    screen = context.screen
    screen.call("oncall", "CancelUpdate", "staging-1, at C")
    await context.clients["C"].cancel("oncall", "staging-1")
    screen.call("viewer", "WatchUpdate", "staging-1, at A and at B")
    watches = [context.watch(name, context.clients[name], "staging-1") for name in ("A", "B")]
    with context.rows.table():
        for watch in watches:
            await watch.wait_for("Cancelling")
        await run_blocking(context.postgres.stop)
        context.rows.note("stopped:", "PostgreSQL")
    expect(not any(watch.states[-1].final for watch in watches), "the update ended before PostgreSQL")
    screen.call("oncall", "CancelUpdate", "staging-2, request_id fleet-2, at A")
    try:
        await context.clients["A"].cancel("oncall", "staging-2", request_id="fleet-2")
    except grpc.aio.AioRpcError as exc:
        error = ErrorReport.of(exc)
    else:
        raise SceneFailed("the cancel was accepted")
    screen.answer(f"{error.status}, {error.reason}", good=False)
    screen.detail(" ".join(error.sentences))
    expect(error.reason == "LEDGER_UNAVAILABLE", f"the reason is {error.reason}")
    with context.rows.table():
        for watch in watches:
            await watch.wait_for("Cancelled")
    sent = await context.count_calls("CancelUpdate", "staging-2")
    expect(sent == 0, f"EKS received {sent} CancelUpdate for staging-2")
    screen.answer("OK: EKS received no CancelUpdate for staging-2, and both watches went on.")


async def _start_postgres(context: FleetContext) -> None:
    screen, client = context.screen, context.clients["A"]
    await run_blocking(context.postgres.start)
    screen.call("oncall", "CancelUpdate", "staging-2, request_id fleet-2, at A once more")

    async def cancel() -> cancellation_pb2.Cancellation | None:
        with suppress(grpc.aio.AioRpcError):  # until A has a connection again
            return await client.cancel("oncall", "staging-2", request_id="fleet-2")
        return None

    answer = await poll(cancel, lambda found: found is not None)
    sent = await context.count_calls("CancelUpdate", "staging-2")
    expect(answer is not None and sent == 1, f"EKS received {sent} CancelUpdate for staging-2")
    screen.answer("OK: accepted, and EKS received one CancelUpdate for staging-2.")


async def _show_ledger(context: FleetContext) -> None:
    context.screen.call("oncall", "ListCancellations", "at B")

    def have_ended(found: list[cancellation_pb2.Cancellation]) -> bool:
        return _ENDS.items() <= {each.cluster.name: phase_name(each.phase) for each in found}.items()

    found = await poll(lambda: context.clients["B"].history("oncall"), have_ended)
    for each in found:
        context.screen.detail(f"{each.cluster.name:<9}  {phase_name(each.phase)}")
    report = await run_blocking(verify, PostgresLocation(context.database.url))
    expect(report.broken is None and report.cancellations == 3, f"the ledger has {report}")
    context.screen.answer(
        f"Verified: {report.events} events in one chain, {report.cancellations} cancellations."
    )


async def _count_calls(context: FleetContext) -> None:
    """Two equal updates at the same time: one is watched at each gateway, the other at one."""
    watched = {"three": _NAMES, "one": ("A",)}
    for cluster in watched:
        like = replace(CLUSTERS[1], name=cluster)
        await context.sandbox.command_simulator("clusters", like.to_spec())
    for cluster, names in watched.items():
        for name in names:
            await context.watch(name, context.clients[name], cluster).wait_for("InProgress")
    began = datetime.now(UTC)
    await asyncio.sleep(_COUNT_S)
    every = await context.sandbox.eks_calls()
    recent = [call for call in every if datetime.fromisoformat(call["time"]) >= began]
    three, one = (sum(call["cluster"] == cluster for call in recent) for cluster in watched)
    context.screen.detail(f"In {_COUNT_S:.0f} s, an update that is watched at A, B and C: {three} calls.")
    context.screen.detail(f"An update that is watched at A alone: {one} calls.")
    expect(0 < three <= _MORE * one + 1, "three gateways call more often than one")
    cancels = sum(call["operation"] == "CancelUpdate" for call in every)
    expect(cancels == 3, f"EKS received {cancels} CancelUpdate")
    context.screen.answer(f"EKS calls so far: {len(every)}, of which {cancels} CancelUpdate.")


_SCENES: Final[tuple[Scene[FleetContext], ...]] = (
    ("A viewer watches an update at two gateways", _watch_at_two),
    ("The same request_id at two gateways at once has one effect", _cancel_at_two),
    ("Gateway C is killed (kill -9)", _kill_one),
    ("Gateway B is killed; its watch goes on at A by its resume token", _kill_the_watched),
    ("PostgreSQL stops: nothing is sent without a record, and watches go on", _stop_postgres),
    ("PostgreSQL starts again", _start_postgres),
    ("One ledger has recorded all of it", _show_ledger),
    ("EKS calls of three gateways beside those of one", _count_calls),
)
