"""The private methods of opa-python-client that policy/opa_client.py overrides."""

from __future__ import annotations

import inspect

import pytest
from opa_client import AsyncOpaClient  # type: ignore[import-untyped]  # ships no types

METHODS = {
    "_init_session": ["self"],
    "_request": ["self", "method", "url", "**kwargs"],
}


@pytest.mark.parametrize(("name", "parameters"), METHODS.items(), ids=METHODS)
def test_the_client_has_the_overridden_methods(name: str, parameters: list[str]) -> None:
    """A version without them would ignore the overrides, and take redirects and responses of any size."""
    signature = inspect.signature(getattr(AsyncOpaClient, name))
    assert [str(each).partition(":")[0] for each in signature.parameters.values()] == parameters


def test_the_client_calls_the_overridden_methods() -> None:
    assert "_init_session" in AsyncOpaClient.__aenter__.__code__.co_names
    assert "_request" in AsyncOpaClient.query_rule.__code__.co_names
    request = inspect.unwrap(AsyncOpaClient._request)  # noqa: SLF001 - the subject of this test
    assert "_session" in request.__code__.co_names
