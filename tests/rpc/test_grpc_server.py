"""The private names of grpc that grpc_server.py uses."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from types import SimpleNamespace

import grpc
from grpc._cython import cygrpc

from eksgateway.rpc.grpc_server import missing_names, read_all_wake_ups


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


async def test_the_reader_of_the_locked_grpc_is_replaced_once() -> None:
    server = grpc.aio.server()
    loop = asyncio.get_running_loop()
    assert [read_all_wake_ups(loop), read_all_wake_ups(loop)] == [1, 0]
    await server.stop(0)


async def test_one_turn_reads_all_wake_ups() -> None:
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    turns = []

    class Completions:
        def _handle_events(self, loop: asyncio.AbstractEventLoop) -> None:
            """As grpc's, which reads one byte if there is one."""
            turns.append(loop)

    loop = asyncio.get_running_loop()
    loop.add_reader(reading, partial(Completions()._handle_events, loop))  # noqa: SLF001  its own
    with reading, writing:
        assert read_all_wake_ups(loop) == 1
        for events in (100, 1):
            writing.send(b"x" * events)
            async with asyncio.timeout(20):
                while not turns:  # noqa: ASYNC110  turns of the event loop are what is counted
                    await asyncio.sleep(0)
            for _ in range(5):
                await asyncio.sleep(0)
            assert turns == [loop]
            turns.clear()
        loop.remove_reader(reading)
