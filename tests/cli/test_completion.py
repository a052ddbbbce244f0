"""Completion in a real bash, and the scripts of the other shells."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef, Update
from support.gateway import ACCOUNT, REGION, RunningGateway, run_gateway
from support.http_proxy import HttpProxy, headers
from support.processes import eksgateway_command, run_program
from support.shell_user import empty_home, user_of
from support.simulator import SimulatedEks

BIN = str(Path(sys.executable).parent)
# Calls the registered function as bash's readline does, and prints what it offers.
COMPLETE = """
eval "$(eksgateway completion bash)"
read -ra COMP_WORDS <<< "$1"
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
spec=$(complete -p eksgateway)
function=${spec##*-F }; function=${function%% *}
"$function" eksgateway "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks) as here:
        yield here


async def complete(environment: dict[str, str], line: str) -> list[str]:
    """What bash offers at the end of the line. Nothing else may be printed."""
    path = {"PATH": f"{BIN}:/usr/bin:/bin"}
    async with run_program("bash", "-c", COMPLETE, "bash", line, env=environment | path) as shell:
        assert await shell.end() == 0
        assert shell.err == ""
        return shell.out.split()


async def test_bash_completes_clusters_and_updates(gateway: RunningGateway) -> None:
    """Those that can be cancelled; commands and options too."""
    production = gateway.eks.rollback("prod-1", tags={"environment": "production"})
    staging = gateway.eks.rollback("staging-1")
    gateway.eks.rollback("staging-2", update_status="Successful")
    user = user_of(gateway, "oncall", "oncall")
    assert await complete(user, "eksgateway canc") == ["cancel", "cancellable"]
    assert await complete(user, "eksgateway cancel --rea") == ["--reason"]
    assert await complete(user, "eksgateway cancel ") == ["prod-1", "staging-1"]
    assert await complete(user, "eksgateway watch st") == ["staging-1"]
    assert await complete(user, "eksgateway cancel prod-1 ") == [production]
    assert await complete(user, "eksgateway get --timeout 5 staging-1 ") == [staging]
    full = f"{ACCOUNT}/{REGION}/staging-1"
    assert await complete(user, f"eksgateway check {full} {staging[:4]}") == [staging]
    assert await complete(user, "eksgateway cancel prod-2 ") == []


async def test_clusters_of_other_targets_are_completed_with_their_target(tmp_path: Path) -> None:
    """A name alone means the home target."""
    other = {"account_id": ACCOUNT, "region": "eu-west-1"}
    async with SimulatedEks() as eks:
        targets = [
            {**each, "endpoint_url": eks.url} for each in ({"account_id": ACCOUNT, "region": REGION}, other)
        ]
        data = {
            "eksgateway": {
                "grants": [
                    {
                        "id": "all",
                        "groups": ["test:oncall"],
                        "actions": ["list", "get"],
                        "accounts": [ACCOUNT],
                        "regions": [REGION, "eu-west-1"],
                        "clusters": ["*"],
                    }
                ],
                "freezes": [],
            }
        }
        eks.rollback("staging-1")
        eks.rollback("far-1", **other)
        async with run_gateway(tmp_path, eks, data=data, eks={"targets": targets}) as here:
            user = user_of(here, "oncall", "oncall")
            offered = await complete(user, "eksgateway cancel ")
            assert sorted(offered) == [f"{ACCOUNT}/eu-west-1/far-1", "staging-1"]
            assert await complete(user, f"eksgateway cancel {ACCOUNT[:3]}") == [f"{ACCOUNT}/eu-west-1/far-1"]


async def test_completion_without_a_gateway_is_silent_and_quick(tmp_path: Path) -> None:
    """Also with settings that cannot be used."""
    for address in ("127.0.0.1:1", "nonsense"):
        started = time.monotonic()
        user = {"EKSGATEWAY_ADDRESS": address, **empty_home(tmp_path)}
        assert await complete(user, "eksgateway cancel ") == []
        assert time.monotonic() - started < 30  # the command's own bound is 2 s; the machine may be busy


async def test_names_that_a_shell_would_interpret_are_not_offered(tmp_path: Path) -> None:
    """A gateway that sends them is not one of ours."""
    hostile = [
        pb.CancellableUpdate(cluster=ClusterRef(name=name), update=Update(id="u-1"))
        for name in ("$(id)", "a;b", "'a", "a b", "\x1b[2J", "good-1")
    ]
    answer = pb.ListCancellableUpdatesResponse(updates=hostile).SerializeToString()
    async with HttpProxy(always=headers(("grpc-status", "0"), message=answer)) as proxy:
        user = {"EKSGATEWAY_ADDRESS": proxy.address, **empty_home(tmp_path)}
        assert await complete(user, "eksgateway cancel ") == ["good-1"]


async def test_contexts_are_completed(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("contexts: {prod: {address: a:1}, lab: {address: b:1}}")
    user = {"EKSGATEWAY_CONFIG": str(tmp_path / "config.yaml")}
    assert await complete(user, "eksgateway get --context ") == ["prod", "lab"]
    assert await complete(user, "eksgateway context use l") == ["lab"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_each_shells_script_is_printed(shell: str) -> None:
    """Where the shell is installed, it reads the script."""
    async with run_program(*eksgateway_command("completion", shell)) as shown:
        assert await shown.end() == 0
        assert "_EKSGATEWAY_COMPLETE" in shown.out
    if found := shutil.which(shell):
        async with run_program(found, "-n", "-c", shown.out) as checked:
            assert await checked.end() == 0, checked.err


@pytest.mark.skipif(not shutil.which("zsh"), reason="needs zsh")
async def test_the_first_tab_in_zsh_completes(tmp_path: Path) -> None:
    """It loads the script as a function from fpath."""
    async with run_program(*eksgateway_command("completion", "zsh")) as shown:
        assert await shown.end() == 0
    (tmp_path / "_eksgateway").write_text(shown.out)
    tab = 'fpath=("$1"); autoload -U _eksgateway; words=(eksgateway completion f); CURRENT=3'
    answer = '_arguments() { print -r -- "$@" }; _eksgateway'
    path = {"PATH": f"{BIN}:/usr/bin:/bin"}
    async with run_program("zsh", "-f", "-c", f"{tab}; {answer}", "zsh", str(tmp_path), env=path) as shell:
        assert await shell.end() == 0, shell.err
        assert '"fish"' in shell.out


async def test_another_shell_is_a_usage_error() -> None:
    async with run_program(*eksgateway_command("completion", "tcsh")) as shown:
        assert await shown.end() == 2
        assert "take bash, zsh, fish" in shown.err
