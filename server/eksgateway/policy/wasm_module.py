"""A policy compiled by ``opa build -t wasm``, run through wasmtime: OPA's Wasm ABI 1.2, nothing else.

https://www.openpolicyagent.org/docs/latest/wasm/ describes the ABI; ``opa_eval`` takes the input
as JSON in the module's memory and gives the result set as JSON.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any, Final

import wasmtime

from eksgateway.policy.engine import MAX_ANSWER_BYTES, PolicyLoadError, read_json
from eksgateway.policy.ticker import Ticker

_PAGE: Final = 65_536
_MAX_PAGES: Final = 4096  # 256 MB: a policy that wants more aborts by itself, and not the process
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
    """One instance of a module with its data: evaluates inputs one after the other, never two at once."""

    def __init__(self, module: PolicyModule, data: bytes, *, load_s: float) -> None:
        self._ticker = module.ticker
        self._store = wasmtime.Store(module.engine)
        limits = wasmtime.Limits(module.min_pages, _MAX_PAGES)
        try:
            self._memory = wasmtime.Memory(self._store, wasmtime.MemoryType(limits))
            with self._ticker.deadline(self._store, load_s):
                self._exports = self._link(module).exports(self._store)
                self._refuse_built_ins()
                address = self._parse(data)
                self._heap: int = self._call("opa_heap_ptr_get")
                self._eval = self._evaluation(module.engine, address)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as exc:
            raise PolicyLoadError(f"the policy or its data cannot be loaded: {_told(exc)}") from exc

    def evaluate(self, document: bytes, *, deadline_s: float) -> Any:
        """The result set for an input. Raises EvaluationFailed, or PolicyInvalid for an unreadable answer."""
        try:
            # Everything from _heap on is scratch: each evaluation overwrites the one before.
            self._write(self._heap, len(document).to_bytes(_SIZE_BYTES, "little") + document)
            with self._ticker.deadline(self._store, deadline_s):
                answer = self._eval(self._store)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as exc:
            raise EvaluationFailed(_told(exc)) from exc
        return read_json(self._text(answer))

    def _link(self, module: PolicyModule) -> wasmtime.Instance:
        # Weakly: wasmtime holds the function while the store lives, and the store lives while self does.
        weak = weakref.WeakMethod(self._text)

        def abort(address: int) -> None:
            text = weak()
            told = text(address)[:500].decode("utf-8", "replace") if text else ""
            raise wasmtime.WasmtimeError(f"the policy aborted: {told}")

        linker = wasmtime.Linker(module.engine)
        linker.define(self._store, "env", "memory", self._memory)
        linker.define_func("env", "opa_abort", wasmtime.FuncType([wasmtime.ValType.i32()], []), abort)
        linker.define_unknown_imports_as_traps(module.code)  # opa_builtin0 … 4: see _refuse_built_ins
        return linker.instantiate(self._store, module.code)

    def _refuse_built_ins(self) -> None:
        names = read_json(self._text(self._call("opa_json_dump", self._call("builtins"))))
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
        result: int = _function(self._exports[name])(self._store, *arguments)
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
        size = min(self._memory.data_len(self._store) - address, MAX_ANSWER_BYTES + 1)
        if size <= 0:
            return b""
        text: bytes = (ctypes.c_char * size).from_address(self._base() + address).value
        return text

    def _base(self) -> int:
        """Where the guest's memory begins in this process's; growing moves it."""
        return ctypes.addressof(self._memory.data_ptr(self._store).contents)


def _function(export: object) -> wasmtime.Func:
    assert isinstance(export, wasmtime.Func)  # noqa: S101 - for mypy: what is called of the ABI is a function
    return export


def _told(exc: wasmtime.Trap | wasmtime.WasmtimeError) -> str:
    if isinstance(exc, wasmtime.Trap):
        return f"trap {exc.trap_code.name}" if exc.trap_code else "trap"
    return str(exc)
