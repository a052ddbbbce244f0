"""A policy compiled by ``opa build -t wasm``, run through wasmtime: OPA's Wasm ABI 1.2, nothing else.

https://www.openpolicyagent.org/docs/latest/wasm/ describes the ABI; ``opa_eval`` takes the input
as JSON in the module's memory and gives the result set as JSON.
"""

from __future__ import annotations

import ctypes
import time
import weakref
from typing import Final

import wasmtime

from eksgateway.errors import PolicyInvalid
from eksgateway.policy.engine import MAX_ANSWER_BYTES, PolicyLoadError, read_json
from eksgateway.policy.wasm_runtime import Ticker

_PAGE: Final = 65_536
MAX_MEMORY_BYTES: Final = 128 << 20  # of one instance: data, input, and what an evaluation allocates
_MAX_TABLE: Final = 100_000
_INSTANCES: Final = 2  # the policy, and the function that calls it: see _evaluation
_OUT_OF_MEMORY: Final = "opa_malloc"  # in what the guest says when it aborts
_CHUNK_BYTES: Final = 4096  # read at once while looking for the end of an answer
# Addresses: wasmtime gives them signed, and what is below the guest's memory is the process's.
_UNSIGNED: Final = 0xFFFF_FFFF
_FORMAT_JSON: Final = 0
_EXPORTS: Final = frozenset(
    {"builtins", "opa_eval", "opa_heap_ptr_get", "opa_json_dump", "opa_json_parse", "opa_malloc"}
)

# The arguments of opa_eval in ABI 1.2: reserved, entrypoint, data, input's address and size, heap, format.
# The input's size comes before it in memory.
_EVALUATION: Final = """
(module
  (import "env" "memory" (memory 1))
  (import "policy" "opa_eval" (func $opa_eval (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (func (export "evaluate") (result i32)
    (local $size i32)
    (local.set $size (i32.load (i32.const {size})))
    (call $opa_eval
      (i32.const 0) (i32.const 0) (i32.const {data})
      (i32.const {input}) (local.get $size) (i32.add (i32.const {input}) (local.get $size))
      (i32.const {format}))))
"""
_SIZE_BYTES: Final = 4


class EvaluationFailed(Exception):
    """The guest trapped, aborted or ran past its deadline; its instance must not be used again."""

    def __init__(self, text: str, took_s: float, *, interrupted: bool = False) -> None:
        super().__init__(text)
        self.took_s = took_s  # CPU time
        self.interrupted = interrupted  # ran past its deadline
        self.out_of_memory = _OUT_OF_MEMORY in text


class PolicyModule:
    """Machine code for a module, with what its instances share. Compiling takes about 0.1 s."""

    def __init__(self, engine: wasmtime.Engine, ticker: Ticker, wasm: bytes) -> None:
        try:
            self.code = wasmtime.Module(engine, wasm)
        except wasmtime.WasmtimeError as exc:
            raise PolicyLoadError(f"the policy is not a WebAssembly module: {exc}") from exc
        memories = [i.type for i in self.code.imports if isinstance(i.type, wasmtime.MemoryType)]
        functions = {each.name for each in self.code.exports if isinstance(each.type, wasmtime.FuncType)}
        if not memories or not functions >= _EXPORTS:
            raise PolicyLoadError("the policy is not a module that `opa build -t wasm` made for ABI 1.2")
        self.min_pages: int = memories[0].limits.min
        self.wasm = wasm
        self.engine = engine
        self.ticker = ticker


class PolicyInstance:
    """One instance of a module with its data: evaluates inputs one after the other, never two at once.

    ``close`` gives its memory back; a guest's memory only ever grows. ``took_s`` is the CPU time of the
    last evaluation, without what Python does before and after it.
    """

    def __init__(self, module: PolicyModule, data: bytes, *, load_s: float) -> None:
        self._ticker = module.ticker
        self._aborted = ""
        self.took_s = 0.0
        self._store = wasmtime.Store(module.engine)
        self._store.set_limits(
            memory_size=MAX_MEMORY_BYTES,
            memories=1,
            instances=_INSTANCES,
            tables=1,
            table_elements=_MAX_TABLE,
        )
        try:
            self._load(module, data, load_s)
        except BaseException:
            self.close()
            raise

    def _load(self, module: PolicyModule, data: bytes, load_s: float) -> None:
        limits = wasmtime.Limits(module.min_pages, MAX_MEMORY_BYTES // _PAGE)
        try:
            self._memory = wasmtime.Memory(self._store, wasmtime.MemoryType(limits))
            with self._ticker.deadline(self._store, load_s):
                self._exports = self._link(module).exports(self._store)
                self._refuse_built_ins()
                address = self._parse(data)
                self._heap: int = self._call("opa_heap_ptr_get")
                self._eval = self._evaluation(module.engine, address)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as exc:
            raise self._not_loaded(self._failure(exc)) from exc
        if self._aborted:
            raise self._not_loaded(self._failure())

    @property
    def memory_bytes(self) -> int:
        """What the guest has allocated by now."""
        return self._memory.data_len(self._store)

    def close(self) -> None:
        """Release the guest's memory. Not while it evaluates."""
        self._store.close()

    def evaluate(self, document: bytes, *, deadline_s: float) -> bytes:
        """The result set for an input, as JSON of at most one byte more than an answer may have. Raises
        EvaluationFailed.
        """
        self.took_s = 0.0
        try:
            # Everything from _heap on is scratch: each evaluation overwrites the one before.
            self._write(self._heap, len(document).to_bytes(_SIZE_BYTES, "little") + document)
            with self._ticker.deadline(self._store, deadline_s):
                answer = self._timed()
        except (wasmtime.Trap, wasmtime.WasmtimeError) as exc:
            interrupted = isinstance(exc, wasmtime.Trap) and exc.trap_code is wasmtime.TrapCode.INTERRUPT
            raise EvaluationFailed(self._failure(exc), self.took_s, interrupted=interrupted) from exc
        if self._aborted:
            raise EvaluationFailed(self._failure(), self.took_s)
        return self._text(answer)

    def _timed(self) -> int:
        began = time.thread_time()
        try:
            answer: int = self._eval(self._store)
        finally:
            self.took_s = time.thread_time() - began
        return answer

    def _link(self, module: PolicyModule) -> wasmtime.Instance:
        # Weakly: wasmtime holds the function while the store lives, and the store lives while self does.
        weak = weakref.WeakMethod(self._note_abort)

        def abort(address: int) -> None:
            # Never raises: wasmtime-py keeps a callback's exception in a variable that all threads share.
            # What the compiler puts after a call of opa_abort traps.
            if note := weak():
                note(address)

        linker = wasmtime.Linker(module.engine)
        linker.define(self._store, "env", "memory", self._memory)
        linker.define_func("env", "opa_abort", wasmtime.FuncType([wasmtime.ValType.i32()], []), abort)
        linker.define_unknown_imports_as_traps(module.code)  # opa_builtin0 … 4: see _refuse_built_ins
        return linker.instantiate(self._store, module.code)

    def _note_abort(self, address: int) -> None:
        self._aborted = self._text(address)[:500].decode("utf-8", "replace") or "without a reason"

    def _failure(self, exc: wasmtime.Trap | wasmtime.WasmtimeError | None = None) -> str:
        if self._aborted:
            return f"the policy aborted: {self._aborted}"
        if isinstance(exc, wasmtime.Trap):
            return f"trap {exc.trap_code.name}" if exc.trap_code else "trap"
        return str(exc)

    def _not_loaded(self, failure: str) -> PolicyLoadError:
        if _OUT_OF_MEMORY in failure:
            return PolicyLoadError(
                f"the policy's data needs more than {MAX_MEMORY_BYTES >> 20} MB of memory before anything is"
                " decided: write fewer grants, or use the engine opa"
            )
        return PolicyLoadError(f"the policy or its data cannot be loaded: {failure}")

    def _refuse_built_ins(self) -> None:
        try:
            names = read_json(self._text(self._call("opa_json_dump", self._call("builtins"))))
        except PolicyInvalid as exc:
            raise PolicyLoadError(f"the policy's list of built-ins cannot be read: {exc.detail}") from exc
        if names:
            raise PolicyLoadError(
                "the policy needs built-ins that only an OPA server has: "
                f"{', '.join(sorted(names))}; write it without them, or use the engine opa"
            )

    def _parse(self, document: bytes) -> int:
        address = self._call("opa_malloc", len(document))
        self._write(address, document)
        value = self._call("opa_json_parse", address, len(document))
        if not value:
            raise PolicyLoadError("the policy's data is not JSON")
        return value

    def _evaluation(self, engine: wasmtime.Engine, data: int) -> wasmtime.Func:
        """``opa_eval`` as a function without arguments: wasmtime-py converts each of a call's at about the
        cost of evaluating the policy.
        """
        places = {"data": data, "size": self._heap, "input": self._heap + _SIZE_BYTES}
        code = wasmtime.Module(engine, _EVALUATION.format(**places, format=_FORMAT_JSON))
        instance = wasmtime.Instance(self._store, code, [self._memory, self._exports["opa_eval"]])
        return _function(instance.exports(self._store)["evaluate"])

    def _call(self, name: str, *arguments: int) -> int:
        result = _function(self._exports[name])(self._store, *arguments)
        if not isinstance(result, int):  # a module of one's own may give another type, or nothing
            raise PolicyLoadError(f"the policy's function {name} does not give an i32, as in ABI 1.2")
        return result

    def _write(self, address: int, content: bytes) -> None:
        address &= _UNSIGNED
        missing = address + len(content) - self._memory.data_len(self._store)
        if missing > 0:
            self._memory.grow(self._store, -(-missing // _PAGE))
        ctypes.memmove(self._base() + address, content, len(content))

    def _text(self, address: int) -> bytes:
        """A C string in the guest's memory, up to one byte more than an answer may have."""
        address &= _UNSIGNED
        left = min(self._memory.data_len(self._store) - address, MAX_ANSWER_BYTES + 1)
        place, found = self._base() + address, bytearray()
        while left > 0:
            chunk, end, _ = ctypes.string_at(place, min(left, _CHUNK_BYTES)).partition(b"\0")
            found += chunk
            if end:
                break
            place, left = place + _CHUNK_BYTES, left - _CHUNK_BYTES
        return bytes(found)

    def _base(self) -> int:
        """Where the guest's memory begins in this process's; growing moves it."""
        return ctypes.addressof(self._memory.data_ptr(self._store).contents)


def _function(export: object) -> wasmtime.Func:
    assert isinstance(export, wasmtime.Func)  # noqa: S101 - for mypy: what is called of the ABI is a function
    return export
