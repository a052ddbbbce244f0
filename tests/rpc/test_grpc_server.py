"""The private names of grpc that grpc_server.py uses."""

from __future__ import annotations

from types import SimpleNamespace

from grpc._cython import cygrpc

from eksgateway.rpc.grpc_server import missing_names


def test_missing_names_is_empty_for_the_locked_grpc() -> None:
    """Without them the gateway serves, but floods delay other callers: read grpc_server.py first."""
    assert missing_names(cygrpc) == []


def test_missing_names_lists_every_absent_name() -> None:
    assert missing_names(SimpleNamespace()) == [
        "_RequestCallError",
        "InternalError",
        "_request_call",
        "_request_registered_call",
        "add_registered_method_handlers",
        "is_running",
        "_handle_stream_unary_rpc",
        "_handle_stream_stream_rpc",
        "_schedule_rpc_coro",
    ]


def test_missing_names_lists_functions_with_other_arguments() -> None:
    """Such a function would fail at the first call, after core has handed it over."""

    def _handle_stream_unary_rpc(method_handler: object, other: int) -> None:
        """A later grpc's signature."""

    names = {name: getattr(cygrpc, name) for name in dir(cygrpc) if not name.startswith("__")}
    assert missing_names(
        SimpleNamespace(**(names | {"_handle_stream_unary_rpc": _handle_stream_unary_rpc}))
    ) == ["_handle_stream_unary_rpc"]
