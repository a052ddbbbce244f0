"""Large policy data is compiled in a child process, which may end in any way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from eksgateway.policy.compile_process import compile_in_child, compile_sources
from eksgateway.policy.compiled_policy import compile_policy
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.source import SourceFile
from support.policy_cases import CONTENT
from support.processes import is_alive, list_children, list_descendants, run_program
from support.waiting import wait_until

MODULE: Final = "eksgateway.policy.compile_process"
# The real child, with a compiler that never ends.
ENDLESS: Final = (
    "import time\n"
    f"import {MODULE} as child\n"
    "child.compile_policy = lambda _: time.sleep(1000)\n"
    "child.main()\n"
)
REPORT: Final = "import json, os; print(json.dumps({'error': 'e', 'faults': FOUND}))"


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-c", code)


def sources(grants: int = 0) -> tuple[SourceFile, ...]:
    """The test policy, and this many grants in a second file."""
    more = [
        {**CONTENT["grants"][1], "id": f"g-{number}", "clusters": [f"c-{number}"]} for number in range(grants)
    ]
    return tuple(
        SourceFile(Path(name), yaml.safe_dump({"eksgateway": content}).encode())
        for name, content in (("a.yaml", CONTENT), ("b.yaml", {"grants": more}))
    )


def test_child_compiles_to_the_same_policy() -> None:
    assert compile_in_child(sources(10)) == compile_policy(sources(10))


def test_faults_are_those_of_the_compiler() -> None:
    """With paths and texts."""
    bad = (*sources(), SourceFile(Path("c.yaml"), b"eksgateway: {grants: [{id: \xc3\xa9}], freezs: []}"))
    with pytest.raises(PolicyLoadError) as expected:
        compile_policy(bad)
    with pytest.raises(PolicyLoadError) as refused:
        compile_in_child(bad)
    assert (str(refused.value), refused.value.faults) == (str(expected.value), expected.value.faults)


@pytest.fixture
def children() -> Callable[[], set[int]]:
    """The processes that this one has started since. A worker of the tests may have servers from before."""
    before = list_children()
    return lambda: {pid for pid in list_children() - before if is_alive(pid)}


ENDS: dict[str, tuple[tuple[str, ...], str]] = {
    "crashes": (python("import ctypes; ctypes.string_at(0)"), "by SIGSEGV"),
    "is killed": (python("import os; os.kill(os.getpid(), 9)"), "by SIGKILL"),
    "raises": (python("raise ValueError('odd')"), "with exit code 1: ValueError: odd"),
    "ends": (python("import sys; sys.exit(5)"), "with exit code 5"),
    "hangs": (python(ENDLESS), "takes more than 3 s to compile"),
    "prints": (python("print('hello')"), "gave no result"),
    "prints a number": (python("print(5)"), "gave no result"),
    "is missing": (("/nowhere/python",), "No such file or directory"),
}


@pytest.mark.parametrize(("command", "expected"), ENDS.values(), ids=ENDS)
def test_child_that_does_not_finish_is_an_error(
    command: tuple[str, ...], expected: str, children: Callable[[], set[int]]
) -> None:
    """It has ended by then."""
    with pytest.raises(PolicyLoadError, match=expected):
        compile_in_child(sources(), command=command, deadline_s=3 if "takes" in expected else 60)
    assert not children()


def test_child_out_of_memory_is_an_error() -> None:
    limited = ("bash", "-c", 'ulimit -d 30000; exec "$@"', "bash", sys.executable, "-P", "-m", MODULE)
    with pytest.raises(PolicyLoadError, match="needs more than 29 MB of memory"):
        compile_in_child(sources(8000), command=limited)


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with Path("/dev/null").open() as kept:
        os.set_inheritable(kept.fileno(), True)
        yield


@pytest.mark.usefixtures("secret")
def test_child_inherits_no_secrets_and_no_files() -> None:
    def ask(found: str) -> list[Any]:
        with pytest.raises(PolicyLoadError) as refused:
            compile_in_child(sources(), command=python(REPORT.replace("FOUND", found)))
        return list(refused.value.faults)

    assert set(ask("[*os.environ]")) <= {"PYTHONPATH", "LD_LIBRARY_PATH", "PYTHONHOME", "LC_CTYPE"}
    assert len(ask("os.listdir('/proc/self/fd')")) == 4  # with the one that lists


def with_sets() -> tuple[SourceFile, ...]:
    """Small, and large once the sets are resolved."""
    grants = [
        {**CONTENT["grants"][1], "id": f"g-{number}", "clusters": ["$all", f"c-{number}"]}
        for number in range(100)
    ]
    content = {"sets": {"all": [f"prod-{number}" for number in range(1000)]}, "grants": grants}
    return (SourceFile(Path("sets.json"), json.dumps({"eksgateway": content}).encode()),)


@pytest.mark.parametrize(
    ("made", "child"),
    [(lambda: sources(1), False), (lambda: sources(1000), True), (with_sets, True)],
    ids=["small", "large", "sets"],
)
async def test_only_large_sources_need_a_child(
    made: Callable[[], tuple[SourceFile, ...]], child: bool, children: Callable[[], set[int]]
) -> None:
    compiling = asyncio.create_task(compile_sources(made()))
    found = await wait_until(lambda: children() or compiling.done())
    assert (found is not True) is child
    assert "grants" in (await compiling).counts


async def test_killed_gateway_leaves_no_child() -> None:
    parent = python(
        f"from {MODULE} import compile_in_child\n"
        f"compile_in_child((), command={python(ENDLESS)!r}, deadline_s=1000)"
    )
    async with run_program(*parent) as gateway:
        (child,) = await wait_until(lambda: list_descendants(gateway.process.pid))
        await wait_until(lambda: len(list(Path(f"/proc/{child}/task").iterdir())) == 2)
        gateway.process.send_signal(signal.SIGKILL)
        await wait_until(lambda: not is_alive(child))
