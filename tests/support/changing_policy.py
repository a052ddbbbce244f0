"""Real policy engines, each with a function that changes its data as an operator does."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eksgateway.clock import SystemClock
from eksgateway.policy.engine import PolicyEngine
from eksgateway.policy.factory import open_policy_engine
from eksgateway.settings import OpaPolicySettings, OpaSettings, WasmPolicySettings
from support.opa import POLICIES, OpaServer, compile_index, run_opa, write_compiled

Data = dict[str, Any]
_BUNDLE = "gateway"


@dataclass
class ChangeablePolicy:
    """An engine, closed by the test. ``change`` replaces its data."""

    engine: PolicyEngine
    change: Callable[[Data], None]


Serve = Callable[[Path, Path, Data], AbstractAsyncContextManager[ChangeablePolicy]]


@asynccontextmanager
async def run_wasm(path: Path, rego: Path, data: Data) -> AsyncIterator[ChangeablePolicy]:
    """The engine ``wasm``, with data in a file."""
    file = path / "policy-data.json"
    file.write_text(json.dumps(data))
    module = await asyncio.to_thread(build_module, rego, path)
    engine = await open_policy_engine(WasmPolicySettings(data=file, module=module), SystemClock())
    yield ChangeablePolicy(engine, lambda new: _replace(file, new))


@asynccontextmanager
async def run_plain_opa(path: Path, rego: Path, data: Data) -> AsyncIterator[ChangeablePolicy]:
    """The engine ``opa``, with data set over OPA's API."""
    file = write_compiled(data, path / "opa-data.json")
    with run_opa(rego, file, log=path / "opa.log") as opa:
        yield ChangeablePolicy(
            await _open_engine(opa), lambda new: opa.put("eksgateway/index", compile_index(new))
        )


@asynccontextmanager
async def run_opa_with_bundle(path: Path, rego: Path, data: Data) -> AsyncIterator[ChangeablePolicy]:
    """The engine ``opa``, with data in a bundle that OPA watches."""
    bundle = path / _BUNDLE
    shutil.copytree(rego, bundle)
    _write_bundle(bundle, data, "1")
    arguments = ["--bundle", "--watch"]
    with run_opa(bundle, log=path / "opa.log", arguments=arguments) as opa:
        yield ChangeablePolicy(
            await _open_engine(opa, str(bundle)), lambda new: _write_bundle(bundle, new, "2")
        )


def write_custom_rego(path: Path, old: str, new: str) -> Path:
    """Write the project's policy with one replacement into a folder."""
    folder = shutil.copytree(POLICIES / "eksgateway", path / "rego")
    authz = folder / "authz.rego"
    text = authz.read_text()
    assert text.count(old) == 1
    authz.write_text(text.replace(old, new))
    return folder


def build_module(rego: Path, path: Path) -> Path:
    """Compile a folder of Rego to Wasm with ``opa build``."""
    archive = path / "module.tar.gz"
    sources = [str(path) for path in rego.glob("*.rego") if path.name != "revision.rego"]
    build = ["opa", "build", "-t", "wasm", "-e", "eksgateway/authz/decision", "-o", str(archive), *sources]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    with tarfile.open(archive) as content:
        module = content.extractfile("/policy.wasm")
        assert module is not None
        (path / "own.wasm").write_bytes(module.read())
    return path / "own.wasm"


async def _open_engine(opa: OpaServer, bundle: str = "") -> PolicyEngine:
    settings = OpaPolicySettings(opa=OpaSettings(url=opa.url, bundle=bundle))
    return await open_policy_engine(settings, SystemClock())


def _replace(file: Path, data: Data) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(data))
    beside.replace(file)


def _write_bundle(bundle: Path, data: Data, revision: str) -> None:
    write_compiled(data, bundle / "data.json")
    (bundle / ".manifest").write_text(json.dumps({"revision": revision, "roots": ["eksgateway"]}))
