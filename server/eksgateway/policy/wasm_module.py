"""Runs a policy compiled by ``opa build -t wasm`` in wasmtime. Only OPA's Wasm ABI 1.2 is supported.

https://www.openpolicyagent.org/docs/latest/wasm/ describes it.
"""

from __future__ import annotations

import time
import weakref
from typing import Final

import wasmtime

from eksgateway.errors import PolicyInvalid
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.eval_function import EvalFunction
from eksgateway.policy.guest_memory import GuestMemory
from eksgateway.policy.machine_code import load_module
from eksgateway.policy.results import MAX_RESULT_BYTES, parse_response
from eksgateway.policy.wasm_runtime import WasmRuntime

MAX_MEMORY_BYTES: Final = 128 << 20  # of one instance: data, input, and what an evaluation allocates
_MAX_TABLE: Final = 100_000
_OUT_OF_MEMORY: Final = "opa_malloc"  # in the message with which the guest aborts
_EXPORTS: Final = frozenset(
    {"builtins", "opa_eval", "opa_heap_ptr_get", "opa_json_dump", "opa_json_parse", "opa_malloc"}
)


class EvaluationFailed(Exception):
    """The guest trapped, aborted or, if ``interrupted``, passed its deadline. ``took_s`` is CPU time.

    Its instance must not be used again.
    """

    def __init__(self, text: str, took_s: float, *, interrupted: bool = False) -> None:
        super().__init__(text)
        self.took_s = took_s
        self.interrupted = interrupted
        self.out_of_memory = _OUT_OF_MEMORY in text


class PolicyModule:
    """The machine code, shared by instances. Compiling takes about 0.3 s, unless it was kept."""

    def __init__(self, runtime: WasmRuntime, wasm: bytes) -> None:
        try:
            self.code = load_module(runtime.engine, runtime.settings, wasm)
        except wasmtime.WasmtimeError as exc:
            raise PolicyLoadError(f"the policy is not a WebAssembly module: {exc}") from exc
        memories = [i.type for i in self.code.imports if isinstance(i.type, wasmtime.MemoryType)]
        functions = {each.name for each in self.code.exports if isinstance(each.type, wasmtime.FuncType)}
        if not memories or not functions >= _EXPORTS:
            raise PolicyLoadError("the policy is not a module that `opa build -t wasm` made for ABI 1.2")
        self.min_pages: int = memories[0].limits.min
        self.wasm = wasm
        self.runtime = runtime


class PolicyInstance:
    """One instance of a module with its data. It evaluates one input at a time.

    A guest's memory only grows; ``close`` frees it. ``took_s`` is the guest's CPU time for the last input.
    """

    def __init__(self, module: PolicyModule, data: bytes, *, load_s: float) -> None:
        self._runtime = module.runtime
        self._aborted = ""
        self.took_s = 0.0
        self._store = wasmtime.Store(module.runtime.engine)
        self._store.set_limits(
            memory_size=MAX_MEMORY_BYTES,
            memories=1,
            instances=1,
            tables=1,
            table_elements=_MAX_TABLE,
        )
        try:
            self._load(module, data, load_s)
        except BaseException:
            self.close()
            raise

    def _load(self, module: PolicyModule, data: bytes, load_s: float) -> None:
        try:
            self._memory = GuestMemory(self._store, min_pages=module.min_pages, max_bytes=MAX_MEMORY_BYTES)
            with self._runtime.deadline(self._store, load_s):
                self._exports = self._link(module).exports(self._store)
                self._refuse_built_ins()
                self._data = self._parse(data)
                self._heap = self._call("opa_heap_ptr_get")
                self._eval = EvalFunction(self._store, _function(self._exports["opa_eval"]))
        except (wasmtime.Trap, wasmtime.WasmtimeError) as exc:
            raise self._load_error(self._failure(exc)) from exc
        if self._aborted:
            raise self._load_error(self._failure())

    @property
    def memory_bytes(self) -> int:
        return self._memory.size

    def close(self) -> None:
        """Not while it evaluates."""
        self._store.close()

    def evaluate(self, document: bytes, *, deadline_s: float) -> bytes:
        """The result set for an input (JSON), cut off after MAX_RESULT_BYTES + 1. Raises EvaluationFailed."""
        self.took_s = 0.0
        try:
            # Memory from _heap on is scratch: each evaluation overwrites the one before.
            self._memory.write(self._heap, document)
            self._runtime.begin(self._store, deadline_s)
            try:
                address = self._call_eval(len(document))
            finally:
                self._runtime.end(self._store)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as exc:
            interrupted = isinstance(exc, wasmtime.Trap) and exc.trap_code is wasmtime.TrapCode.INTERRUPT
            raise EvaluationFailed(self._failure(exc), self.took_s, interrupted=interrupted) from exc
        if self._aborted:
            raise EvaluationFailed(self._failure(), self.took_s)
        return self._read(address)

    def _call_eval(self, size: int) -> int:
        began = time.thread_time()
        try:
            return self._eval(self._data, self._heap, size)
        finally:
            self.took_s = time.thread_time() - began
            self._memory.refresh()

    def _link(self, module: PolicyModule) -> wasmtime.Instance:
        # A weak reference avoids a cycle: wasmtime keeps the function as long as the store.
        weak = weakref.WeakMethod(self._note_abort)

        def abort(address: int) -> None:
            # Must not raise: wasmtime-py keeps a callback's exception in a variable that all threads share.
            # The compiler puts a trap after each call of opa_abort.
            if note := weak():
                note(address)

        linker = wasmtime.Linker(module.runtime.engine)
        linker.define(self._store, "env", "memory", self._memory.exported)
        linker.define_func("env", "opa_abort", wasmtime.FuncType([wasmtime.ValType.i32()], []), abort)
        linker.define_unknown_imports_as_traps(module.code)  # opa_builtin0 … 4: see _refuse_built_ins
        return linker.instantiate(self._store, module.code)

    def _read(self, address: int) -> bytes:
        return self._memory.read_string(address, MAX_RESULT_BYTES + 1)

    def _note_abort(self, address: int) -> None:
        self._memory.refresh()
        self._aborted = self._read(address)[:500].decode("utf-8", "replace") or "without a reason"

    def _failure(self, exc: wasmtime.Trap | wasmtime.WasmtimeError | None = None) -> str:
        if self._aborted:
            return f"the policy aborted: {self._aborted}"
        if isinstance(exc, wasmtime.Trap):
            return f"trap {exc.trap_code.name}" if exc.trap_code else "trap"
        return str(exc)

    def _load_error(self, failure: str) -> PolicyLoadError:
        if _OUT_OF_MEMORY in failure:
            return PolicyLoadError(
                f"the policy's data needs more than {MAX_MEMORY_BYTES >> 20} MB of memory when it is loaded:"
                " write fewer grants, or use the engine opa"
            )
        return PolicyLoadError(f"the policy or its data cannot be loaded: {failure}")

    def _refuse_built_ins(self) -> None:
        try:
            names = parse_response(self._read(self._call("opa_json_dump", self._call("builtins"))))
        except PolicyInvalid as exc:
            raise PolicyLoadError(f"the policy's list of built-ins cannot be read: {exc.detail}") from exc
        if names:
            raise PolicyLoadError(
                "the policy needs built-ins that only an OPA server has: "
                f"{', '.join(sorted(names))}; write it without them, or use the engine opa"
            )

    def _parse(self, document: bytes) -> int:
        address = self._call("opa_malloc", len(document))
        self._memory.write(address, document)
        value = self._call("opa_json_parse", address, len(document))
        if not value:
            raise PolicyLoadError("the policy's data is not JSON")
        return value

    def _call(self, name: str, *arguments: int) -> int:
        result = _function(self._exports[name])(self._store, *arguments)
        self._memory.refresh()
        if not isinstance(result, int):  # another module's function may return another type, or nothing
            raise PolicyLoadError(f"the policy's function {name} does not return an i32 as in ABI 1.2")
        return result


def _function(export: object) -> wasmtime.Func:
    assert isinstance(export, wasmtime.Func)  # noqa: S101 - for mypy
    return export
