"""A client is named in metadata by the edge alone."""

from __future__ import annotations

from typing import Any

import pytest

from eksgateway.rpc.peers import EdgePeers, read_connection

CLIENT = "http://192.0.2.1:1"


class Context:
    """The part of grpc's context that is read."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self._metadata = metadata

    def peer(self) -> str:
        return "unix:"

    def invocation_metadata(self) -> Any:
        return self._metadata


def test_edge_names_its_client() -> None:
    """The name is not passed on."""
    peers = EdgePeers()
    context: Any = Context(("x-a", "b"), peers.name(CLIENT))
    assert peers.read(context) == (CLIENT, (("x-a", "b"),))


@pytest.mark.parametrize("value", [CLIENT, f" {CLIENT}", f"x {CLIENT}", "", b"\xff"], ids=str)
def test_other_processes_cannot_name_one(value: Any) -> None:
    """They may reach the edge's socket, and do not know its secret."""
    context: Any = Context(("eksgateway-edge", value))
    assert EdgePeers().read(context) == ("unix:", ())


def test_secret_of_another_process_is_none() -> None:
    context: Any = Context(EdgePeers().name(CLIENT))
    assert EdgePeers().read(context)[0] == "unix:"


def test_listeners_believe_no_name() -> None:
    context: Any = Context(EdgePeers().name(CLIENT))
    assert read_connection(context)[0] == "unix:"
