"""What is the synchronous client's own: threads, signals, forks, and the end of a process."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from eksgateway.client import sync
from eksgateway.v1 import cancellation_pb2 as cpb
from support.client_twins import OPTIONS, QUICK
from support.gateway import RunningGateway, run_gateway
from support.processes import RunningProgram, restore_signals, run_program
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import Gate, add_hooks

START = """
import os, sys, threading, time
from eksgateway.client.sync import Channels, cancel, cancel_and_watch, watch
address, update_id, token = sys.argv[1:]
channels = Channels(address)
options = {"credentials": lambda: token}
def start_watch():
    return watch(channels, "staging-1", update_id, **options)
def cancel_update():
    return cancel(channels, "staging-1", update_id, **options)
"""


def credentials(gateway: RunningGateway) -> dict[str, Any]:
    token = gateway.issuer.token("oncall", ("oncall",))
    return {"credentials": lambda: token, "timing": QUICK}


def command(gateway: RunningGateway, update_id: str, code: str) -> tuple[str, ...]:
    """A program with the code after START."""
    token = gateway.issuer.token("oncall", ("oncall",))
    program = START + textwrap.dedent(code)
    return (sys.executable, "-W", "error", "-c", program, gateway.address, update_id, token)


async def run_to_end(gateway: RunningGateway, update_id: str, code: str, **env: str) -> RunningProgram:
    quiet = {"GRPC_VERBOSITY": "NONE"}  # else core reports each fork
    async with run_program(*command(gateway, update_id, code), env=quiet | env) as program:
        await program.end()
    return program


@contextmanager
def open_channels(gateway: RunningGateway) -> Iterator[sync.Channels]:
    """Closed on another thread, because the gateway's loop is this one's."""
    channels = sync.Channels(gateway.address, options=OPTIONS)
    try:
        yield channels
    finally:
        channels.close()


@pytest.mark.parametrize(
    "code",
    [
        "for known in start_watch(): print('state', flush=True)",
        "cancel_update()",
    ],
    ids=["watch", "cancel"],
)
async def test_keyboard_interrupt_ends_a_call_at_once(tmp_path: Path, eks: SimulatedEks, code: str) -> None:
    """The gateway sees the call end, and the program goes on."""
    update_id, gate = eks.rollback("staging-1"), Gate()
    program = f"""
        try:
            print("begins", flush=True)
            {code}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            sys.stdin.read()
    """
    async with run_gateway(tmp_path, eks, wrap_eks=add_hooks(cancel_update=gate)) as gateway:
        async with run_program(*restore_signals(*command(gateway, update_id, program))) as running:
            await wait_until(lambda: "state" in running.out or gate.entered or running.process.returncode)
            running.process.send_signal(signal.SIGINT)
            await wait_until(lambda: "interrupted" in running.out or running.process.returncode)
            await wait_until(lambda: not gateway.gateway.watches.watchers)
            assert running.err == ""
        gate.open()


async def test_process_ends_with_open_calls(gateway: RunningGateway) -> None:
    """On the main thread, on daemon threads, and without closing anything."""
    update_id = gateway.eks.rollback("staging-1")
    program = await run_to_end(
        gateway,
        update_id,
        """
        first = start_watch()
        print(next(first).sequence)
        begun = threading.Event()
        def read():
            for _ in start_watch():
                begun.set()
        threading.Thread(target=read, daemon=True).start()
        begun.wait(60)
        """,
    )
    assert (program.process.returncode, program.out, program.err) == (0, "1\n", "")
    await wait_until(lambda: not gateway.gateway.watches.watchers)


async def test_error_that_ends_a_program_is_its_only_output(gateway: RunningGateway) -> None:
    program = await run_to_end(gateway, "0-0", "for _ in start_watch(): pass")
    assert program.process.returncode == 1
    assert "EKS does not know" in program.err or "NOT_FOUND" in program.err
    assert program.err.count("Traceback") == 1
    assert "never" not in program.err


async def test_forked_child_of_a_user_is_refused_and_its_parent_goes_on(gateway: RunningGateway) -> None:
    """gRPC hangs in such a child, or crashes it by handlers of its own, which the variable turns off.

    A child of a process that has not used the client may use it.
    """
    update_id = gateway.eks.rollback("staging-1")
    code = """
    def fork(run):
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            try:
                run()
            except RuntimeError as exc:
                print(str(exc)[:23], flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
    fork(lambda: print("child", next(start_watch()).sequence, flush=True))
    states = start_watch()
    print("parent", next(states).sequence)
    fork(lambda: next(start_watch()))
    fork(states.close)
    print("parent", cancel_update().phase)
    """
    program = await run_to_end(gateway, update_id, code, GRPC_ENABLE_FORK_SUPPORT="0")
    assert (program.process.returncode, program.err) == (0, "")
    assert (
        program.out
        == f"child 1\nparent 1\nthis process was forked\nparent {cpb.CANCELLATION_PHASE_CANCELLING}\n"
    )


async def test_many_threads_use_the_same_channels(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("staging-1", node_replacing_s=60)
    begun = threading.Barrier(21)

    def read(channels: sync.Channels) -> list[int]:
        with sync.watch(channels, "staging-1", update_id, **credentials(gateway)) as states:
            found = [next(states).sequence]
            begun.wait(60)
            return found + [known.sequence for known in states]

    with ThreadPoolExecutor(21) as threads, open_channels(gateway) as channels:
        loop = asyncio.get_running_loop()
        reads = [loop.run_in_executor(threads, read, channels) for _ in range(20)]
        await loop.run_in_executor(threads, begun.wait, 60)
        gateway.eks.set_update("staging-1", update_id, status="Successful")
        assert await asyncio.gather(*reads) == [[1, 2]] * 20


async def test_iterator_that_is_left_or_closed_ends_its_call(gateway: RunningGateway) -> None:
    """By close, by its context, by the last reference, and by the garbage collector."""
    update_id = gateway.eks.rollback("staging-1")
    options = credentials(gateway)

    def leave(how: str) -> None:
        states = sync.watch(channels, "staging-1", update_id, **options)
        if how == "close":
            next(states)
            states.close()
            states.close()
            assert list(states) == []
        elif how == "context":
            with states:
                next(states)
        elif how == "reference":
            for _ in states:
                break
        else:
            next(states)
            states.cycle = states  # type: ignore[attr-defined]
            del states
            gc.collect()

    with open_channels(gateway) as channels:
        for how in ("close", "context", "reference", "collector"):
            await asyncio.to_thread(leave, how)
            await wait_until(lambda: not gateway.gateway.watches.watchers)


async def test_closing_by_another_thread_ends_the_readers_loop(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("staging-1")
    with open_channels(gateway) as channels:
        states = sync.watch(channels, "staging-1", update_id, **credentials(gateway))
        received: list[int] = []
        reading = asyncio.create_task(
            asyncio.to_thread(lambda: received.extend(known.sequence for known in states))
        )
        await wait_until(lambda: received)
        await asyncio.to_thread(states.close)
        await asyncio.wait_for(reading, 60)
    assert received == [1]


async def test_closed_channels_are_refused(gateway: RunningGateway) -> None:
    with open_channels(gateway) as channels:
        pass
    with pytest.raises(ValueError, match="closed"):
        sync.cancel(channels, "staging-1", "u-1")


async def test_slow_credentials_hold_up_their_own_call_only(gateway: RunningGateway) -> None:
    """They run on a thread, in the caller's context."""
    update_id = gateway.eks.rollback("staging-1")
    token = gateway.issuer.token("oncall", ("oncall",))
    user: ContextVar[str] = ContextVar("user", default="unset")
    asked, allowed = threading.Event(), threading.Event()
    seen: list[str] = []

    def wait_for_token() -> str:
        seen.append(user.get())
        asked.set()
        assert allowed.wait(60)
        return token

    def cancel() -> str:
        user.set("caller")
        return sync.cancel(channels, "staging-1", update_id, credentials=wait_for_token).request_id

    def read_first() -> int:
        with sync.watch(channels, "staging-1", update_id, **credentials(gateway)) as states:
            return next(states).sequence

    with open_channels(gateway) as channels:
        slow = asyncio.create_task(asyncio.to_thread(cancel))
        await asyncio.to_thread(asked.wait, 60)
        assert await asyncio.to_thread(read_first) == 1
        allowed.set()
        assert await asyncio.wait_for(slow, 60)
    assert seen == ["caller"]


@pytest.mark.parametrize("error", [LookupError, SystemExit, StopIteration], ids=lambda it: it.__name__)
async def test_error_of_the_credentials_is_raised(
    gateway: RunningGateway, error: type[BaseException]
) -> None:
    def fail() -> str:
        raise error("no token today")

    expected = error if error is LookupError else RuntimeError
    with open_channels(gateway) as channels, pytest.raises(expected, match="no token today"):
        await asyncio.to_thread(sync.cancel, channels, "staging-1", "u-1", credentials=fail)


class KeptToken:
    """Credentials that keep an expired token until they must renew it."""

    def __init__(self, expired: str, good: str) -> None:
        self.token, self._good = expired, good

    def __call__(self) -> str:
        return self.token

    def renew(self) -> str:
        self.token = self._good
        return self.token


async def test_expired_token_is_renewed(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("staging-1")
    good = gateway.issuer.token("oncall", ("oncall",))
    kept = KeptToken(gateway.issuer.token("oncall", ("oncall",), exp=1), good)
    with open_channels(gateway) as channels:
        done = await asyncio.to_thread(
            sync.cancel, channels, "staging-1", update_id, credentials=kept, timing=QUICK
        )
    assert (done.caller, kept.token) == ("jwt:test:oncall", good)
