"""The optional HTTP edge: the Connect protocol for clients without gRPC, and the page."""

from __future__ import annotations

from typing import Self

from pydantic import PositiveInt, model_validator

from eksgateway.settings.section import Address, Section, is_local


class HttpSettings(Section):
    """Off without ``listen``. Callers present tokens, as at a listener that demands `jwt`. The edge has no
    TLS of its own.

    ``calls`` and ``streams`` are those of the edge at once. An HTTP/1.1 connection carries one of them.
    """

    listen: Address | None = None
    proxy_terminates_tls: bool = False
    connections: PositiveInt = 1000
    calls: PositiveInt = 200
    streams: PositiveInt = 500

    @model_validator(mode="after")
    def _check_encryption(self) -> Self:
        if self.listen is not None and not self.proxy_terminates_tls and not is_local(self.listen):
            raise ValueError(
                f"`listen: {self.listen}` is not loopback, and tokens would cross the network without TLS:"
                " listen on 127.0.0.1, or set `proxy_terminates_tls: true` if a proxy terminates TLS in front"
                " of this process and nothing else can reach the port"
            )
        return self
