"""For programs that use the gateway: watch an update over whatever the network does, or cancel one.

Needs grpc and the generated messages alone. What trying again does not mend is grpc's own error;
``ErrorDetails.of`` reads it.
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
