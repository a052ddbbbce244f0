"""`eksgateway watch` and `eksgateway cancel` in a shell, and the README's program, against a gateway."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.gateway import Running, running
from support.processes import eksgateway, eventually, program
from support.simulator import SimulatedEks

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    async with SimulatedEks() as eks, running(tmp_path, eks) as here:
        yield here


def shell(gateway: Running, who: str, *groups: str) -> dict[str, str]:
    """The environment of somebody who uses it."""
    return {
        "EKSGATEWAY_ADDRESS": gateway.address,
        "EKSGATEWAY_TOKEN": gateway.issuer.token(who, groups),
        "GATEWAY": gateway.address,
        "VIEWER": gateway.issuer.token(who, groups),
    }


def said(out: str) -> list[list[str]]:
    """The words of each line, without its time."""
    return [line.split()[1:] for line in out.splitlines()]


async def test_watching(gateway: Running) -> None:
    """A line per state, with its number; 0 when the update has ended."""
    update_id = gateway.eks.rollback("prod-1")
    command = eksgateway("watch", "prod-1", update_id)
    async with program(*command, env=shell(gateway, "viewer", "viewers")) as shown:
        await eventually(lambda: "InProgress" in shown.out)
        gateway.eks.set_update("prod-1", update_id, status="Cancelled")
        assert await shown.end() == 0, shown.err
        assert said(shown.out) == [
            ["1", "InProgress"],
            ["2", "Cancelled", "CANCELLED"],
        ]
        assert shown.err == ""


async def test_knowing_too_little(gateway: Running) -> None:
    """It says for how long EKS was not seen."""
    update_id = gateway.eks.rollback("prod-1")
    command = eksgateway("watch", "prod-1", update_id, "--max-age", "0.5")
    async with program(*command, env=shell(gateway, "viewer", "viewers")) as shown:
        await eventually(lambda: "EKS was last seen" in shown.out)


async def test_a_refusal(gateway: Running) -> None:
    """One line, with the policy's own words, and 1."""
    update_id = gateway.eks.rollback("prod-1")
    for command in ("watch", "cancel"):
        async with program(*eksgateway(command, "prod-1", update_id), env=shell(gateway, "nobody")) as shown:
            assert await shown.end() == 1
            assert shown.out == "PERMISSION_DENIED, POLICY_DENIED: You have no grant on this cluster.\n"


async def test_cancelling(gateway: Running, tmp_path: Path) -> None:
    """What became of it, and under which ids; the token may come from a file."""
    update_id = gateway.eks.rollback("staging-1")
    environment = shell(gateway, "oncall", "oncall")
    (tmp_path / "token").write_text(environment.pop("EKSGATEWAY_TOKEN") + "\n")
    options = ("--reason", "bad AMI", "--request-id", "mine", "--token-file", str(tmp_path / "token"))
    async with program(*eksgateway("cancel", "staging-1", update_id, *options), env=environment) as shown:
        assert await shown.end() == 0, shown.out + shown.err
        assert re.fullmatch(r"CANCELLING  cancellation [0-9a-f-]{36}, request mine\n", shown.out)


async def test_fields_at_fault_are_named(gateway: Running) -> None:
    """With what is wrong with each."""
    command = eksgateway("cancel", "prod-1", "u-1", "--ticket", "T-1", "--reason", "two\nlines")
    async with program(*command, env=shell(gateway, "oncall", "oncall")) as shown:
        assert await shown.end() == 1
        assert shown.out.startswith("INVALID_ARGUMENT, REQUEST_INVALID: ")
        assert " reason: " in shown.out


async def test_a_cancel_without_an_answer(gateway: Running) -> None:
    """It says what to ask again with, since a new request would be another one."""
    environment = shell(gateway, "oncall", "oncall") | {"EKSGATEWAY_ADDRESS": "127.0.0.1:1"}
    async with program(*eksgateway("cancel", "prod-1", "u-1"), env=environment) as shown:
        assert await shown.end() == 1
        assert shown.out.startswith("UNAVAILABLE: ")
        assert re.search(r"--request-id [0-9a-f-]{36}\n$", shown.out)


async def test_a_gateway_out_of_reach(gateway: Running) -> None:
    """Whoever waits for it sees why."""
    environment = shell(gateway, "viewer", "viewers") | {"EKSGATEWAY_ADDRESS": "127.0.0.1:1"}
    async with program(*eksgateway("watch", "prod-1", "u-1"), env=environment) as shown:
        await eventually(lambda: "trying again in" in shown.err)
        assert shown.err.startswith("eksgateway: UNAVAILABLE: ")
        assert shown.out == ""


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        pytest.param(("--token-file", "missing"), "--token-file missing: cannot be read", id="token"),
        pytest.param(("--ca", "missing"), "missing: cannot be read", id="ca"),
    ],
)
async def test_options_that_do_not_fit(options: tuple[str, ...], fault: str) -> None:
    """One line says which, and nothing is called."""
    async with program(*eksgateway("watch", "prod-1", "u-1", *options)) as shown:
        assert await shown.end() == 1
        assert shown.err.startswith(f"eksgateway: {fault}")
        assert shown.err.count("\n") == 1


async def test_the_program_in_the_readme(gateway: Running) -> None:
    """Copied as it stands, it watches to the end."""
    update_id = gateway.eks.rollback("prod-1", update_id="rollback-prod-1")
    source = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    environment = shell(gateway, "viewer", "viewers")
    async with program(sys.executable, "-W", "error", "-u", "-c", source, env=environment) as shown:
        await eventually(lambda: "InProgress" in shown.out or shown.process.returncode is not None)
        gateway.eks.set_update("prod-1", update_id, status="Successful")
        assert await shown.end() == 0, shown.err
        assert shown.out == "1 InProgress fresh\n2 Successful fresh\n"
        assert shown.err == ""
