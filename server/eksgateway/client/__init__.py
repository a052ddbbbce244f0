"""A client library: watch an update across broken connections and gateway restarts, or cancel one.

It is for asyncio; ``eksgateway.client.sync`` has the same names for other programs. It needs only grpc and
the generated messages. ``ErrorDetails.of`` parses the AioRpcError that it raises.
"""

from eksgateway.client.calls import cancel, watch
from eksgateway.client.cancel_and_watch import cancel_and_watch
from eksgateway.client.channels import CHANNEL_OPTIONS, Channels
from eksgateway.client.errors import ErrorDetails
from eksgateway.client.knowledge import Knowledge
from eksgateway.client.retries import Credentials, Timing
from eksgateway.v1.cancellation_pb2 import Cancellation

__all__ = [
    "CHANNEL_OPTIONS",
    "Cancellation",
    "Channels",
    "Credentials",
    "ErrorDetails",
    "Knowledge",
    "Timing",
    "cancel",
    "cancel_and_watch",
    "watch",
]
