"""The sandbox process: its info file, restarts, faults and end."""

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

from eksgateway.client import ErrorDetails
from eksgateway.file_writer import replace_file
from eksgateway.policy.source import load_content
from eksgateway.sandbox.clusters import CLUSTERS
from eksgateway.sandbox.folder import SandboxFolder, gateway_environment, write_policy
from eksgateway.v1.cancellation_pb2 import CancellationPhase as Phase
from support.processes import eksgateway_command, is_alive, list_descendants, list_names, run_program
from support.sandbox import WHY, Sandbox, run_sandbox
from support.waiting import wait_until


async def get_json(url: str) -> Any:
    def get() -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as answer:
            return json.load(answer)

    return await asyncio.to_thread(get)


async def fail_to_cancel(here: Sandbox, who: str, cluster: str, **fields: str) -> tuple[str, str]:
    """The status and the reason of a cancel that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await here.cancel(who, cluster, **fields)
    return caught.value.code().name, ErrorDetails.of(caught.value).reason


async def reason_of_cancel(here: Sandbox, who: str, cluster: str) -> str:
    """Why a cancel fails; empty if it does not."""
    try:
        await here.cancel(who, cluster, **WHY)
    except grpc.aio.AioRpcError as error:
        return ErrorDetails.of(error).reason
    return ""


async def test_info_file_is_complete_once_it_exists(tmp_path: Path) -> None:
    """Addresses that answer, valid tokens, and clusters as described."""
    async with run_sandbox(tmp_path) as here:
        info_file = here.info
        assert here.path.stat().st_mode & 0o777 == 0o600  # it holds tokens
        places = {"grpc", "http", "simulator", "ledger", "policy_data"}
        assert set(info_file) == places | {"tokens", "clusters", "pids"}
        assert set(info_file["tokens"]) == {"oncall", "viewer", "outsider"}
        assert [each["name"] for each in info_file["clusters"]] == [each.name for each in CLUSTERS]
        assert all(each["about"].endswith(".") for each in info_file["clusters"])
        assert {(each["account_id"], each["region"]) for each in info_file["clusters"]} == {
            ("111122223333", "us-east-1")
        }
        assert "ledger.db" in list_names(Path(info_file["ledger"]).parent)
        assert all(is_alive(pid) for pid in info_file["pids"].values())
        assert set(info_file["pids"].values()) <= list_descendants(here.pid)

        denied = ("PERMISSION_DENIED", "POLICY_DENIED")
        assert await fail_to_cancel(here, "outsider", "staging-1") == denied
        assert await fail_to_cancel(here, "viewer", "prod-1", **WHY) == denied
        assert await fail_to_cancel(here, "oncall", "prod-1", reason="bad AMI") == denied
        assert await fail_to_cancel(here, "oncall", "prod-2", **WHY) == (
            "FAILED_PRECONDITION",
            "EKS_INVALID_STATE",
        )
        assert await fail_to_cancel(here, "oncall", "prod-3", **WHY) == denied
        assert await fail_to_cancel(here, "oncall", "staging-3") == ("FAILED_PRECONDITION", "UPDATE_FINISHED")
        assert await fail_to_cancel(here, "oncall", "staging-4") == (
            "FAILED_PRECONDITION",
            "EKS_INVALID_REQUEST",
        )
        assert (await here.cancel("oncall", "prod-1", **WHY)).phase == Phase.CANCELLATION_PHASE_REQUESTED
        await here.cancel("oncall", "staging-1")
        calls = (await get_json(f"{info_file['simulator']}/_simulator/calls"))["calls"]
        assert {call["account_id"] for call in calls} == {"111122223333"}


async def test_cancellation_on_staging_2_fails(tmp_path: Path) -> None:
    """The update goes on, and has completed two days later."""
    async with run_sandbox(tmp_path, "--speed", "1") as here:
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
async def test_an_ended_gateway_is_started_again(tmp_path: Path, blow: signal.Signals) -> None:
    """With the same port, ledger, tokens and grants; the info file has the new process id."""
    async with run_sandbox(tmp_path) as here:
        before = here.info
        first = await here.cancel("oncall", "staging-1", request_id="first")
        os.kill(before["pids"]["gateway"], blow)
        pid = await here.wait_for_restart(before["pids"]["gateway"])
        after = here.info
        assert is_alive(pid)
        assert {**after, "pids": None} == {**before, "pids": None}
        assert after["pids"]["simulator"] == before["pids"]["simulator"]
        assert [each.cancellation_id for each in await here.history()] == [first.cancellation_id]
        await here.cancel("oncall", "prod-1", **WHY)
        assert re.search(
            rf"ended \({'SIGKILL' if blow == signal.SIGKILL else 'exit code 0'}\)", here.process.out
        )
        assert f"pid {pid}" in here.process.out


async def test_a_changed_grant_is_in_force_without_a_restart(tmp_path: Path) -> None:
    """The gateway process stays the same."""
    async with run_sandbox(tmp_path) as here:
        gateway = here.pids["gateway"]
        assert (await fail_to_cancel(here, "viewer", "prod-1", **WHY))[1] == "POLICY_DENIED"
        change_viewers(here, actions=["watch", "cancel"], update_types=["VersionRollback"])
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await here.cancel("viewer", "prod-1")
                    break
        assert here.pids["gateway"] == gateway


async def test_faulty_grants_are_reported_until_corrected(tmp_path: Path) -> None:
    """A running gateway keeps its grants. A new one starts once the fault is corrected."""
    async with run_sandbox(tmp_path) as here:
        change_viewers(here, actions=["watch", "cancel"])  # without its update types: a fault
        log = Path(here.info["policy_data"]).parent.parent / "gateway.log"
        await wait_until(lambda: "policy.refused" in log.read_text())
        assert (await fail_to_cancel(here, "viewer", "prod-1", **WHY))[1] == "POLICY_DENIED"
        gateway = here.pids["gateway"]
        os.kill(gateway, signal.SIGTERM)
        await wait_until(lambda: "eksgateway.grants[2].update_types" in here.process.out)
        assert "Traceback" not in here.process.out
        change_viewers(here, update_types=["VersionRollback"])
        await here.wait_for_restart(gateway)
        await here.cancel("viewer", "prod-1")


def change_viewers(here: Sandbox, **change: Any) -> None:
    data = Path(here.info["policy_data"])
    document = yaml.safe_load(data.read_text())
    document["eksgateway"]["grants"][2] |= change
    data.write_text(yaml.safe_dump(document))


@pytest.mark.parametrize("blow", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_without_leftovers(tmp_path: Path, blow: signal.Signals) -> None:
    """Exit code 0 and no error output; processes, info file and folder are gone."""
    async with run_sandbox(tmp_path) as here:
        family = list_descendants(here.pid)
        assert len(list_names(tmp_path)) == 2
        here.process.process.send_signal(blow)
        assert await here.process.end() == 0
        assert here.process.err == ""
        assert not any(is_alive(pid) for pid in family)
        assert list_names(tmp_path) == []


async def test_its_children_end_when_it_is_killed(tmp_path: Path) -> None:
    """Their standard input closes."""
    async with run_sandbox(tmp_path) as here:
        family = list_descendants(here.pid)
        assert family >= set(here.pids.values())
        here.process.process.kill()
        await wait_until(lambda: not any(is_alive(pid) for pid in family))


async def test_it_ends_with_its_simulated_eks(tmp_path: Path) -> None:
    """The clusters' state is lost, so it prints an error and stops the gateway."""
    async with run_sandbox(tmp_path) as here:
        pids = here.pids
        os.kill(pids["simulator"], signal.SIGKILL)
        assert await here.process.end() == 1
        assert "The simulated EKS ended (SIGKILL)" in here.process.err
        assert not is_alive(pids["gateway"])
        assert not here.path.exists()


async def test_a_closed_standard_output_is_ignored(tmp_path: Path) -> None:
    """It runs and ends as usual."""
    info_file = tmp_path / "info.json"
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *eksgateway_command("sandbox", "--port", "0", "--info", str(info_file)),
        stdout=writer,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    os.close(writer)
    os.close(reader)
    try:
        await wait_until(info_file.exists)
        gateway = json.loads(info_file.read_text())["pids"]["gateway"]
        os.kill(gateway, signal.SIGKILL)
        await wait_until(lambda: json.loads(info_file.read_text())["pids"]["gateway"] != gateway)
    finally:
        process.terminate()
        _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


async def test_the_users_aws_settings_are_ignored(tmp_path: Path) -> None:
    """Profile, keys, endpoints and proxies of the environment."""
    hostile = {
        "AWS_PROFILE": "production",
        "AWS_ACCESS_KEY_ID": "AKIA999999999999",
        "AWS_SESSION_TOKEN": "real",
        "AWS_ENDPOINT_URL_EKS": "http://127.0.0.1:1",
        "AWS_CA_BUNDLE": "/nowhere",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }
    async with run_sandbox(tmp_path, env=hostile) as here:
        await here.cancel("oncall", "staging-1")
        calls = (await get_json(f"{here.info['simulator']}/_simulator/calls"))["calls"]
        assert {call["access_key"] for call in calls} == {"AKIA111122223333"}


def test_gateway_environment_has_no_aws_variables_of_the_user() -> None:
    """Other variables stay."""
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


def test_its_grants_match_the_schema(tmp_path: Path) -> None:
    """As policy data."""
    folder = SandboxFolder(tmp_path)
    write_policy(folder, for_opa=False)
    assert load_content(folder.policy_data)["freezes"] == []
    assert [each.name for each in folder.policy.iterdir()] == ["data.yaml"]


@pytest.mark.parametrize(
    ("options", "count"),
    [pytest.param([], 19, id="one gateway"), pytest.param(["--replicas", "2"], 20, id="replicas")],
)
async def test_its_printed_commands_work(tmp_path: Path, options: list[str], count: int) -> None:
    """Each one, in order, in a shell."""
    async with run_sandbox(tmp_path, *options) as here:
        await wait_until(lambda: "Ctrl-C" in here.process.out)
        text = here.process.out
        assert max(map(len, text.replace(str(tmp_path), "/tmp").splitlines())) <= 80
        commands = commands_in(text)
        assert len(commands) == count
        commands = [each for each in commands if not each.startswith("  kill")]  # which other tests do
        script = "set -e\n" + "\n".join(command.replace("WatchUpdate", "GetUpdate") for command in commands)
        script = script.replace("UpdateService/CancelUpdate", "UpdateService/CancelUpdate || [ $? = 71 ]")
        script = re.sub(r"(cancel prod-1 .*'bad AMI')$", r"\1 || [ $? = 1 ]", script, flags=re.MULTILINE)
        # A user's shell has none of the folders that make puts on its PATH.
        async with run_program("sh", "-c", script, env={"PATH": "/usr/bin:/bin"}) as shell:
            assert await shell.end() == 0, shell.out + shell.err
        for expected in (
            "eksgateway.v1.UpdateService",
            "prod-1     rollback-prod-1     VersionRollback",
            "cancellable now  yes",
            "  CANCELLED\n",
            '{"watch": {"kind": "WATCH_KIND_FINAL"',
            "jwt:sandbox:oncall  OPS-12",
            '"status": "InProgress"',
            '"cancellations"',
            '{"updates":[{',
            "Sound: ",
            "update_ids",
            "now_s",
        ):
            assert expected in shell.out
        assert "A ticket is required by grant oncall-production." in shell.err
        assert "needs a ticket: --ticket TICKET" in shell.err


def commands_in(text: str) -> list[str]:
    """Indented lines that begin with a command's name, each with its continuation lines."""
    commands: list[str] = []
    open_command = False
    for line in text.splitlines():
        begins = re.match(r"  (\. |grpcurl|EKSGATEWAY_TOKEN=|PGPASSWORD=|eksgateway|curl|kill)", line)
        if begins:
            commands.append(line)
            open_command = True
        elif open_command and re.match(r"    |  \}", line):
            commands[-1] += "\n" + line
        else:
            open_command = False
    return commands


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        pytest.param(["--speed", "0"], "--speed 0: must be a number above 0", id="no speed"),
        pytest.param(["--speed", "nan"], "--speed nan: must be", id="speed is no number"),
        pytest.param(["--opa-url", "http://127.0.0.1:1"], "needs --policy-engine opa", id="opa-url alone"),
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
async def test_unusable_options_are_refused_before_the_start(options: list[str], fault: str) -> None:
    """In one line, without a traceback."""
    async with run_program(*eksgateway_command("sandbox", *options)) as process:
        assert await process.end() in (1, 2)
        assert fault in " ".join(process.err.split())
        assert "Traceback" not in process.err
        assert process.out == ""


async def test_a_port_in_use_is_an_error_if_it_was_given(tmp_path: Path) -> None:
    """No other port is used instead."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        command = eksgateway_command("sandbox", "--info", str(tmp_path / "info"), "--port", str(port))
        async with run_program(*command) as process:
            assert await process.end() == 1
            assert f"--port {port}: it is in use" in process.err


async def test_an_opa_of_the_user_decides(tmp_path: Path) -> None:
    """The sandbox prints the command that starts OPA, waits for it, and prints how to change the policy."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    async with run_sandbox(tmp_path, "--policy-engine", "opa", "--opa-url", url, wait=False) as here:
        await wait_until(lambda: "as soon as OPA answers" in here.process.out)
        found = re.search(r"^  (opa run .*)$", here.process.out, re.MULTILINE)
        assert found
        async with run_program(*shlex.split(found[1])):
            await here.wait_until_started()
            assert (await fail_to_cancel(here, "outsider", "prod-1", **WHY))[1] == "POLICY_DENIED"
            await here.cancel("oncall", "prod-1", **WHY)
            change = re.search(r"^  eksgateway policy bundle (\S+) -o (\S+)$", here.process.out, re.MULTILINE)
            assert change
            replace_file(Path(change[1]), b"eksgateway: {grants: []}")
            command = eksgateway_command("policy", "bundle", change[1], "-o", change[2])
            async with run_program(*command) as bundling:
                assert await bundling.end() == 0
            async with asyncio.timeout(60):
                while await reason_of_cancel(here, "oncall", "prod-1") != "POLICY_DENIED":  # noqa: ASYNC110  polled
                    await asyncio.sleep(0.1)


async def test_it_can_be_ended_while_it_waits_for_opa(tmp_path: Path) -> None:
    """There is no info file yet, not even one of an earlier sandbox."""
    (tmp_path / "info.json").write_text('{"grpc": "127.0.0.1:1"}')
    options = ("--policy-engine", "opa", "--opa-url", "http://127.0.0.1:1")
    async with run_sandbox(tmp_path, *options, wait=False) as here:
        await wait_until(lambda: len(list_descendants(here.pid)) == 2)
        family = list_descendants(here.pid)
        assert not here.path.exists()
        here.process.process.terminate()
        assert await here.process.end() == 0
        assert not any(is_alive(pid) for pid in family)


async def test_simulate_prints_its_address_and_needs_a_flag_beyond_loopback() -> None:
    """It ends on SIGTERM."""
    async with run_program(*eksgateway_command("simulate", "--speed", "10")) as process:
        await wait_until(lambda: process.out)
        assert "(a simulation, not AWS) at http://127.0.0.1:" in process.out
        process.process.terminate()
        assert await process.end() == 0
    async with run_program(*eksgateway_command("simulate", "--host", "0.0.0.0")) as process:
        assert await process.end() == 1
        assert "--allow-remote" in process.err
