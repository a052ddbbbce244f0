"""The engine wasm: what it refuses to load, and policies that misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from eksgateway.errors import PolicyInvalid, PolicyUnavailable, PolicyUndefined
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.wasm import WasmEngine
from support.opa import compile_rego
from support.policies import compile_data
from support.policy_cases import CONTENT
from support.questions import at_request, caller

DATA = {"eksgateway": CONTENT}
DENY = (
    'decision := {"allow": false, "reasons": [], "rules": [], "obligations": []} if input.subject.id != "x"'
)
# Denies; an input of more than 64 KB sets a flag and traps; with the flag set, it allows.
SPOILT_BY_A_TRAP = r"""
(module
  (import "env" "memory" (memory 2))
  (data (i32.const 16) "{}\00")
  (data (i32.const 32) "[{\22result\22:{\22allow\22:false}}]\00")
  (data (i32.const 96) "[{\22result\22:{\22allow\22:true}}]\00")
  (global $spoilt (mut i32) (i32.const 0))
  (func (export "builtins") (result i32) i32.const 0)
  (func (export "opa_json_dump") (param i32) (result i32) i32.const 16)
  (func (export "opa_json_parse") (param i32 i32) (result i32) i32.const 1)
  (func (export "opa_malloc") (param i32) (result i32) i32.const 1024)
  (func (export "opa_heap_ptr_get") (result i32) i32.const 65536)
  (func (export "opa_eval") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
    (if (global.get $spoilt) (then (return (i32.const 96))))
    (if (i32.gt_u (local.get 4) (i32.const 65536))
      (then (global.set $spoilt (i32.const 1)) unreachable))
    i32.const 32))
"""
# Denies; its sizes and addresses are parameters.
WITH_ADDRESSES = r"""
(module
  (import "env" "memory" (memory {pages}))
  (data (i32.const 16) "{{}}\00")
  (data (i32.const 32) "[{{\22result\22:{{\22allow\22:false}}}}]\00")
  (func (export "builtins") (result i32) i32.const 0)
  (func (export "opa_json_dump") (param i32) (result i32) i32.const 16)
  (func (export "opa_json_parse") (param i32 i32) (result i32) i32.const 1)
  (func (export "opa_malloc") (param i32) (result i32) i32.const {data})
  (func (export "opa_heap_ptr_get") (result i32) i32.const {heap})
  (func (export "opa_eval") (param i32 i32 i32 i32 i32 i32 i32) (result i32) i32.const {answer}))
"""
RIGHT = {"pages": 1, "data": 1024, "heap": 32768, "answer": 32}
NO_FUNCTION = WITH_ADDRESSES.format(**RIGHT).replace(
    '(func (export "builtins") (result i32) i32.const 0)', '(global (export "builtins") i32 (i32.const 0))'
)
NO_ADDRESS = WITH_ADDRESSES.format(**RIGHT).replace(
    '(func (export "opa_malloc") (param i32) (result i32) i32.const 1024)',
    '(func (export "opa_malloc") (param i32) (result f64) f64.const 1024)',
)
OTHER_EVALUATION = WITH_ADDRESSES.format(**RIGHT).replace(
    "(param i32 i32 i32 i32 i32 i32 i32)", "(param i64)"
)
Load = Callable[..., Awaitable[WasmEngine]]


@pytest.fixture
async def load() -> AsyncIterator[Load]:
    """Loads engines that are closed at the end."""
    async with AsyncExitStack() as stack:

        async def load_(wasm: bytes, data: dict[str, Any] = DATA, timeout_s: float = 30) -> WasmEngine:
            engine = await WasmEngine.load(wasm, compile_data(data), timeout_s=timeout_s)
            stack.push_async_callback(engine.close)
            return engine

        yield load_


@pytest.fixture
def own() -> bytes:
    """The package's module."""
    return (files("eksgateway.policy") / "policy.wasm").read_bytes()


@pytest.fixture
def compile_rules(tmp_path: Path) -> Callable[[str], bytes]:
    """Compiles rules for the caller x; all other callers are denied."""
    return lambda rules: compile_rego(f"package eksgateway.authz\n\n{DENY}\n\n{rules}\n", tmp_path)


X = at_request(caller("x"))


def _tickers() -> int:
    return sum(thread.name == "policy-ticker" for thread in threading.enumerate())


async def test_the_revision_depends_on_the_content_of_module_and_data(
    own: bytes, load: Load, compile_rules: Callable[[str], bytes]
) -> None:
    """The order of keys does not count."""
    first = (await load(own)).revision
    assert (await load(own, {"eksgateway": dict(reversed(CONTENT.items()))})).revision == first
    assert (await load(own, {"eksgateway": {"grants": []}})).revision != first
    assert (await load(compile_rules(""))).revision != first


async def test_a_module_that_needs_host_built_ins_is_refused_with_their_names(
    load: Load, compile_rules: Callable[[str], bytes]
) -> None:
    module = compile_rules('decision := {"allow": sprintf("%d", [time.now_ns()])} if input.subject.id == "x"')
    with pytest.raises(PolicyLoadError, match=r"built-ins .*: sprintf, time\.now_ns;"):
        await load(module)


@pytest.mark.parametrize(
    "wasm",
    [
        b"",
        b"garbage",
        b"\0asm\x01\0\0\0",
        wasmtime.wat2wasm(NO_FUNCTION),
        wasmtime.wat2wasm(NO_ADDRESS),
        wasmtime.wat2wasm(OTHER_EVALUATION),
    ],
    ids=["empty", "garbage", "other", "no function", "no address", "other evaluation"],
)
async def test_other_modules_are_refused(wasm: bytes, load: Load) -> None:
    """No thread is left."""
    before = _tickers()
    with pytest.raises(PolicyLoadError):
        await load(wasm)
    assert _tickers() == before


@pytest.mark.parametrize(
    "wrong",
    [{"data": -8}, {"heap": -8}, {"answer": -8}, {"data": 1 << 30}, {"heap": 1 << 30}, {"pages": 5000}],
    ids=str,
)
async def test_addresses_outside_the_modules_memory_are_refused(load: Load, wrong: dict[str, int]) -> None:
    assert not (await (await load(wasmtime.wat2wasm(WITH_ADDRESSES.format(**RIGHT)))).decide(X)).allowed
    with pytest.raises(PolicyLoadError):
        await load(wasmtime.wat2wasm(WITH_ADDRESSES.format(**RIGHT | wrong)))


async def test_a_policy_that_does_not_decide_the_samples_is_refused(
    load: Load, compile_rules: Callable[[str], bytes]
) -> None:
    module = compile_rules('decision := "yes" if input.subject.id != "x"')
    with pytest.raises(PolicyLoadError, match="does not answer"):
        await load(module)


async def test_large_data_is_loaded(own: bytes, load: Load) -> None:
    """The module's memory grows with it."""
    grants = [{**CONTENT["grants"][1], "id": f"g-{n}", "groups": [f"corp:{n}"]} for n in range(5000)]
    engine = await load(own, {"eksgateway": {"grants": grants}})
    decision = await engine.decide(at_request(caller("jwt:corp:a", "corp:4999"), "get"))
    assert decision.rule_ids == ("g-4999",)


async def test_data_beyond_the_memory_limit_is_refused(own: bytes, load: Load) -> None:
    """The error has the limit and advice."""
    with pytest.raises(PolicyLoadError, match=r"needs more than 128 MB .*: write fewer grants"):
        await load(own, {"x": "x" * (70 << 20)})


async def test_a_large_input_is_decided(own: bytes, load: Load) -> None:
    """The next input is decided as well."""
    engine = await load(own)
    alice = caller("jwt:corp:alice", "corp:platform")
    assert (await engine.decide(at_request(alice, reason="x" * 3_000_000))).allowed
    assert (await engine.decide(at_request(alice))).allowed


async def test_an_endless_evaluation_is_stopped_and_the_next_one_decides(
    load: Load, compile_rules: Callable[[str], bytes]
) -> None:
    """Its instance is not used again."""
    loop = "count([1 | some a in data.n; some b in data.n; some c in data.n; a + b + c < 0]) == 1"
    module = compile_rules(f'decision := {{"allow": true}} if {{\n\tinput.subject.id == "x"\n\t{loop}\n}}')
    engine = await load(module, {"n": list(range(2000))}, timeout_s=0.2)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(PolicyUnavailable) as caught:
            await engine.decide(X)
        assert time.monotonic() - began < 30
        assert "INTERRUPT" in caught.value.detail
        assert not (await engine.decide(at_request(caller("y")))).allowed


async def test_an_instance_is_not_used_after_a_trap(load: Load) -> None:
    """This one would allow everything."""
    engine = await load(wasmtime.wat2wasm(SPOILT_BY_A_TRAP))
    with pytest.raises(PolicyUnavailable):
        await engine.decide(at_request(caller("x"), reason="x" * 100_000))
    assert not (await engine.decide(X)).allowed


async def test_conflicting_rules_are_unavailable(load: Load, compile_rules: Callable[[str], bytes]) -> None:
    """An OPA server answers with status 500."""
    module = compile_rules(
        'decision := {"allow": true} if input.subject.id == "x"\n\n'
        'decision := {"allow": false} if startswith(input.subject.id, "x")'
    )
    engine = await load(module)
    with pytest.raises(PolicyUnavailable) as caught:
        await engine.decide(X)
    assert "conflict" in caught.value.detail
    assert not (await engine.decide(at_request(caller("y")))).allowed


async def test_an_evaluation_beyond_the_memory_limit_is_unavailable(
    load: Load, compile_rules: Callable[[str], bytes]
) -> None:
    grow = 'big := [concat("", [a, b, c]) | some a in data.s; some b in data.s; some c in data.s]'
    module = compile_rules(
        f'decision := {{"allow": true}} if {{\n\tinput.subject.id == "x"\n\t{grow}\n\tcount(big) > 1\n}}'
    )
    engine = await load(module, {"s": [str(n) * 2000 for n in range(9)] * 9}, timeout_s=60)
    with pytest.raises(PolicyUnavailable):
        await engine.decide(X)
    assert not (await engine.decide(at_request(caller("y")))).allowed


async def test_no_result_is_undefined(load: Load, compile_rules: Callable[[str], bytes]) -> None:
    engine = await load(compile_rules(""))
    with pytest.raises(PolicyUndefined):
        await engine.decide(X)


async def test_a_result_beyond_the_size_limit_is_invalid(
    load: Load, compile_rules: Callable[[str], bytes]
) -> None:
    rule = 'decision := {"allow": true, "reasons": data.s} if input.subject.id == "x"'
    engine = await load(compile_rules(rule), {"s": ["x" * 1000] * 1100})
    with pytest.raises(PolicyInvalid, match="not a decision"):
        await engine.decide(X)
    assert not (await engine.decide(at_request(caller("y")))).allowed


async def test_close_ends_the_thread(own: bytes) -> None:
    before = _tickers()
    engine = await WasmEngine.load(own, compile_data(DATA), timeout_s=2)
    assert _tickers() == before + 1
    await engine.close()
    assert _tickers() == before
