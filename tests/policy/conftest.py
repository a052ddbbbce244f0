"""Fixtures of the policy tests: the compiled policy with any data, and a real OPA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eksgateway.policy.loaded_policy import LoadedPolicy
from eksgateway.policy.wasm import WasmEngine
from eksgateway.policy.wasm_module import PolicyModule
from support.opa import POLICIES, OpaServer, run_opa
from support.policies import compile_data
from support.policy_deciders import open_module

Engines = Callable[[Any], WasmEngine]


@pytest.fixture(scope="module")
def engines(policy_module: PolicyModule) -> Engines:
    """Returns engines of the package's module with the given ``data.eksgateway``."""
    return lambda content: WasmEngine(
        LoadedPolicy(policy_module, compile_data({"eksgateway": content})), timeout_s=10
    )


@pytest.fixture(scope="module")
def policy_module() -> Iterator[PolicyModule]:
    """The package's module."""
    with open_module() as module:
        yield module


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
