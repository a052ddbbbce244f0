"""`eksgateway watch` and `eksgateway cancel` in a shell, and the README's program, against a gateway."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.cancellation_pb2 import Cancellation
from eksgateway.v1.update_pb2 import Update
from support.authority import Authority
from support.certified import listeners
from support.gateway import Running, running
from support.http_proxy import REPLIES, HttpProxy, headers, html
from support.processes import eksgateway, eventually, interruptible, program
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
    """The state stays in each line; for how long EKS was not seen stands beside it."""
    update_id = gateway.eks.rollback("prod-1")
    command = eksgateway("watch", "prod-1", update_id, "--max-age", "0.5")
    async with program(*command, env=shell(gateway, "viewer", "viewers")) as shown:
        await eventually(lambda: "EKS was last seen" in shown.out)
        stale = next(line for line in shown.out.splitlines() if "EKS was last seen" in line)
        assert re.fullmatch(r"[0-9:]{8}    1  InProgress +\(EKS was last seen [0-9]+ s ago\)", stale)


async def test_a_refusal(gateway: Running) -> None:
    """On standard error, with the policy's own words, the decision's id and 1; nothing on standard output."""
    update_id = gateway.eks.rollback("prod-1")
    for command in ("watch", "cancel"):
        async with program(*eksgateway(command, "prod-1", update_id), env=shell(gateway, "nobody")) as shown:
            assert await shown.end() == 1
            assert shown.out == ""
            lines = shown.err.splitlines()[-2:]
            assert lines[0] == "PERMISSION_DENIED, POLICY_DENIED: You have no grant on this cluster."
            assert re.fullmatch(r"decision [0-9a-f-]{36}", lines[1])


async def test_a_refusal_names_the_rules(gateway: Running) -> None:
    command = eksgateway("cancel", "prod-1", "u-1")
    async with program(*command, env=shell(gateway, "oncall", "oncall")) as shown:
        assert await shown.end() == 1
        assert re.search(r"^decision [0-9a-f-]{36}, rules oncall$", shown.err, re.MULTILINE)


@pytest.mark.parametrize("command", ["watch", "cancel"])
async def test_credentials_that_are_refused(gateway: Running, command: str) -> None:
    """They are not tried twice, and have an exit code of their own."""
    environment = shell(gateway, "nobody") | {"EKSGATEWAY_TOKEN": "a.b.c"}
    async with program(*eksgateway(command, "prod-1", "u-1"), env=environment) as shown:
        assert await shown.end() == 4
        assert "UNAUTHENTICATED, CREDENTIALS_INVALID: " in shown.err
        assert "trying again" not in shown.err


@pytest.mark.parametrize("command", ["watch", "cancel"])
async def test_missing_credentials_are_hinted_at(gateway: Running, command: str) -> None:
    """The hint names the variable and the option, because the gateway's sentence is about metadata."""
    environment = {"EKSGATEWAY_ADDRESS": gateway.address, "EKSGATEWAY_TOKEN": ""}
    async with program(*eksgateway(command, "prod-1", "u-1"), env=environment) as shown:
        assert await shown.end() == 4
        assert "set EKSGATEWAY_TOKEN to a bearer token" in shown.err.splitlines()[-1]


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
        assert re.search(r"^INVALID_ARGUMENT, REQUEST_INVALID: .* reason: ", shown.err, re.MULTILINE)


async def test_a_cancel_without_an_answer(gateway: Running) -> None:
    """It goes on for its timeout, and then names the command that asks for the same request again."""
    environment = shell(gateway, "oncall", "oncall") | {"EKSGATEWAY_ADDRESS": "127.0.0.1:1"}
    command = eksgateway("cancel", "prod-1", "u-1", "--reason", "bad AMI", "--timeout", "3")
    async with program(*command, env=environment) as shown:
        assert await shown.end() == 5
        assert shown.out == ""
        assert "\nUNAVAILABLE: " in shown.err
        again = r"eksgateway cancel prod-1 u-1 --reason 'bad AMI' --timeout 3 --request-id ([0-9a-f-]{36})"
        first, last = re.findall(again, shown.err)
        assert first == last


async def test_an_interrupted_cancel(gateway: Running) -> None:
    """The request's id was printed before the call, and asks for the same request again."""
    update_id = gateway.eks.rollback("staging-1")
    gateway.eks.fault("CancelUpdate", delay_s=2, times=1)
    environment = shell(gateway, "oncall", "oncall")
    command = interruptible(*eksgateway("cancel", "staging-1", update_id))
    async with program(*command, env=environment) as shown:
        await eventually(lambda: gateway.eks.calls("CancelUpdate"))
        shown.process.send_signal(signal.SIGINT)
        assert await shown.end() == 130
        assert (shown.out, shown.err.count("\n")) == ("", 1)
    again = shlex.split(shown.err.partition("for the same one: ")[2])
    assert again[:4] == ["eksgateway", "cancel", "staging-1", update_id]
    async with program(*eksgateway(*again[1:]), env=environment) as shown:
        assert await shown.end() == 0
        assert shown.out.startswith("CANCELLING ")
        assert shown.out.endswith(f"request {again[-1]}\n")
    assert len(gateway.eks.calls("CancelUpdate")) == 1


async def test_an_update_that_was_watched_is_interrupted(gateway: Running) -> None:
    update_id = gateway.eks.rollback("prod-1")
    command = eksgateway("watch", "prod-1", update_id)
    async with program(*interruptible(*command), env=shell(gateway, "viewer", "viewers")) as shown:
        await eventually(lambda: "InProgress" in shown.out)
        shown.process.send_signal(signal.SIGINT)
        assert await shown.end() == 130
        assert shown.err == ""


async def test_a_cancel_over_a_restart(tmp_path: Path) -> None:
    """It is tried within its timeout while the only gateway is away."""
    async with SimulatedEks() as eks:
        update_id = eks.rollback("staging-1")
        async with running(tmp_path, eks) as first:
            environment = shell(first, "oncall", "oncall")
            address, issuer = first.address, first.issuer
        async with program(*eksgateway("cancel", "staging-1", update_id), env=environment) as shown:
            await eventually(lambda: shown.err.count("trying again") >= 3)
            async with running(tmp_path, eks, issuer=issuer, listeners=[{"address": address}]):
                assert await shown.end() == 0, shown.err
                assert shown.out.startswith("CANCELLING  cancellation ")


@pytest.mark.parametrize("name", ["502", "no trailers", "OK with garbage", "details that do not parse"])
async def test_a_proxy_that_answers(name: str) -> None:
    """The command ends, with the proxy's words and no traceback."""
    async with HttpProxy(always=REPLIES[name]) as proxy:
        command = eksgateway("cancel", "prod-1", "u-1", "--timeout", "3")
        async with program(*command, env={"EKSGATEWAY_ADDRESS": proxy.address}) as shown:
            assert await shown.end() == 5, shown.err
            assert "trying again" in shown.err
            assert "Traceback" not in shown.err
            assert shown.out == ""


NEWER: Any = 99  # a phase that this version has no name for
CANCELLATION = Cancellation(cancellation_id="c-1", request_id="r-1", phase=NEWER)
STATE = pb.WatchUpdateResponse(
    kind=pb.WATCH_KIND_FINAL, update=Update(status="\x1b[2JCancelled"), phase=NEWER, sequence=1
)


@pytest.mark.parametrize(
    ("command", "message", "out"),
    [
        ("cancel", pb.CancelUpdateResponse(cancellation=CANCELLATION), "phase 99  cancellation c-1"),
        ("watch", STATE, "    1   [2JCancelled              phase 99"),
    ],
    ids=["cancel", "watch"],
)
async def test_a_newer_gateway(command: str, message: Message, out: str) -> None:
    """A phase without a name is shown as its number; nothing that a terminal would obey is printed."""
    reply = headers(("grpc-status", "0"), message=message.SerializeToString())
    async with HttpProxy(always=reply) as proxy:
        environment = {"EKSGATEWAY_ADDRESS": proxy.address}
        async with program(*eksgateway(command, "prod-1", "u-1"), env=environment) as shown:
            assert await shown.end() == 0, shown.err
            assert out in shown.out


async def test_a_refusal_that_a_proxy_has_replaced(gateway: Running) -> None:
    """A denial is not tried for ever where a proxy makes a page of it."""
    update_id = gateway.eks.rollback("prod-1")
    async with HttpProxy(gateway.address) as proxy:
        proxy.refused = html(502)
        for command in ("watch", "cancel"):
            environment = shell(gateway, "nobody") | {"EKSGATEWAY_ADDRESS": proxy.address}
            async with program(*eksgateway(command, "prod-1", update_id), env=environment) as shown:
                assert await shown.end() == 5
                assert "the gateway serves, and something on the way (a proxy) replaces" in shown.err


@pytest.mark.parametrize(
    "address", ["no-such-host.invalid:50051", "127.0.0.1:99999", "http://127.0.0.1:50051", "gateway.example"]
)
@pytest.mark.parametrize("command", ["watch", "cancel"])
async def test_an_address_that_is_none(command: str, address: str) -> None:
    """It is not tried for ever, and the hint says what to correct."""
    options = (command, "prod-1", "u-1", "--address", address)
    async with program(*eksgateway(*options)) as shown:
        assert await shown.end() in (1, 5)
        assert "the host's name is not known" in shown.err or "write it as host:port" in shown.err
        assert "Traceback" not in shown.err


async def test_tls_that_does_not_fit(tmp_path: Path) -> None:
    """Without --ca, with another CA, and in the place of plaintext: each ends with a hint."""
    authority = Authority()
    (tmp_path / "other.crt").write_bytes(Authority("other").certificate)
    made = [*listeners(tmp_path, authority, "jwt"), {"address": "127.0.0.1:0"}]
    async with SimulatedEks() as eks, running(tmp_path, eks, listeners=made) as gateway:
        secured, plain = (each.address for each in gateway.gateway.listeners)
        for address, ca, hint in (
            (secured, None, "TLS is spoken there"),
            (secured, "other.crt", "is from no CA in this bundle"),
            (plain, "ca.crt", "no TLS is spoken there"),
        ):
            options = ("--address", address, *(("--ca", str(tmp_path / ca)) if ca else ()))
            async with program(*eksgateway("watch", "prod-1", "u-1", *options)) as shown:
                assert await shown.end() == 5
                assert hint in shown.err


async def test_a_gateway_out_of_reach(gateway: Running) -> None:
    """Whoever waits for it sees why."""
    environment = shell(gateway, "viewer", "viewers") | {"EKSGATEWAY_ADDRESS": "127.0.0.1:1"}
    async with program(*eksgateway("watch", "prod-1", "u-1"), env=environment) as shown:
        await eventually(lambda: "trying again in" in shown.err)
        assert shown.err.startswith("eksgateway: UNAVAILABLE: ")
        assert shown.out == ""


@pytest.mark.parametrize(
    ("cluster", "token", "fault"),
    [
        ("prod-1", "t\u00f6ken", "EKSGATEWAY_TOKEN: is no token"),
        ("prod-1", "two\nlines", "EKSGATEWAY_TOKEN: is no token"),
        ("prod-\udcff", "token", "an argument is no text"),
    ],
    ids=["letter", "lines", "argument"],
)
async def test_texts_that_cannot_be_sent(cluster: str, token: str, fault: str) -> None:
    """They are named, without a traceback and without the token."""
    environment = {"EKSGATEWAY_TOKEN": token, "EKSGATEWAY_ADDRESS": "127.0.0.1:1"}
    async with program(*eksgateway("cancel", cluster, "u-1"), env=environment) as shown:
        assert await shown.end() == 1
        assert shown.err.splitlines()[-1].startswith(f"eksgateway: {fault}")
        assert token not in shown.err
        assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        pytest.param(
            ("--token-file", "missing"), "--token-file missing: cannot be read: No such file", id="token"
        ),
        pytest.param(
            ("--token-file", sys.executable), f"--token-file {sys.executable}: holds no text", id="binary"
        ),
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
