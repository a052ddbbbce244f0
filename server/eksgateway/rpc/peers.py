"""Which peer a call has: its connection's, or for a call by the HTTP edge the edge's client."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Final, TypeAlias

from eksgateway.rpc.context import Metadata, RpcContext

_KEY: Final = "eksgateway-edge"

# Returns the peer, and the metadata of its client.
ReadPeer: TypeAlias = Callable[[RpcContext], tuple[str, Metadata]]


def read_connection(context: RpcContext) -> tuple[str, Metadata]:
    """As core reports it. No metadata changes it."""
    return context.peer(), tuple(context.invocation_metadata() or ())


class EdgePeers:
    """For the internal listener of the HTTP edge: the edge names its client in the metadata.

    A secret proves that the edge wrote it, as other processes of this machine may reach the listener too.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_urlsafe(18)

    def name(self, peer: str) -> tuple[str, str]:
        """The metadata that names a client."""
        return _KEY, f"{self._secret} {peer}"

    def read(self, context: RpcContext) -> tuple[str, Metadata]:
        """A ``ReadPeer``."""
        peer, metadata = read_connection(context)
        for key, value in metadata:
            if key == _KEY and isinstance(value, str):
                secret, _, named = value.partition(" ")
                peer = named if hmac.compare_digest(secret.encode(), self._secret.encode()) else peer
        return peer, tuple(each for each in metadata if each[0] != _KEY)
