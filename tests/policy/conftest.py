"""Fixtures of the policy tests: the compiled policy with any data, and a real OPA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest

from eksgateway.policy.loaded_policy import LoadedPolicy
from eksgateway.policy.wasm import WasmEngine
from eksgateway.policy.wasm_module import PolicyModule
from eksgateway.policy.wasm_runtime import WasmRuntime
from support.opa import POLICIES, OpaServer, run_opa

Engines = Callable[[Any], WasmEngine]


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    """Returns engines of the package's module with the given ``data.eksgateway``."""
    runtime = WasmRuntime()
    wasm = (files("eksgateway.policy") / "policy.wasm").read_bytes()
    module = PolicyModule(runtime, wasm)
    yield lambda content: WasmEngine(LoadedPolicy(module, {"eksgateway": content}), timeout_s=10)
    runtime.close()


@pytest.fixture(scope="module")
def opa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpaServer]:
    """An OPA with the repository's policies and the example data, shared by the module."""
    with run_opa(log=tmp_path_factory.mktemp("opa") / "opa.log") as server:
        yield server


@pytest.fixture(scope="module")
def opa_without_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpaServer]:
    """An OPA with the repository's policies alone, shared by the module."""
    with run_opa(POLICIES / "eksgateway", log=tmp_path_factory.mktemp("opa") / "opa.log") as server:
        yield server
