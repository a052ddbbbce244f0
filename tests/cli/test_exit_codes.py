"""Each exit code of the commands that call a gateway, as the help has them."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from eksgateway.cli.exit_codes import MEANINGS
from support.gateway import RunningGateway, run_gateway
from support.processes import eksgateway_command, is_alive, restore_signals, run_program
from support.shell_user import empty_home, user_of
from support.simulator import SimulatedEks
from support.waiting import wait_until

CALLS = ("cancel", "check", "get", "list", "cancellable", "watch", "history", "show")
CLUSTER, UPDATE = "staging-1", "u-1"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks) as here:
        eks.rollback(CLUSTER, update_id=UPDATE)
        yield here


def oncall(gateway: RunningGateway) -> dict[str, str]:
    return user_of(gateway, "oncall", "oncall")


@pytest.mark.parametrize("command", CALLS)
async def test_the_help_of_each_command_has_the_exit_codes(command: str) -> None:
    async with run_program(*eksgateway_command(command, "--help")) as shown:
        assert await shown.end() == 0
        lines = [line.split() for line in shown.out.partition("Exit codes:")[2].splitlines() if line]
        assert [int(first) for first, *_ in lines] == list(MEANINGS) == [0, 1, 2, 3, 4, 5, 124, 130]


@pytest.mark.parametrize(
    ("status", "words", "code"),
    [
        ("Cancelled", ("cancel", "--watch"), 0),
        ("Successful", ("cancel", "--watch"), 3),
        ("Failed", ("cancel", "--watch"), 3),
        ("Cancelled", ("watch",), 0),
        ("Successful", ("watch",), 0),
        ("Failed", ("watch",), 3),
        ("Failed", ("watch", "--for", "ended"), 0),
        ("Cancelled", ("watch", "--for", "successful"), 3),
        ("Successful", ("watch", "--for", "cancelled"), 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
async def test_a_wait_that_ends_otherwise_is_code_3(
    gateway: RunningGateway, status: str, words: tuple[str, ...], code: int
) -> None:
    """The end is explained on standard error."""
    command, *options = words
    async with run_program(
        *eksgateway_command(command, CLUSTER, UPDATE, *options), env=oncall(gateway)
    ) as shown:
        await wait_until(lambda: "  InProgress  " in shown.out or " 1  " in shown.out)
        gateway.eks.set_update(CLUSTER, UPDATE, status=status)
        assert await shown.end() == code, shown.err
        assert (f"the update has ended {status}" in shown.err) == (code == 3)


async def test_a_watch_of_a_cancel_that_did_not_stop_the_update_is_code_3(gateway: RunningGateway) -> None:
    """Though the update was Successful."""
    async with run_program(*eksgateway_command("cancel", CLUSTER, UPDATE), env=oncall(gateway)) as shown:
        assert await shown.end() == 0, shown.err
    gateway.eks.set_update(CLUSTER, UPDATE, status="Successful")
    async with run_program(*eksgateway_command("watch", CLUSTER, UPDATE), env=oncall(gateway)) as shown:
        assert await shown.end() == 3
        assert "the cancel did not stop it" in shown.err


@pytest.mark.parametrize("command", CALLS)
async def test_refused_calls_are_code_1(gateway: RunningGateway, command: str) -> None:
    """By the policy, or because it does not exist."""
    arguments = {"cancellable": (), "list": (CLUSTER,), "history": (CLUSTER,), "show": ("none",)}
    words = (command, *arguments.get(command, (CLUSTER, UPDATE)))
    async with run_program(*eksgateway_command(*words), env=user_of(gateway, "nobody")) as shown:
        code = await shown.end()
        if command == "history":  # one's own may always be read
            assert code == 0
        else:
            assert (code, shown.out) == (1, ""), shown.err


@pytest.mark.parametrize(
    "words",
    [
        ("get", CLUSTER),
        ("get", CLUSTER, UPDATE, "-o", "xml"),
        ("cancel", CLUSTER, UPDATE, "--timeout", "soon"),
        ("context", "add", "a", "--address", "a:1", "--plaintext", "--ca", "c"),
        ("nap",),
    ],
    ids=" ".join,
)
async def test_usage_errors_are_code_2(words: tuple[str, ...]) -> None:
    async with run_program(*eksgateway_command(*words)) as shown:
        assert await shown.end() == 2


async def test_missing_refused_and_expired_credentials_are_code_4(gateway: RunningGateway) -> None:
    expired = gateway.issuer.token("oncall", ["oncall"], lifetime=timedelta(seconds=-600))
    for token, hint in (("", "set EKSGATEWAY_TOKEN"), ("a.b.c", "get a token"), (expired, "get a new token")):
        for command in ("get", "watch", "cancel"):
            environment = oncall(gateway) | {"EKSGATEWAY_TOKEN": token}
            async with run_program(*eksgateway_command(command, CLUSTER, UPDATE), env=environment) as shown:
                assert await shown.end() == 4, shown.err
                assert hint in shown.err


@pytest.mark.parametrize("command", ["get", "watch", "cancel", "cancellable"])
async def test_no_gateway_is_code_5(tmp_path: Path, command: str) -> None:
    """Also where connections are accepted and nothing answers."""
    words = (command, *((CLUSTER, UPDATE) if command != "cancellable" else ()), "--timeout", "1.5")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (1, silent.getsockname()[1]):
            environment = {"EKSGATEWAY_ADDRESS": f"127.0.0.1:{port}", **empty_home(tmp_path)}
            async with run_program(*eksgateway_command(*words), env=environment) as shown:
                assert await shown.end() == 5, shown.err
                assert shown.out == ""


@pytest.mark.parametrize("words", [("get",), ("cancel",), ("watch",), ("cancel", "--watch")], ids=" ".join)
async def test_a_timeout_is_code_124(gateway: RunningGateway, words: tuple[str, ...]) -> None:
    """EKS answers too late, or the update does not end in time."""
    if "watch" not in words and "--watch" not in words:
        gateway.eks.fault("*", delay_s=20)
    command, *options = words
    arguments = (command, CLUSTER, UPDATE, *options, "--timeout", "2")
    async with run_program(*eksgateway_command(*arguments), env=oncall(gateway)) as shown:
        assert await shown.end() == 124, shown.err
        assert ("The outcome of request " in shown.err) == (words == ("cancel",))
        assert ("EKS accepted the cancel; " in shown.err) == ("--watch" in words)


@pytest.mark.parametrize("words", [("watch",), ("cancel", "--watch")], ids=" ".join)
async def test_an_interruption_is_code_130(gateway: RunningGateway, words: tuple[str, ...]) -> None:
    command, *options = words
    program = restore_signals(*eksgateway_command(command, CLUSTER, UPDATE, *options))
    async with run_program(*program, env=oncall(gateway)) as shown:
        await wait_until(lambda: " 1  " in shown.out)
        shown.process.send_signal(signal.SIGINT)
        assert await shown.end() == 130
        assert "Traceback" not in shown.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
async def test_a_signal_ends_a_command_as_an_interruption_does(
    gateway: RunningGateway, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Its token command ends too."""
    started = tmp_path / "started"
    waits = f"sh -c 'echo $$ >{started}.new; mv {started}.new {started}; exec sleep 600'"
    words = ("watch", CLUSTER, UPDATE, "--token-command", waits)
    env = {"EKSGATEWAY_ADDRESS": gateway.address, **empty_home(tmp_path)}
    async with run_program(*restore_signals(*eksgateway_command(*words)), env=env) as shown:
        await wait_until(started.exists)
        shown.process.send_signal(number)
        assert await shown.end() == code
        assert "Traceback" not in shown.err
    assert not is_alive(int(started.read_text()))


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-"])
async def test_closed_streams_change_no_exit_code(gateway: RunningGateway, redirection: str) -> None:
    """Nor does one stream get what the other would have got."""
    for update, code in ((UPDATE, 0), ("none", 1)):
        command = shlex.join(eksgateway_command("get", CLUSTER, update))
        async with run_program("sh", "-c", f"{command} {redirection}", env=oncall(gateway)) as shown:
            assert await shown.end() == code, shown.err
            assert bool(shown.out) == (code == 0 and redirection == "2>&-")
            assert bool(shown.err) == (code == 1 and redirection == ">&-")
            assert "Traceback" not in shown.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
@pytest.mark.parametrize("words", [("get", CLUSTER, UPDATE), ("watch", CLUSTER, UPDATE), ("--version",)])
async def test_output_that_cannot_be_written_is_code_1(
    gateway: RunningGateway, words: tuple[str, ...]
) -> None:
    command = shlex.join(eksgateway_command(*words))
    async with run_program("sh", "-c", f"{command} >/dev/full", env=oncall(gateway)) as shown:
        assert await shown.end() == 1
        assert shown.err == "eksgateway: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("seconds", ["inf", "1e300"])
async def test_a_timeout_may_be_as_long_as_one_likes(gateway: RunningGateway, seconds: str) -> None:
    gateway.eks.set_update(CLUSTER, UPDATE, status="Successful")
    for command in ("get", "watch"):
        words = (command, CLUSTER, UPDATE, "--timeout", seconds)
        async with run_program(*eksgateway_command(*words), env=oncall(gateway)) as shown:
            assert await shown.end() == 0
            assert shown.err == ""


async def test_a_reader_that_leaves_ends_a_command_without_a_traceback(gateway: RunningGateway) -> None:
    """As `head` does."""
    program = eksgateway_command("watch", CLUSTER, UPDATE)
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *program, stdout=writing, stderr=asyncio.subprocess.PIPE, env=os.environ | oncall(gateway)
    )
    os.close(writing)
    os.close(reading)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode
    assert b"Traceback" not in err
