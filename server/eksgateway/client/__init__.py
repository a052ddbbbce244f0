"""A client library: watch an update across broken connections and gateway restarts, or cancel one.

It needs only grpc and the generated messages. It retries errors that may pass, and raises grpc's own
AioRpcError otherwise; ``ErrorDetails.of`` parses it.
"""

from eksgateway.client.calls import cancel, watch
from eksgateway.client.channels import CHANNEL_OPTIONS, Channels
from eksgateway.client.errors import ErrorDetails
from eksgateway.client.knowledge import Knowledge
from eksgateway.client.retries import Credentials, Timing

__all__ = [
    "CHANNEL_OPTIONS",
    "Channels",
    "Credentials",
    "ErrorDetails",
    "Knowledge",
    "Timing",
    "cancel",
    "watch",
]
