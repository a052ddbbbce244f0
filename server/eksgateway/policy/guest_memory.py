"""The memory of a Wasm guest, by its address in this process."""

from __future__ import annotations

import ctypes
from typing import Final

import wasmtime

_PAGE_BYTES: Final = 65_536
_CHUNK_BYTES: Final = 4096  # read at a time while looking for the end of a string
# wasmtime returns addresses signed. A negative one would point to the process's own memory.
_UNSIGNED: Final = 0xFFFF_FFFF


class GuestMemory:
    """Addresses are the guest's. Call ``refresh`` after the guest has run."""

    def __init__(self, store: wasmtime.Store, *, min_pages: int, max_bytes: int) -> None:
        limits = wasmtime.Limits(min_pages, max_bytes // _PAGE_BYTES)
        self._store = store
        self.exported = wasmtime.Memory(store, wasmtime.MemoryType(limits))
        self.size = -1
        self.refresh()

    def refresh(self) -> None:
        size = self.exported.data_len(self._store)
        if size != self.size:  # the address can change only then; to keep it saves 3 µs a decision
            self.size = size
            self._base = ctypes.addressof(self.exported.data_ptr(self._store).contents)

    def write(self, address: int, content: bytes) -> None:
        """Grows the memory if it is too small. Raises WasmtimeError beyond its limit."""
        address &= _UNSIGNED
        missing = address + len(content) - self.size
        if missing > 0:
            self.exported.grow(self._store, -(-missing // _PAGE_BYTES))
            self.refresh()
        ctypes.memmove(self._base + address, content, len(content))

    def read_string(self, address: int, max_bytes: int) -> bytes:
        """A C string, cut off after ``max_bytes``."""
        address &= _UNSIGNED
        left = min(self.size - address, max_bytes)
        pointer, content = self._base + address, b""
        while left > 0:
            chunk, end, _ = ctypes.string_at(pointer, min(left, _CHUNK_BYTES)).partition(b"\0")
            content = content + chunk if content else chunk
            if end:
                break
            pointer, left = pointer + _CHUNK_BYTES, left - _CHUNK_BYTES
        return content
