"""The sandbox, as a process that other programs start, use, hurt and end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from eksgateway.policy.data import load_data
from eksgateway.sandbox.clusters import CLUSTERS
from eksgateway.sandbox.folder import Folder, gateway_environment, write_policy
from eksgateway.v1.cancellation_pb2 import CancellationPhase as Phase
from support.gateway import info
from support.processes import alive, children_of, eksgateway, eventually, names_in, program
from support.sandbox import WHY, Sandbox, sandbox


async def get_json(url: str) -> Any:
    def get() -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as answer:
            return json.load(answer)

    return await asyncio.to_thread(get)


async def refused(here: Sandbox, who: str, cluster: str, **fields: str) -> tuple[str, str]:
    """The status and the reason that a cancel is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await here.cancel(who, cluster, **fields)
    return caught.value.code().name, info(caught.value).reason


async def test_its_info_file_is_all_that_a_program_needs(tmp_path: Path) -> None:
    """Complete as soon as it is there: addresses that answer, tokens that work, clusters as described."""
    async with sandbox(tmp_path) as here:
        told = here.info
        assert here.path.stat().st_mode & 0o777 == 0o600  # it holds tokens
        assert set(told) == {"grpc", "simulator", "tokens", "clusters", "ledger", "policy_data", "pids"}
        assert set(told["tokens"]) == {"oncall", "viewer", "outsider"}
        assert [each["name"] for each in told["clusters"]] == [each.name for each in CLUSTERS]
        assert all(each["about"].endswith(".") for each in told["clusters"])
        assert {(each["account_id"], each["region"]) for each in told["clusters"]} == {
            ("111122223333", "us-east-1")
        }
        assert "ledger.db" in names_in(Path(told["ledger"]).parent)
        assert all(alive(pid) for pid in told["pids"].values())
        assert set(told["pids"].values()) <= children_of(here.pid)

        denied = ("PERMISSION_DENIED", "POLICY_DENIED")
        assert await refused(here, "outsider", "staging-1") == denied
        assert await refused(here, "viewer", "prod-1", **WHY) == denied
        assert await refused(here, "oncall", "prod-1", reason="bad AMI") == denied
        assert await refused(here, "oncall", "prod-2", **WHY) == ("FAILED_PRECONDITION", "EKS_INVALID_STATE")
        assert await refused(here, "oncall", "prod-3", **WHY) == denied
        assert await refused(here, "oncall", "staging-3") == ("FAILED_PRECONDITION", "UPDATE_FINISHED")
        assert await refused(here, "oncall", "staging-4") == ("FAILED_PRECONDITION", "EKS_INVALID_REQUEST")
        assert (await here.cancel("oncall", "prod-1", **WHY)).phase == Phase.CANCELLATION_PHASE_REQUESTED
        await here.cancel("oncall", "staging-1")
        calls = (await get_json(f"{told['simulator']}/_simulator/calls"))["calls"]
        assert {call["account_id"] for call in calls} == {"111122223333"}


async def test_the_cancellation_that_fails(tmp_path: Path) -> None:
    """On staging-2 the update goes on, and two days later it has completed anyway."""
    async with sandbox(tmp_path, "--speed", "1") as here:
        await here.cancel("oncall", "staging-2")
        await advance(here, 1200)
        await phase_is(here, "CANCELLATION_FAILED")
        await advance(here, 2 * 24 * 3600)
        await phase_is(here, "COMPLETED_ANYWAY")


async def advance(here: Sandbox, seconds: float) -> None:
    def post() -> None:
        url = f"{here.info['simulator']}/_simulator/clock"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(url, data=json.dumps({"advance_s": seconds}).encode(), timeout=10).close()

    await asyncio.to_thread(post)


async def phase_is(here: Sandbox, phase: str) -> None:
    async with asyncio.timeout(30):
        while True:
            if (await here.history())[0].phase == Phase.Value(f"CANCELLATION_PHASE_{phase}"):
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
async def test_a_gateway_that_dies_comes_back_as_it_was(tmp_path: Path, blow: signal.Signals) -> None:
    """Same port, ledger, tokens and grants; the info file then names the new process."""
    async with sandbox(tmp_path) as here:
        before = here.info
        first = await here.cancel("oncall", "staging-1", request_id="first")
        os.kill(before["pids"]["gateway"], blow)
        pid = await here.restarted(before["pids"]["gateway"])
        after = here.info
        assert alive(pid)
        assert {**after, "pids": None} == {**before, "pids": None}
        assert after["pids"]["simulator"] == before["pids"]["simulator"]
        assert [each.cancellation_id for each in await here.history()] == [first.cancellation_id]
        await here.cancel("oncall", "prod-1", **WHY)
        assert re.search(
            rf"ended \({'SIGKILL' if blow == signal.SIGKILL else 'exit code 0'}\)", here.process.out
        )
        assert f"pid {pid}" in here.process.out


async def test_one_grant_decides_who_may_cancel(tmp_path: Path) -> None:
    """A change in the policy data is all it takes, while the gateway runs."""
    async with sandbox(tmp_path) as here:
        gateway = here.pids["gateway"]
        assert (await refused(here, "viewer", "prod-1", **WHY))[1] == "POLICY_DENIED"
        change_viewers(here, actions=["watch", "cancel"], update_types=["VersionRollback"])
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await here.cancel("viewer", "prod-1")
                    break
        assert here.pids["gateway"] == gateway


async def test_grants_with_a_fault_keep_a_gateway_from_starting(tmp_path: Path) -> None:
    """One that runs goes on with what it has; for a new one the fault is told, and waited out."""
    async with sandbox(tmp_path) as here:
        change_viewers(here, actions=["watch", "cancel"])  # without its update types: a fault
        log = Path(here.info["policy_data"]).parent.parent / "gateway.log"
        await eventually(lambda: "policy.refused" in log.read_text())
        assert (await refused(here, "viewer", "prod-1", **WHY))[1] == "POLICY_DENIED"
        gateway = here.pids["gateway"]
        os.kill(gateway, signal.SIGTERM)
        await eventually(lambda: "eksgateway.grants[2].update_types" in here.process.out)
        assert "Traceback" not in here.process.out
        change_viewers(here, update_types=["VersionRollback"])
        await here.restarted(gateway)
        await here.cancel("viewer", "prod-1")


def change_viewers(here: Sandbox, **change: Any) -> None:
    data = Path(here.info["policy_data"])
    document = yaml.safe_load(data.read_text())
    document["eksgateway"]["grants"][2] |= change
    data.write_text(yaml.safe_dump(document))


@pytest.mark.parametrize("blow", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_end_it_leaves_nothing(tmp_path: Path, blow: signal.Signals) -> None:
    """Exit 0 and no word of complaint; processes, info file and folder are gone."""
    async with sandbox(tmp_path) as here:
        family = children_of(here.pid)
        assert len(names_in(tmp_path)) == 2
        here.process.process.send_signal(blow)
        assert await here.process.end() == 0
        assert here.process.err == ""
        assert not any(alive(pid) for pid in family)
        assert names_in(tmp_path) == []


async def test_killed_it_takes_its_children_along(tmp_path: Path) -> None:
    """They see their standard input end."""
    async with sandbox(tmp_path) as here:
        family = children_of(here.pid)
        assert family >= set(here.pids.values())
        here.process.process.kill()
        await eventually(lambda: not any(alive(pid) for pid in family))


async def test_without_its_simulated_eks_it_ends(tmp_path: Path) -> None:
    """What the clusters were is lost: it says so, and takes the gateway along."""
    async with sandbox(tmp_path) as here:
        pids = here.pids
        os.kill(pids["simulator"], signal.SIGKILL)
        assert await here.process.end() == 1
        assert "The simulated EKS ended (SIGKILL)" in here.process.err
        assert not alive(pids["gateway"])
        assert not here.path.exists()


async def test_nobody_has_to_read_what_it_prints(tmp_path: Path) -> None:
    """It goes on, and ends as ever, when the other end of its output is closed."""
    info_file = tmp_path / "info.json"
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *eksgateway("sandbox", "--port", "0", "--info", str(info_file)),
        stdout=writer,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    os.close(writer)
    os.close(reader)
    try:
        await eventually(info_file.exists)
        gateway = json.loads(info_file.read_text())["pids"]["gateway"]
        os.kill(gateway, signal.SIGKILL)
        await eventually(lambda: json.loads(info_file.read_text())["pids"]["gateway"] != gateway)
    finally:
        process.terminate()
        _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


async def test_nothing_of_the_users_aws_leaks_in(tmp_path: Path) -> None:
    """Neither a profile that does not exist, nor keys, nor endpoints of the environment matter."""
    hostile = {
        "AWS_PROFILE": "production",
        "AWS_ACCESS_KEY_ID": "AKIA999999999999",
        "AWS_SESSION_TOKEN": "real",
        "AWS_ENDPOINT_URL_EKS": "http://127.0.0.1:1",
        "AWS_CA_BUNDLE": "/nowhere",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }
    async with sandbox(tmp_path, env=hostile) as here:
        await here.cancel("oncall", "staging-1")
        calls = (await get_json(f"{here.info['simulator']}/_simulator/calls"))["calls"]
        assert {call["access_key"] for call in calls} == {"AKIA111122223333"}


def test_the_gateways_environment() -> None:
    """All of the user's AWS variables are gone, all else stays."""
    base = {"PATH": "/bin", "AWS_PROFILE": "p", "AWS_SESSION_TOKEN": "t", "BOTO_CONFIG": "b"}
    made = gateway_environment(base)
    assert {name: made.pop(name) for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")} == {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    assert made == {
        "PATH": "/bin",
        "AWS_ACCESS_KEY_ID": "AKIA111122223333",
        "AWS_SECRET_ACCESS_KEY": "simulated",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def test_its_grants_are_good_data(tmp_path: Path) -> None:
    """The template fits the schema."""
    folder = Folder(tmp_path)
    write_policy(folder, with_rego=False)
    assert load_data(folder.policy_data)["eksgateway"]["freezes"] == []
    assert [each.name for each in folder.policy.iterdir()] == ["data.yaml"]


async def test_its_commands_can_be_copied(tmp_path: Path) -> None:
    """Every command that it prints works as it stands, one after the other, in a shell."""
    async with sandbox(tmp_path) as here:
        await eventually(lambda: "Ctrl-C" in here.process.out)
        text = here.process.out
        assert max(map(len, text.replace(str(tmp_path), "/tmp").splitlines())) <= 80
        commands = commands_in(text)
        assert len(commands) == 16
        commands[-1] = "true"  # the kill, which another test does
        script = "set -e\n" + "\n".join(command.replace("WatchUpdate", "GetUpdate") for command in commands)
        script = script.replace("UpdateService/CancelUpdate", "UpdateService/CancelUpdate || [ $? = 71 ]")
        # A shell of one's own knows nothing of the folders that make puts on its PATH.
        async with program("sh", "-c", script, env={"PATH": "/usr/bin:/bin"}) as shell:
            assert await shell.end() == 0, shell.out + shell.err
        for expected in (
            "eksgateway.v1.UpdateService",
            '"cancellableNow": true',
            '"status": "InProgress"',
            '"phase": "CANCELLATION_PHASE_REQUESTED"',
            '"cancellations"',
            "  CANCELLED\n",
            "Sound: ",
            "update_ids",
            "now_s",
        ):
            assert expected in shell.out
        assert "A ticket is required by grant oncall-production." in shell.err


def commands_in(text: str) -> list[str]:
    """Indented lines that begin with a command's name, each with the lines that go on with it."""
    commands: list[str] = []
    open_command = False
    for line in text.splitlines():
        begins = re.match(r"  (\. |grpcurl|EKSGATEWAY_TOKEN=|eksgateway|curl|kill)", line)
        if begins:
            commands.append(line)
            open_command = True
        elif open_command and re.match(r"    |  \}", line):
            commands[-1] += "\n" + line
        else:
            open_command = False
    return commands


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param(["--speed", "0"], "--speed 0: must be a number above 0", id="no speed"),
        pytest.param(["--speed", "nan"], "--speed nan: must be", id="speed is no number"),
        pytest.param(
            ["--opa-url", "http://127.0.0.1:1"], "goes with --policy-engine opa", id="opa-url alone"
        ),
        pytest.param(
            ["--policy-engine", "opa", "--opa-url", "localhost:8181"],
            "write it as http://127.0.0.1:8181",
            id="opa-url without scheme",
        ),
        pytest.param(
            ["--info", "/nowhere/at/all"], "must be a file in a folder that exists", id="info nowhere"
        ),
        pytest.param(["--policy-engine", "cedar"], "cedar", id="unknown engine"),
        pytest.param(["--port", "70000"], "--port", id="no such port"),
    ],
)
async def test_bad_options(options: list[str], told: str) -> None:
    """Said in a line, without a traceback, before anything is started."""
    async with program(*eksgateway("sandbox", *options)) as process:
        assert await process.end() in (1, 2)
        assert told in " ".join(process.err.split())
        assert "Traceback" not in process.err
        assert process.out == ""


async def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    """Where the user named it, no other one will do."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        command = eksgateway("sandbox", "--info", str(tmp_path / "info"), "--port", str(port))
        async with program(*command) as process:
            assert await process.end() == 1
            assert f"--port {port}: something listens there already" in process.err


async def test_with_an_opa_of_the_users(tmp_path: Path) -> None:
    """It prints the command that starts one, waits for it, and then decides as that OPA does."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    async with sandbox(tmp_path, "--policy-engine", "opa", "--opa-url", url, wait=False) as here:
        await eventually(lambda: "as soon as OPA answers" in here.process.out)
        found = re.search(r"^  (opa run .*)$", here.process.out, re.MULTILINE)
        assert found
        async with program(*shlex.split(found[1])):
            await here.up()
            assert (await refused(here, "outsider", "prod-1", **WHY))[1] == "POLICY_DENIED"
            await here.cancel("oncall", "prod-1", **WHY)


async def test_waiting_for_opa_it_can_be_ended(tmp_path: Path) -> None:
    """No info file, not even one of an earlier sandbox, says that it is up; it ends as ever."""
    (tmp_path / "info.json").write_text('{"grpc": "127.0.0.1:1"}')
    options = ("--policy-engine", "opa", "--opa-url", "http://127.0.0.1:1")
    async with sandbox(tmp_path, *options, wait=False) as here:
        await eventually(lambda: len(children_of(here.pid)) == 2)
        family = children_of(here.pid)
        assert not here.path.exists()
        here.process.process.terminate()
        assert await here.process.end() == 0
        assert not any(alive(pid) for pid in family)


async def test_simulate_by_itself() -> None:
    """It says where it is, and ends on SIGTERM; elsewhere than on loopback it wants to be asked twice."""
    async with program(*eksgateway("simulate", "--speed", "10")) as process:
        await eventually(lambda: process.out)
        assert "(a simulation, not AWS) at http://127.0.0.1:" in process.out
        process.process.terminate()
        assert await process.end() == 0
    async with program(*eksgateway("simulate", "--host", "0.0.0.0")) as process:
        assert await process.end() == 1
        assert "--allow-remote" in process.err
