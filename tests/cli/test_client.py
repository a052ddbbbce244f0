"""`eksgateway watch` and `eksgateway cancel` against a gateway."""

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
from support.gateway import RunningGateway, run_gateway
from support.http_proxy import REPLIES, HttpProxy, headers, html
from support.mtls import build_listeners
from support.processes import eksgateway_command, restore_signals, run_program
from support.simulator import SimulatedEks
from support.waiting import wait_until


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks) as here:
        yield here


def shell(gateway: RunningGateway, who: str, *groups: str) -> dict[str, str]:
    """A user's environment."""
    return {
        "EKSGATEWAY_ADDRESS": gateway.address,
        "EKSGATEWAY_TOKEN": gateway.issuer.token(who, groups),
        "GATEWAY": gateway.address,
        "VIEWER": gateway.issuer.token(who, groups),
    }


def words(out: str) -> list[list[str]]:
    """The words of each line, without its time."""
    return [line.split()[1:] for line in out.splitlines()]


async def test_watch_prints_each_state(gateway: RunningGateway) -> None:
    """A line per state, with its number; exit code 0 when the update has ended."""
    update_id = gateway.eks.rollback("prod-1")
    command = eksgateway_command("watch", "prod-1", update_id)
    async with run_program(*command, env=shell(gateway, "viewer", "viewers")) as shown:
        await wait_until(lambda: "InProgress" in shown.out)
        gateway.eks.set_update("prod-1", update_id, status="Cancelled")
        assert await shown.end() == 0, shown.err
        assert words(shown.out) == [
            ["1", "InProgress"],
            ["2", "Cancelled", "CANCELLED"],
        ]
        assert shown.err == ""


async def test_watch_marks_stale_states(gateway: RunningGateway) -> None:
    """The line shows the last state, and for how long EKS was not reached."""
    update_id = gateway.eks.rollback("prod-1")
    command = eksgateway_command("watch", "prod-1", update_id, "--max-age", "0.5")
    async with run_program(*command, env=shell(gateway, "viewer", "viewers")) as shown:
        await wait_until(lambda: "EKS was last seen" in shown.out)
        stale = next(line for line in shown.out.splitlines() if "EKS was last seen" in line)
        assert re.fullmatch(r"[0-9:]{8}    1  InProgress +\(EKS was last seen [0-9]+ s ago\)", stale)


async def test_a_denial_is_printed_with_its_decision(gateway: RunningGateway) -> None:
    """On standard error, with the policy's reasons and the decision id; exit code 1."""
    update_id = gateway.eks.rollback("prod-1")
    for command in ("watch", "cancel"):
        async with run_program(
            *eksgateway_command(command, "prod-1", update_id), env=shell(gateway, "nobody")
        ) as shown:
            assert await shown.end() == 1
            assert shown.out == ""
            lines = shown.err.splitlines()[-2:]
            assert lines[0] == "PERMISSION_DENIED, POLICY_DENIED: You have no grant on this cluster."
            assert re.fullmatch(r"decision [0-9a-f-]{36}", lines[1])


async def test_cancel_prints_the_rules_of_a_denial(gateway: RunningGateway) -> None:
    command = eksgateway_command("cancel", "prod-1", "u-1")
    async with run_program(*command, env=shell(gateway, "oncall", "oncall")) as shown:
        assert await shown.end() == 1
        assert re.search(r"^decision [0-9a-f-]{36}, rules oncall$", shown.err, re.MULTILINE)


@pytest.mark.parametrize("command", ["watch", "cancel"])
async def test_refused_credentials_are_not_retried(gateway: RunningGateway, command: str) -> None:
    """They have their own exit code."""
    environment = shell(gateway, "nobody") | {"EKSGATEWAY_TOKEN": "a.b.c"}
    async with run_program(*eksgateway_command(command, "prod-1", "u-1"), env=environment) as shown:
        assert await shown.end() == 4
        assert "UNAUTHENTICATED, CREDENTIALS_INVALID: " in shown.err
        assert "trying again" not in shown.err


@pytest.mark.parametrize("command", ["watch", "cancel"])
async def test_missing_credentials_get_a_hint(gateway: RunningGateway, command: str) -> None:
    """It names the variable and the option; the gateway's message is about metadata."""
    environment = {"EKSGATEWAY_ADDRESS": gateway.address, "EKSGATEWAY_TOKEN": ""}
    async with run_program(*eksgateway_command(command, "prod-1", "u-1"), env=environment) as shown:
        assert await shown.end() == 4
        assert "set EKSGATEWAY_TOKEN to a bearer token" in shown.err.splitlines()[-1]


async def test_cancel_prints_phase_and_ids(gateway: RunningGateway, tmp_path: Path) -> None:
    """The token may come from a file."""
    update_id = gateway.eks.rollback("staging-1")
    environment = shell(gateway, "oncall", "oncall")
    (tmp_path / "token").write_text(environment.pop("EKSGATEWAY_TOKEN") + "\n")
    options = ("--reason", "bad AMI", "--request-id", "mine", "--token-file", str(tmp_path / "token"))
    async with run_program(
        *eksgateway_command("cancel", "staging-1", update_id, *options), env=environment
    ) as shown:
        assert await shown.end() == 0, shown.out + shown.err
        assert re.fullmatch(r"CANCELLING  cancellation [0-9a-f-]{36}, request mine\n", shown.out)


async def test_cancel_prints_invalid_fields(gateway: RunningGateway) -> None:
    """With the fault of each."""
    command = eksgateway_command("cancel", "prod-1", "u-1", "--ticket", "T-1", "--reason", "two\nlines")
    async with run_program(*command, env=shell(gateway, "oncall", "oncall")) as shown:
        assert await shown.end() == 1
        assert re.search(r"^INVALID_ARGUMENT, REQUEST_INVALID: .* reason: ", shown.err, re.MULTILINE)


async def test_cancel_without_a_gateway_prints_how_to_repeat_it(gateway: RunningGateway) -> None:
    """It retries for its timeout, then prints the command that repeats the request."""
    environment = shell(gateway, "oncall", "oncall") | {"EKSGATEWAY_ADDRESS": "127.0.0.1:1"}
    command = eksgateway_command("cancel", "prod-1", "u-1", "--reason", "bad AMI", "--timeout", "3")
    async with run_program(*command, env=environment) as shown:
        assert await shown.end() == 5
        assert shown.out == ""
        assert "\nUNAVAILABLE: " in shown.err
        again = r"eksgateway cancel prod-1 u-1 --reason 'bad AMI' --timeout 3 --request-id ([0-9a-f-]{36})"
        first, last = re.findall(again, shown.err)
        assert first == last


async def test_an_interrupted_cancel_can_be_repeated(gateway: RunningGateway) -> None:
    """The request id is printed before the call; repeating it sends no second cancel."""
    update_id = gateway.eks.rollback("staging-1")
    gateway.eks.fault("CancelUpdate", delay_s=2, times=1)
    environment = shell(gateway, "oncall", "oncall")
    command = restore_signals(*eksgateway_command("cancel", "staging-1", update_id))
    async with run_program(*command, env=environment) as shown:
        await wait_until(lambda: gateway.eks.calls("CancelUpdate"))
        shown.process.send_signal(signal.SIGINT)
        assert await shown.end() == 130
        assert (shown.out, shown.err.count("\n")) == ("", 1)
    again = shlex.split(shown.err.partition("to repeat it: ")[2])
    assert again[:4] == ["eksgateway", "cancel", "staging-1", update_id]
    async with run_program(*eksgateway_command(*again[1:]), env=environment) as shown:
        assert await shown.end() == 0
        assert shown.out.startswith("CANCELLING ")
        assert shown.out.endswith(f"request {again[-1]}\n")
    assert len(gateway.eks.calls("CancelUpdate")) == 1


async def test_watch_can_be_interrupted(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1")
    command = eksgateway_command("watch", "prod-1", update_id)
    async with run_program(*restore_signals(*command), env=shell(gateway, "viewer", "viewers")) as shown:
        await wait_until(lambda: "InProgress" in shown.out)
        shown.process.send_signal(signal.SIGINT)
        assert await shown.end() == 130
        assert shown.err == ""


async def test_cancel_retries_across_a_restart(tmp_path: Path) -> None:
    """Within its timeout, while the only gateway is down."""
    async with SimulatedEks() as eks:
        update_id = eks.rollback("staging-1")
        async with run_gateway(tmp_path, eks) as first:
            environment = shell(first, "oncall", "oncall")
            address, issuer = first.address, first.issuer
        async with run_program(
            *eksgateway_command("cancel", "staging-1", update_id), env=environment
        ) as shown:
            await wait_until(lambda: shown.err.count("trying again") >= 3)
            async with run_gateway(tmp_path, eks, issuer=issuer, listeners=[{"address": address}]):
                assert await shown.end() == 0, shown.err
                assert shown.out.startswith("CANCELLING  cancellation ")


@pytest.mark.parametrize("name", ["502", "no trailers", "OK with garbage", "details that do not parse"])
async def test_cancel_reports_a_proxys_answer(name: str) -> None:
    """Without a traceback."""
    async with HttpProxy(always=REPLIES[name]) as proxy:
        command = eksgateway_command("cancel", "prod-1", "u-1", "--timeout", "3")
        async with run_program(*command, env={"EKSGATEWAY_ADDRESS": proxy.address}) as shown:
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
    ("command", "message", "out", "code"),
    [
        ("cancel", pb.CancelUpdateResponse(cancellation=CANCELLATION), "phase 99  cancellation c-1", 0),
        ("watch", STATE, "    1   [2JCancelled              phase 99", 3),
    ],
    ids=["cancel", "watch"],
)
async def test_a_newer_gateways_phase_is_printed_as_a_number(
    command: str, message: Message, out: str, code: int
) -> None:
    """Control characters are replaced."""
    reply = headers(("grpc-status", "0"), message=message.SerializeToString())
    async with HttpProxy(always=reply) as proxy:
        environment = {"EKSGATEWAY_ADDRESS": proxy.address}
        async with run_program(*eksgateway_command(command, "prod-1", "u-1"), env=environment) as shown:
            assert await shown.end() == code, shown.err
            assert out in shown.out


async def test_a_denial_that_a_proxy_replaces_is_not_retried(gateway: RunningGateway) -> None:
    """A proxy may replace the denial by an HTML page."""
    update_id = gateway.eks.rollback("prod-1")
    async with HttpProxy(gateway.address) as proxy:
        proxy.refused = html(502)
        for command in ("watch", "cancel"):
            environment = shell(gateway, "nobody") | {"EKSGATEWAY_ADDRESS": proxy.address}
            async with run_program(
                *eksgateway_command(command, "prod-1", update_id), env=environment
            ) as shown:
                assert await shown.end() == 5
                assert "the gateway serves, and something on the way (a proxy) replaces" in shown.err


@pytest.mark.parametrize(
    "address", ["no-such-host.invalid:50051", "127.0.0.1:99999", "http://127.0.0.1:50051", "gateway.example"]
)
@pytest.mark.parametrize("command", ["watch", "cancel"])
async def test_an_invalid_address_is_not_retried_for_ever(command: str, address: str) -> None:
    """The hint names the correction."""
    options = (command, "prod-1", "u-1", "--address", address)
    async with run_program(*eksgateway_command(*options)) as shown:
        assert await shown.end() in (1, 5)
        assert "the host's name is not known" in shown.err or "write it as host:port" in shown.err
        assert "Traceback" not in shown.err


async def test_wrong_tls_settings_get_a_hint(tmp_path: Path) -> None:
    """Without --ca, with another CA, and where plaintext is spoken."""
    authority = Authority()
    (tmp_path / "other.crt").write_bytes(Authority("other").certificate)
    made = [*build_listeners(tmp_path, authority, "jwt"), {"address": "127.0.0.1:0"}]
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks, listeners=made) as gateway:
        secured, plain = (each.address for each in gateway.gateway.listeners)
        for address, ca, hint in (
            (secured, None, "TLS is spoken there"),
            (secured, "other.crt", "is from no CA in this bundle"),
            (plain, "ca.crt", "no TLS is spoken there"),
        ):
            options = ("--address", address, *(("--ca", str(tmp_path / ca)) if ca else ()))
            async with run_program(*eksgateway_command("watch", "prod-1", "u-1", *options)) as shown:
                assert await shown.end() == 5
                assert hint in shown.err


async def test_watch_prints_why_it_retries(gateway: RunningGateway) -> None:
    """While the gateway is out of reach."""
    environment = shell(gateway, "viewer", "viewers") | {"EKSGATEWAY_ADDRESS": "127.0.0.1:1"}
    async with run_program(*eksgateway_command("watch", "prod-1", "u-1"), env=environment) as shown:
        await wait_until(lambda: "trying again in" in shown.err)
        assert shown.err.startswith("eksgateway: UNAVAILABLE: ")
        assert shown.out == ""


@pytest.mark.parametrize(
    ("cluster", "token", "fault", "code"),
    [
        ("prod-1", "t\u00f6ken", "EKSGATEWAY_TOKEN: is not a token", 4),
        ("prod-1", "two\nlines", "EKSGATEWAY_TOKEN: is not a token", 4),
        ("prod-\udcff", "token", "an argument is not text", 1),
    ],
    ids=["letter", "lines", "argument"],
)
async def test_arguments_that_cannot_be_sent_are_refused(
    cluster: str, token: str, fault: str, code: int
) -> None:
    """Without a traceback, and without printing the token."""
    environment = {"EKSGATEWAY_TOKEN": token, "EKSGATEWAY_ADDRESS": "127.0.0.1:1"}
    async with run_program(*eksgateway_command("cancel", cluster, "u-1"), env=environment) as shown:
        assert await shown.end() == code
        assert shown.err.splitlines()[-1].startswith(f"eksgateway: {fault}")
        assert token not in shown.err
        assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("options", "fault", "code"),
    [
        pytest.param(
            ("--token-file", "missing"), "token file missing: cannot be read: No such file", 4, id="token"
        ),
        pytest.param(
            ("--token-file", sys.executable), f"token file {sys.executable}: is not text", 4, id="binary"
        ),
        pytest.param(("--ca", "missing"), "missing: cannot be read", 1, id="ca"),
    ],
)
async def test_unusable_options_are_refused_in_one_line(
    options: tuple[str, ...], fault: str, code: int
) -> None:
    """No call is made."""
    async with run_program(*eksgateway_command("watch", "prod-1", "u-1", *options)) as shown:
        assert await shown.end() == code
        assert shown.err.startswith(f"eksgateway: {fault}")
        assert shown.err.count("\n") == 1
