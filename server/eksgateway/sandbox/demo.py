"""`eksgateway demo`: plays the main scenes on a sandbox. Each scene checks its own outcome."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import grpc

from eksgateway.client import Knowledge
from eksgateway.client.error_report import ErrorReport, phase_name
from eksgateway.ledger.inspection import read_denials
from eksgateway.ledger.verify import verify
from eksgateway.model import Denial
from eksgateway.sandbox.demo_client import DemoClient
from eksgateway.sandbox.demo_screen import DemoScreen, WatchRow
from eksgateway.sandbox.gateway_process import LOOPBACK_OPTIONS
from eksgateway.sandbox.options import SandboxOptions
from eksgateway.sandbox.sandbox import Sandbox
from eksgateway.sandbox.scenes import JUSTIFICATION, Demo, Scene, SceneFailed, expect, poll
from eksgateway.v1 import cancellation_pb2
from eksgateway.v1 import update_service_pb2 as pb

_SPEED: Final = 120.0  # a cancel on prod-1 takes twelve simulated minutes: six seconds
_ALL_SCENES_S: Final = 45.0


@dataclass(frozen=True, slots=True)
class DemoContext:
    client: DemoClient
    screen: DemoScreen
    sandbox: Sandbox


async def run(screen: DemoScreen) -> int:
    """Return the exit code: 0 if each scene had the expected outcome. Raises StartError."""
    demo = Demo(
        SandboxOptions(port=0, speed=_SPEED),
        "Starting a simulated EKS and a gateway on this machine; nothing reaches AWS.",
        f"Both are up. The simulated clock runs {_SPEED:.0f} times as fast as a real one.",
        _connect,
        _SCENES,
        _ALL_SCENES_S,
    )
    return await demo.run(screen)


@asynccontextmanager
async def _connect(sandbox: Sandbox, screen: DemoScreen) -> AsyncIterator[DemoContext]:
    async with grpc.aio.insecure_channel(sandbox.gateways[0].address, options=LOOPBACK_OPTIONS) as channel:
        yield DemoContext(DemoClient(channel, sandbox.tokens), screen, sandbox)


async def _deny_outsider(context: DemoContext) -> None:
    await _expect_error(context, "outsider", "prod-1", JUSTIFICATION, ("POLICY_DENIED", "You have no grant"))


async def _let_viewer_watch(context: DemoContext) -> None:
    context.screen.call("viewer", "WatchUpdate", "prod-1")
    first = await context.client.first_message("viewer", "prod-1")
    update = first.update
    expect(update.status == "InProgress", f"the update is {update.status}, not InProgress")
    context.screen.answer(f"OK: {_kind_name(first)}, the {update.type} is {update.status}.")
    await _expect_error(
        context, "viewer", "prod-1", JUSTIFICATION, ("POLICY_DENIED", "does not allow cancel")
    )


async def _require_ticket(context: DemoContext) -> None:
    reason_alone = {"reason": JUSTIFICATION["reason"]}
    await _expect_error(context, "oncall", "prod-1", reason_alone, ("POLICY_DENIED", "A ticket is required"))


async def _cancel_to_the_end(context: DemoContext) -> None:
    context.screen.call("oncall", "CancelUpdateAndWatch", _arguments("prod-1", JUSTIFICATION))
    rows: list[WatchRow] = []
    stream = context.client.cancel_and_watch("oncall", "prod-1", request_id="demo-1", **JUSTIFICATION)
    with context.screen.watch_rows() as show:
        async for message in stream:
            if _kind_name(message.watch) != "HEARTBEAT":
                if message.HasField("cancellation"):
                    rows.append(_row("CANCELLATION", message.cancellation))
                else:
                    rows.append(_row(_kind_name(message.watch), message.watch))
                show(rows[-1])
    statuses = list(dict.fromkeys(row.update for row in rows))
    expect(statuses == ["InProgress", "Cancelling", "Cancelled"], f"the statuses are {', '.join(statuses)}")
    expect((rows[-1].message, rows[-1].phase) == ("FINAL", "CANCELLED"), f"the last message is {rows[-1]}")
    context.screen.answer("OK: EKS reports the update as Cancelled.")


async def _cancel_too_late(context: DemoContext) -> None:
    error = await _expect_error(
        context, "oncall", "prod-2", JUSTIFICATION, ("EKS_INVALID_STATE", "already begun")
    )
    phase = error.metadata.get("phase", "")
    expect(phase == "TOO_LATE", f"the phase is {phase or 'missing'}, not TOO_LATE")
    context.screen.detail(f"Phase {phase}: the control plane has begun, and EKS cannot stop that.")


async def _resume_after_kill(context: DemoContext) -> None:
    """The gateway is killed after Cancelling; the next gateway sends the end of the same watch."""
    context.screen.call("oncall", "CancelUpdate", "staging-1")
    await context.client.cancel("oncall", "staging-1")
    context.screen.call("viewer", "WatchUpdate", "staging-1, by eksgateway.client")
    states: list[Knowledge] = []
    with context.screen.watch_rows() as show:
        async with aclosing(context.client.watch("viewer", "staging-1")) as stream:
            async for state in stream:
                states.append(state)
                show(_row("FINAL" if state.final else f"number {state.sequence}", state))
                if state.update.status == "Cancelling":
                    show(WatchRow("killed:", "the gateway", "", ""))
                    await context.sandbox.gateways[0].kill()
                    await context.sandbox.gateways[0].start()
                    show(WatchRow("started:", "another one", "", ""))
    statuses, numbers = [each.update.status for each in states], [each.sequence for each in states]
    expect(statuses[-2:] == ["Cancelling", "Cancelled"], f"the statuses are {', '.join(statuses)}")
    expect(numbers == list(range(1, len(states) + 1)), f"the numbers are {numbers}")
    context.screen.answer(f"OK: number {numbers[-1]} follows {numbers[-2]}; no state is lost or repeated.")


async def _show_history(context: DemoContext) -> None:
    screen, ledger = context.screen, context.sandbox.folder.ledger

    async def read() -> list[Denial]:
        return list(read_denials(ledger))

    # Denials are written in batches, a moment after the calls.
    denials = await poll(read, lambda found: len(found) >= 3)
    for denial in denials:
        cluster, reasons = denial.request.ref.cluster.name, " ".join(denial.decision.reasons)
        screen.detail(f"{_short_name(denial.caller.id):<8}  {cluster}  denied: {reasons}")
    screen.call("oncall", "ListCancellations")
    cancellations = await poll(lambda: context.client.history("oncall"), _are_final)
    for each in cancellations:
        why = f"{each.reason}, {each.ticket}; " if each.ticket else ""
        screen.detail(
            f"{_short_name(each.caller):<8}  {each.cluster.name}  {phase_name(each.phase)} ({why}by grant"
            f" {', '.join(each.decision.rule_ids)})"
        )
    phases = {each.cluster.name: phase_name(each.phase) for each in cancellations}
    expected = {"prod-1": "CANCELLED", "prod-2": "TOO_LATE", "staging-1": "CANCELLED"}
    expect(phases == expected, f"the phases are {phases}")
    report = verify(ledger)
    expect(report.broken is None, f"the ledger is broken at {report.broken}")
    screen.answer(f"Verified: {report.events} events, {report.cancellations} cancellations. Chain head:")
    screen.detail(str(report.head))


_SCENES: Final[tuple[Scene[DemoContext], ...]] = (
    ("An outsider is denied, with the reason", _deny_outsider),
    ("A viewer may watch, but not cancel", _let_viewer_watch),
    ("On production, the on-call engineer needs a ticket", _require_ticket),
    ("With a ticket, the on-call engineer cancels and watches the update end", _cancel_to_the_end),
    ("On another cluster the cancel comes too late", _cancel_too_late),
    ("The gateway is killed; a watch goes on with the next one", _resume_after_kill),
    ("The ledger has recorded all of it", _show_history),
)


async def _expect_error(
    context: DemoContext, caller: str, cluster: str, justification: dict[str, str], expected: tuple[str, str]
) -> ErrorReport:
    """``expected`` is the error's reason, and a text in its sentences."""
    reason, text = expected
    context.screen.call(caller, "CancelUpdate", _arguments(cluster, justification))
    try:
        await context.client.cancel(caller, cluster, **justification)
    except grpc.aio.AioRpcError as exc:
        error = ErrorReport.of(exc)
    else:
        raise SceneFailed(f"{caller} may cancel on {cluster}")
    context.screen.answer(f"{error.status}, {error.reason}", good=False)
    context.screen.detail(" ".join(error.sentences))
    expect(error.reason == reason, f"the reason is {error.reason}, not {reason}")
    expect(text in " ".join(error.sentences), f"the error lacks: {text}")
    return error


def _arguments(cluster: str, justification: dict[str, str]) -> str:
    return ", ".join([cluster, *(f'{name} "{value}"' for name, value in justification.items())])


def _row(name: str, seen: cancellation_pb2.Cancellation | pb.WatchUpdateResponse | Knowledge) -> WatchRow:
    return WatchRow(name, seen.update.status, seen.update.cancellation.status, phase_name(seen.phase))


def _kind_name(message: pb.WatchUpdateResponse) -> str:
    return pb.WatchKind.Name(message.kind).removeprefix("WATCH_KIND_")


def _are_final(cancellations: list[cancellation_pb2.Cancellation]) -> bool:
    return bool(cancellations) and all(phase_name(each.phase) != "CANCELLING" for each in cancellations)


def _short_name(caller_id: str) -> str:
    return caller_id.rpartition(":")[2]
