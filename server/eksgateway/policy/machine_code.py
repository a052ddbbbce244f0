"""Keeps the machine code of policies for the next start: compiling takes 0.3 s of CPU time, reading it 6 ms.

Machine code is trusted like the program, so it is read only from a folder that no other user can write, and
compiled otherwise. wasmtime refuses code for other settings, another version or a CPU that lacks a feature.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

import wasmtime

from eksgateway.logs import Log
from eksgateway.policy.private_folder import open_private_folder

log = Log(__name__)

_SUFFIX: Final = ".wasmtime"
_MAX_FILES: Final = 8  # of about 0.7 MB
_MAX_BYTES: Final = 128 << 20
_DIGEST_BYTES: Final = 32


def load_module(engine: wasmtime.Engine, settings: str, wasm: bytes) -> wasmtime.Module:
    """``settings`` names the engine's settings. Raises WasmtimeError for what is not a module."""
    path, label = find_folder(), label_of(settings, wasm)
    if path is not None and (kept := _read(path, label)) is not None:
        with contextlib.suppress(wasmtime.WasmtimeError):  # e.g. code for a newer CPU
            return wasmtime.Module.deserialize(engine, kept)
    module = wasmtime.Module(engine, wasm)
    if path is not None:
        _write(path, label, bytes(module.serialize()))
    return module


def find_folder() -> Path | None:
    """Of systemd (``CacheDirectory=``), of XDG, or in the user's home."""
    service, user = os.environ.get("CACHE_DIRECTORY"), os.environ.get("XDG_CACHE_HOME")
    path = Path(service.split(":")[0]) if service else Path(user or "~/.cache") / "eksgateway"
    try:
        path = path.expanduser()
    except RuntimeError:  # the user has no home
        return None
    return path if path.is_absolute() else None


def label_of(settings: str, wasm: bytes) -> bytes:
    """Distinct for all that makes another machine code, but for the CPU's features."""
    parts = (version("wasmtime"), platform.machine(), settings)
    return hashlib.sha256(hashlib.sha256(wasm).digest() + "\n".join(parts).encode()).digest()


def name_of(label: bytes) -> str:
    return f"{label.hex()}{_SUFFIX}"


def pack(label: bytes, code: bytes) -> bytes:
    """With a digest, so that a damaged file or one of another name is compiled anew."""
    return hashlib.sha256(label + code).digest() + code


def _read(path: Path, label: bytes) -> bytes | None:
    try:
        with open_private_folder(path) as folder:
            content = folder.read(name_of(label), _MAX_BYTES)
    except OSError:  # logged by _write, unless that replaces the file
        return None
    code = content[_DIGEST_BYTES:]
    return code if pack(label, code) == content else None


def _write(path: Path, label: bytes, code: bytes) -> None:
    try:
        with open_private_folder(path) as folder:
            folder.replace(name_of(label), pack(label, code))
            folder.keep_newest(_MAX_FILES, _SUFFIX)
    except OSError as exc:
        log.info("policy.machine_code_not_kept", folder=str(path), detail=str(exc))
