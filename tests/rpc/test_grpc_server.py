"""The private names of grpc that accepting.py needs."""

from __future__ import annotations

from types import SimpleNamespace

from grpc._cython import cygrpc

from eksgateway.rpc.grpc_server import missing_names


def test_missing_names_is_empty_for_the_locked_grpc() -> None:
    """A grpc without them serves, and guards against no flood: look at accepting.py before taking it."""
    assert missing_names(cygrpc) == []


def test_missing_names_lists_what_a_module_lacks() -> None:
    assert missing_names(SimpleNamespace()) == [
        "_MethodResolver",
        "_RequestCallError",
        "InternalError",
        "_request_call",
        "_request_registered_call",
        "add_registered_method_handlers",
        "is_running",
        "_handle_rpc",
        "_schedule_rpc_coro",
    ]


def test_missing_names_lists_a_function_with_other_arguments() -> None:
    """It would fail at the first call, after that call has been taken from core."""

    def _handle_rpc(method_name: str, other: int) -> None:
        """As a later grpc might have it."""

    names = {name: getattr(cygrpc, name) for name in dir(cygrpc) if not name.startswith("__")}
    assert missing_names(SimpleNamespace(**(names | {"_handle_rpc": _handle_rpc}))) == ["_handle_rpc"]
