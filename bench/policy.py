"""Measures what a company's policy data costs: decisions in both engines, memory, `policy check`, reloads."""

from __future__ import annotations

import asyncio
import http.client
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from bench.opa_server import run_opa
from bench.policy_data import Case, few, many, write_yaml
from bench.processes import cpu_s
from bench.report import Ratio
from eksgateway.policy.compiled_policy import CompiledPolicy, build_policy
from eksgateway.policy.files import read_module
from eksgateway.policy.loaded_policy import LoadedPolicy
from eksgateway.policy.question import Question
from eksgateway.policy.wasm_module import PolicyModule
from eksgateway.policy.wasm_runtime import WasmRuntime

POLICIES: Final = Path(__file__).resolve().parents[1] / "policies" / "eksgateway"
DECISIONS: Final = 600  # for one figure
TURN: Final = 50  # decisions by one policy before those by the other
_START_S: Final = 30.0


@dataclass
class Side:
    """One side of a ratio: decides its question, and reads the CPU time of what decides it."""

    decide: Callable[[], Any]
    cpu_s: Callable[[], float]
    took_s: float = 0.0


def compare(numerator: Side, denominator: Side) -> float:
    """The ratio of the CPU times of DECISIONS, made in turns."""
    for turn in range(-1, DECISIONS // TURN):  # the first warms up
        for side in (numerator, denominator):
            began = side.cpu_s()
            for _ in range(TURN):
                side.decide()
            if turn >= 0:
                side.took_s += side.cpu_s() - began
    took_ms = [1000 * side.took_s / DECISIONS for side in (numerator, denominator)]
    print(f"policy: {took_ms[0]:.2f} ms ÷ {took_ms[1]:.2f} ms of CPU time for a decision", flush=True)
    return numerator.took_s / denominator.took_s


async def measure_grants_wasm() -> float:
    """10,000 grants and a caller in 200 groups whom 20 of them match ÷ 10 grants and one group."""
    return await asyncio.to_thread(_compare_in_wasm, many(), few())


async def measure_grants_opa() -> float:
    return await asyncio.to_thread(_compare_in_opa, many(), few())


async def measure_freezes_wasm() -> float:
    """1,000 freezes ÷ none, with the 10 grants and one group."""
    return await asyncio.to_thread(_compare_in_wasm, few(freezes=1000), few())


async def measure_freezes_opa() -> float:
    return await asyncio.to_thread(_compare_in_opa, few(freezes=1000), few())


async def measure_memory() -> float:
    """Of a module's instance in MB, with 10,000 grants and 1,000 freezes, after decisions."""
    with load_module() as module, _load(module, many(freezes=1000)) as (policy, document):
        for _ in range(TURN):
            policy.evaluate(document, deadline_s=10)
        return max(instance.memory_bytes for instance in policy._idle) / (1 << 20)  # noqa: SLF001


async def measure_check() -> float:
    """CPU seconds of `eksgateway policy check` of 10,000 grants."""
    with tempfile.TemporaryDirectory(prefix="eksgateway-bench-") as folder:
        data = Path(folder) / "data.yaml"
        write_yaml(data, many().content)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = (sys.executable, "-m", "eksgateway", "policy", "check", str(data))
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "good: 10000 grants" in done.stdout, done.stdout
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@cache
def compile_case(case: Case) -> CompiledPolicy:
    return build_policy(case.content)


@contextmanager
def load_module() -> Iterator[PolicyModule]:
    with closing(WasmRuntime()) as runtime:
        yield PolicyModule(runtime, read_module(None))


@contextmanager
def _load(module: PolicyModule, case: Case) -> Iterator[tuple[LoadedPolicy, bytes]]:
    with closing(LoadedPolicy(module, compile_case(case))) as policy:
        yield policy, encode(case.question)


def encode(question: Question) -> bytes:
    return json.dumps(question.to_input()).encode()


def _check_allowed(result: Any, case: Case) -> None:
    if not result["allow"] or len(result["rules"]) != case.matches:
        raise RuntimeError(f"not the decision that is to be measured: {result}")


def _compare_in_wasm(numerator: Case, denominator: Case) -> float:
    with load_module() as module, ExitStack() as stack:

        def side(case: Case) -> Side:
            policy, document = stack.enter_context(_load(module, case))
            _check_allowed(policy.evaluate(document, deadline_s=10), case)
            return Side(lambda: policy.evaluate(document, deadline_s=10), time.thread_time)

        return compare(side(numerator), side(denominator))


def _compare_in_opa(numerator: Case, denominator: Case) -> float:
    with ExitStack() as stack:
        return compare(*(stack.enter_context(_serve(case)) for case in (numerator, denominator)))


@contextmanager
def _serve(case: Case) -> Iterator[Side]:
    """An OPA server with the case's data."""
    with tempfile.TemporaryDirectory(prefix="eksgateway-bench-") as folder, ExitStack() as stack:
        data = Path(folder) / "data.json"
        data.write_bytes(compile_case(case).data)
        opa = stack.enter_context(run_opa(POLICIES, data))
        connection = stack.enter_context(closing(_connect(opa.port)))
        body = b'{"input": %s}' % encode(case.question)

        def decide() -> Any:
            connection.request(
                "POST",
                "/v1/data/eksgateway/authz/decision?provenance=true",
                body,
                {"Content-Type": "application/json"},
            )
            return json.loads(connection.getresponse().read())["result"]

        _check_allowed(decide(), case)
        yield Side(decide, lambda: cpu_s(opa.pid))


def _connect(port: int) -> http.client.HTTPConnection:
    """A connection to an OPA that has just been started, once it is ready."""
    deadline = time.monotonic() + _START_S
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_S)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().read() and time.monotonic() < deadline:
                return connection
        except OSError:
            if time.monotonic() > deadline:
                raise
        connection.close()
        time.sleep(0.05)


RATIOS: Final = (
    Ratio(
        "policy_wasm",
        "CPU of a decision: 10,000 grants, 200 groups ÷ 10, 1",
        "at most",
        3.5,
        5,
        measure_grants_wasm,
    ),
    Ratio("policy_opa", "the same in an OPA server", "at most", 3.5, 3, measure_grants_opa),
    Ratio(
        "policy_freezes_wasm",
        "CPU of a decision: 1,000 freezes ÷ none",
        "at most",
        1.5,
        5,
        measure_freezes_wasm,
    ),
    Ratio("policy_freezes_opa", "the same in an OPA server", "at most", 1.5, 3, measure_freezes_opa),
    Ratio("policy_memory", "MB of a module with 10,000 grants", "at most", 64, 1, measure_memory),
    Ratio("policy_check", "policy check of 10,000 grants, CPU in s", "at most", 5, 3, measure_check),
)
