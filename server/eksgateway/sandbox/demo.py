"""`eksgateway demo`: the main job, played on a sandbox by a client; each scene checks its own end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc

from eksgateway.client import Knowledge
from eksgateway.client.error_report import ErrorReport, phase_name
from eksgateway.ledger.listing import read_denials
from eksgateway.ledger.verify import verify
from eksgateway.model import Denial
from eksgateway.sandbox.demo_client import Client
from eksgateway.sandbox.demo_screen import Screen, State
from eksgateway.sandbox.options import SandboxOptions
from eksgateway.sandbox.sandbox import CHANNEL_OPTIONS, Sandbox, open_sandbox
from eksgateway.signals import run_until, stop_event
from eksgateway.v1 import cancellation_pb2
from eksgateway.v1 import update_service_pb2 as pb

T = TypeVar("T")

_SPEED = 120.0  # a cancel on prod-1 takes twelve simulated minutes: six seconds
_ALL_SCENES_S = 45.0
_LOOK_AGAIN_S = 0.1

_WHY = {"reason": "bad AMI", "ticket": "OPS-12"}


class NotAsItShould(Exception):
    """A scene that ended otherwise; the text says how."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What a scene is played with."""

    client: Client
    screen: Screen
    sandbox: Sandbox


async def run(screen: Screen) -> int:
    """The exit code: 0 when every scene ended as it should. Raises StartError."""
    started = time.monotonic()
    failed: list[str] = []
    screen.say("Starting a simulated EKS and a gateway on this machine; nothing reaches AWS.")
    with stop_event() as ended:
        async with open_sandbox(SandboxOptions(port=0, speed=_SPEED), screen.say) as sandbox:
            finished = await run_until(ended, _play(sandbox, screen, failed))
    screen.say("")
    if not finished:
        screen.say("Interrupted. Nothing is left running.")
        return 1
    if failed:
        screen.say(f"Not as they should be: {'; '.join(failed)}.", "bold red")
        return 1
    elapsed = time.monotonic() - started
    screen.say(
        f"All {len(_SCENES)} scenes ended as they should, in {elapsed:.0f} s. Nothing is left running.",
        "bold",
    )
    return 0


async def _play(sandbox: Sandbox, screen: Screen, failed: list[str]) -> None:
    await sandbox.start()
    info = sandbox.info()
    screen.say(f"They answer. The simulated clock runs {_SPEED:.0f} times as fast as a real one.")
    async with grpc.aio.insecure_channel(info["grpc"], options=CHANNEL_OPTIONS) as channel:
        stage = Stage(Client(channel, sandbox.tokens), screen, sandbox)
        deadline = asyncio.get_running_loop().time() + _ALL_SCENES_S
        for number, (heading, play) in enumerate(_SCENES, 1):
            screen.heading(f"{number}. {heading}")
            try:
                async with asyncio.timeout_at(deadline):
                    await play(stage)
            except NotAsItShould as exc:
                screen.wrong(str(exc))
            except TimeoutError:
                screen.wrong("it did not end in time")
            except grpc.aio.AioRpcError as exc:
                screen.wrong(f"{exc.code().name}: {exc.details()}")
            else:
                continue
            failed.append(f"{number}. {heading}")


async def _outsider(stage: Stage) -> None:
    await _refused(stage, "outsider", "prod-1", _WHY, ("POLICY_DENIED", "You have no grant"))


async def _viewer(stage: Stage) -> None:
    stage.screen.call("viewer", "WatchUpdate", "prod-1")
    seen = await stage.client.look("viewer", "prod-1", "rollback-prod-1")
    _expect(seen.update.status == "InProgress", f"the update is {seen.update.status}, not InProgress")
    stage.screen.answer(f"OK: {_kind(seen)}, the {seen.update.type} is {seen.update.status}.")
    await _refused(stage, "viewer", "prod-1", _WHY, ("POLICY_DENIED", "does not allow cancel"))


async def _no_ticket(stage: Stage) -> None:
    why = {"reason": _WHY["reason"]}
    await _refused(stage, "oncall", "prod-1", why, ("POLICY_DENIED", "A ticket is required"))


async def _cancels(stage: Stage) -> None:
    stage.screen.call("oncall", "CancelUpdateAndWatch", _about("prod-1", _WHY))
    told: list[State] = []
    stream = stage.client.cancel_and_watch("oncall", "prod-1", "rollback-prod-1", request_id="demo-1", **_WHY)
    with stage.screen.watching() as feed:
        async for message in stream:
            if _kind(message.watch) != "HEARTBEAT":
                told.append(_state(message))
                feed.add(told[-1])
    statuses = list(dict.fromkeys(state.update for state in told))
    _expect(statuses == ["InProgress", "Cancelling", "Cancelled"], f"it went {', '.join(statuses)}")
    _expect((told[-1].message, told[-1].phase) == ("FINAL", "CANCELLED"), f"it ended as {told[-1]}")
    stage.screen.answer("OK: EKS says that the update is Cancelled.")


async def _too_late(stage: Stage) -> None:
    refusal = await _refused(stage, "oncall", "prod-2", _WHY, ("EKS_INVALID_STATE", "already begun"))
    phase = refusal.metadata.get("phase", "")
    _expect(phase == "TOO_LATE", f"the phase is {phase or 'not told'}, not TOO_LATE")
    stage.screen.detail(f"Phase {phase}: the control plane has begun, and EKS cannot stop that.")


async def _resumes(stage: Stage) -> None:
    """A gateway tells of Cancelling and is killed; how it ends is told by the next one."""
    where = ("staging-1", "rollback-staging-1")
    stage.screen.call("oncall", "CancelUpdate", where[0])
    await stage.client.cancel("oncall", *where)
    stage.screen.call("viewer", "WatchUpdate", f"{where[0]}, by eksgateway.client")
    told: list[Knowledge] = []
    with stage.screen.watching() as feed:
        async with aclosing(stage.client.follow("viewer", *where)) as stream:
            async for known in stream:
                told.append(known)
                feed.add(_known(known))
                if known.update.status == "Cancelling":
                    feed.add(State("killed:", "the gateway", "", ""))
                    await stage.sandbox.replace_gateway()
                    feed.add(State("started:", "another one", "", ""))
    statuses, numbers = [known.update.status for known in told], [known.sequence for known in told]
    _expect(statuses[-2:] == ["Cancelling", "Cancelled"], f"it went {', '.join(statuses)}")
    _expect(numbers == list(range(1, len(told) + 1)), f"the numbers are {numbers}")
    stage.screen.answer(f"OK: number {numbers[-1]} follows {numbers[-2]}; nothing is lost or told twice.")


async def _history(stage: Stage) -> None:
    """What was denied and what was sent; the batch of denials is written a moment after the calls."""
    screen, ledger = stage.screen, stage.sandbox.folder.ledger
    denials = await _until(lambda: _denials(ledger), lambda found: len(found) >= 3)
    for denial in denials:
        cluster = denial.request.ref.cluster.name
        screen.detail(f"{_who(denial.caller.id):<8}  {cluster}  denied: {' '.join(denial.decision.reasons)}")
    screen.call("oncall", "ListCancellations")
    cancellations = await _until(lambda: stage.client.history("oncall"), _settled)
    for each in cancellations:
        why = f"{each.reason}, {each.ticket}; " if each.ticket else ""
        screen.detail(
            f"{_who(each.caller):<8}  {each.cluster.name}  {phase_name(each.phase)} ({why}by grant"
            f" {', '.join(each.decision.rule_ids)})"
        )
    ended = {each.cluster.name: phase_name(each.phase) for each in cancellations}
    expected = {"prod-1": "CANCELLED", "prod-2": "TOO_LATE", "staging-1": "CANCELLED"}
    _expect(ended == expected, f"it says {ended}")
    report = verify(ledger)
    _expect(report.broken is None, f"broken at {report.broken}")
    screen.answer(f"Verified: {report.events} events, {report.cancellations} cancellations. Chain head:")
    screen.detail(str(report.head))


_SCENES: tuple[tuple[str, Callable[[Stage], Awaitable[None]]], ...] = (
    ("An outsider is denied, and told why", _outsider),
    ("A viewer may watch, and not cancel", _viewer),
    ("On production, the on-call engineer needs a ticket", _no_ticket),
    ("With a ticket, the on-call engineer cancels, and sees it end", _cancels),
    ("On another cluster the cancel comes too late", _too_late),
    ("The gateway is killed; a watch goes on with the next one", _resumes),
    ("The ledger has all of it", _history),
)


async def _refused(
    stage: Stage, who: str, cluster: str, why: dict[str, str], expected: tuple[str, str]
) -> ErrorReport:
    """A cancel that has to be refused with this reason, and this in its sentences."""
    reason, sentence = expected
    stage.screen.call(who, "CancelUpdate", _about(cluster, why))
    refusal = await stage.client.refused_cancel(who, cluster, f"rollback-{cluster}", **why)
    if refusal is None:
        raise NotAsItShould(f"{who} may cancel on {cluster}")
    stage.screen.answer(f"{refusal.status}, {refusal.reason}", good=False)
    stage.screen.detail(" ".join(refusal.sentences))
    _expect(refusal.reason == reason, f"the reason is {refusal.reason}, not {reason}")
    _expect(sentence in " ".join(refusal.sentences), f"it does not say: {sentence}")
    return refusal


def _about(cluster: str, why: dict[str, str]) -> str:
    return ", ".join([cluster, *(f'{name} "{value}"' for name, value in why.items())])


async def _until(look: Callable[[], Awaitable[T]], good: Callable[[T], bool]) -> T:
    """Look again until it is as it should be; the scenes' own time limit ends it otherwise."""
    while True:
        found = await look()
        if good(found):
            return found
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _denials(ledger: Path) -> list[Denial]:
    return list(read_denials(ledger))


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotAsItShould(otherwise)


def _state(message: pb.CancelUpdateAndWatchResponse) -> State:
    """A message of the stream: first the cancellation, then the watch."""
    first = message.HasField("cancellation")
    told = message.cancellation if first else message.watch
    update = told.update
    return State(
        "CANCELLATION" if first else _kind(message.watch),
        update.status,
        update.cancellation.status,
        phase_name(told.phase),
    )


def _known(known: Knowledge) -> State:
    """What a program knows, with its number in the line of streams."""
    name = "FINAL" if known.final else f"number {known.sequence}"
    return State(name, known.update.status, known.update.cancellation.status, phase_name(known.phase))


def _kind(message: pb.WatchUpdateResponse) -> str:
    return pb.WatchKind.Name(message.kind).removeprefix("WATCH_KIND_")


def _settled(cancellations: list[cancellation_pb2.Cancellation]) -> bool:
    return bool(cancellations) and all(phase_name(each.phase) != "CANCELLING" for each in cancellations)


def _who(caller_id: str) -> str:
    return caller_id.rpartition(":")[2]
