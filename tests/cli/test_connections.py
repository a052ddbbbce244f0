"""TLS and tokens of commands, against a gateway."""

from __future__ import annotations

import ipaddress
import os
import shlex
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from eksgateway.cli.exit_codes import CREDENTIALS, CommandError
from eksgateway.cli.token_sources import TokenCommand
from support.authority import SERVER, Authority, Shape
from support.gateway import RunningGateway, run_gateway
from support.mtls import DATA, build_listeners
from support.processes import RunningProgram, eksgateway_command, run_program
from support.shell_user import empty_home, user_of
from support.simulator import SimulatedEks
from support.waiting import wait_until

EVERYWHERE = x509.IPAddress(ipaddress.ip_address("0.0.0.0"))  # it leads to this machine, and is not loopback


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks) as here:
        yield here


async def get(environment: dict[str, str], *options: str) -> tuple[int, RunningProgram]:
    """Exit code and output of a GetUpdate."""
    command = eksgateway_command("get", "staging-1", "u-1", "--timeout", "20", *options)
    async with run_program(*command, env=environment) as shown:
        return await shown.end(), shown


async def test_another_machine_is_called_over_tls_with_the_systems_roots(tmp_path: Path) -> None:
    """SSL_CERT_FILE replaces them, and so does --ca."""
    authority = Authority()
    listeners = build_listeners(tmp_path, authority, "jwt")
    authority.issue(Shape(names=(EVERYWHERE,), extended=(SERVER,))).write(tmp_path)
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks, listeners=listeners) as here:
        eks.rollback("staging-1", update_id="u-1")
        address = here.address.replace("127.0.0.1", "0.0.0.0")
        user = user_of(here, "oncall", "oncall") | {"EKSGATEWAY_ADDRESS": address}
        ca = str(tmp_path / "ca.crt")
        code, shown = await get(user)
        assert code == 5
        assert "is from no CA in this bundle" in shown.err
        assert (await get(user | {"SSL_CERT_FILE": ca}))[0] == 0
        assert (await get(user, "--ca", ca))[0] == 0
        assert (await get(user | {"EKSGATEWAY_CA": ca}))[0] == 0


async def test_another_machine_is_called_in_plaintext_only_in_so_many_words(tmp_path: Path) -> None:
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks) as here:
        eks.rollback("staging-1", update_id="u-1")
        address = here.address.replace("127.0.0.1", "0.0.0.0")
        user = user_of(here, "oncall", "oncall") | {"EKSGATEWAY_ADDRESS": address}
        code, shown = await get(user)
        assert code == 5
        assert "no TLS is spoken there" in shown.err
        assert (await get(user, "--plaintext"))[0] == 0
        assert (await get(user | {"EKSGATEWAY_PLAINTEXT": "1"}))[0] == 0


async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    """From a context too; without one the hint names the cause."""
    authority = Authority()
    listeners = build_listeners(tmp_path, authority, "mtls")
    (folder := tmp_path / "own").mkdir()
    authority.issue().write(folder)
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks, data=DATA, listeners=listeners) as here:
        eks.rollback("staging-1", update_id="u-1")
        (tmp_path / "config.yaml").write_text(
            f"contexts:\n  mesh: {{address: '{here.address}', ca: ca.crt, certificate: own/tls.crt,"
            " key: own/tls.key}\n"
        )
        code, shown = await get({"EKSGATEWAY_CONFIG": str(tmp_path / "config.yaml")}, "--context", "mesh")
        assert code == 0, shown.err


def script(folder: Path, body: str) -> str:
    """A token command that runs Python code."""
    path = folder / "print_token.py"
    path.write_text(body)
    return shlex.join([sys.executable, str(path)])


async def test_a_token_command_gives_the_token(gateway: RunningGateway, tmp_path: Path) -> None:
    """What it writes to standard error is shown, and a context may name it."""
    gateway.eks.rollback("staging-1", update_id="u-1")
    token = gateway.issuer.token("oncall", ["oncall"])
    command = script(
        tmp_path, f"import sys; print('open \\x1b[2J this page', file=sys.stderr); print('{token}')"
    )
    user = {"EKSGATEWAY_ADDRESS": gateway.address, **empty_home(tmp_path)}
    code, shown = await get(user, "--token-command", command)
    assert code == 0, shown.err
    assert shown.err == "open  [2J this page\n"
    assert (await get(user | {"EKSGATEWAY_TOKEN_COMMAND": command}))[0] == 0
    (tmp_path / "config.yaml").write_text(
        f"current: a\ncontexts:\n  a: {{address: '{gateway.address}', token_command: '{command}'}}\n"
    )
    assert (await get({"EKSGATEWAY_CONFIG": str(tmp_path / "config.yaml")}))[0] == 0


async def test_a_token_command_is_asked_again_when_its_token_has_expired(tmp_path: Path) -> None:
    """While a watch is open, and not for each of its streams."""
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks) as here:
        update_id = eks.rollback("staging-1")
        short = here.issuer.token("oncall", ["oncall"], lifetime=timedelta(seconds=3))
        command = script(
            tmp_path,
            "import pathlib\n"
            f"asked = pathlib.Path({str(tmp_path / 'asked')!r})\n"
            "with asked.open('a') as file: file.write('.')\n"
            f"print({short!r} if len(asked.read_text()) == 1"
            f" else {here.issuer.token('oncall', ['oncall'])!r})\n",
        )
        user = {"EKSGATEWAY_ADDRESS": here.address, **empty_home(tmp_path)}
        words = ("watch", "staging-1", update_id, "--token-command", command)
        async with run_program(*eksgateway_command(*words), env=user) as shown:
            await wait_until(
                lambda: (tmp_path / "asked").exists() and (tmp_path / "asked").read_text() == ".."
            )
            await wait_until(lambda: "trying again" in shown.err)
            eks.set_update("staging-1", update_id, status="Cancelled")
            assert await shown.end() == 0, shown.err
        assert (tmp_path / "asked").read_text() == ".."


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("false", "token command: failed with exit code 1: false"),
        ("true", "token command: is empty"),
        (
            "no-such-program --x",
            "token command: cannot be run (No such file or directory): no-such-program --x",
        ),
        ("echo two words", "token command: is not a token"),
        ("echo 'open", "--token-command: cannot be split into words"),
    ],
)
async def test_a_token_command_that_fails_is_named(tmp_path: Path, command: str, fault: str) -> None:
    """With the exit code for credentials, except where the option itself is wrong."""
    user = {"EKSGATEWAY_ADDRESS": "127.0.0.1:1", **empty_home(tmp_path)}
    code, shown = await get(user, "--token-command", command)
    assert code == (4 if fault.startswith("token") else 2)
    assert shown.err.startswith(f"eksgateway: {fault}")
    assert shown.err.count("\n") == 1


async def test_a_token_command_runs_without_a_shell_and_without_input() -> None:
    """A command in a loop must not read the loop's input."""
    assert await TokenCommand(("echo", "$HOME;id"), "t", print)() == "$HOME;id"
    with pytest.raises(CommandError, match="is empty"):
        await TokenCommand(("cat",), "t", print)()


async def test_a_token_command_that_hangs_is_ended(tmp_path: Path) -> None:
    """With its exit code; its process is gone."""
    pid = tmp_path / "pid"
    command = ("sh", "-c", f"echo $$ > {pid}; exec sleep 1000")
    with pytest.raises(CommandError, match=r"has not ended after 0\.5 s: sh -c") as caught:
        await TokenCommand(command, "t", print, timeout_s=0.5)()
    assert caught.value.code == CREDENTIALS
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
