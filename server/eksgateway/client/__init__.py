"""For programs that use the gateway: watch an update over whatever the network does, or cancel one.

Needs grpc and the generated messages alone. What trying again does not mend is grpc's own error.
"""

from eksgateway.client.attempts import CHANNEL_OPTIONS, Credentials, Timing
from eksgateway.client.calls import cancel, watch
from eksgateway.client.knowledge import Knowledge

__all__ = ["CHANNEL_OPTIONS", "Credentials", "Knowledge", "Timing", "cancel", "watch"]
