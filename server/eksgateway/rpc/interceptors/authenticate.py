"""Proves who calls, before anything of the message is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eksgateway.errors import MethodUnknown
from eksgateway.identity.protocol import Identity
from eksgateway.rpc.call import Call
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.rpc.methods import Access


class Authenticate(Interceptor):
    """Credentials become a Caller, by what this listener demands: of certificates nothing is read where it
    does not ask for them. ``reflection`` is the setting of that name.
    """

    def __init__(self, identity: Identity, *, certificates: bool, reflection: str) -> None:
        self._identity = identity
        self._certificates = certificates
        self._reflection = reflection

    async def admit(self, call: Call, context: Any) -> None:
        access = call.method.access if call.method else None
        reflection = self._reflection if access is Access.REFLECTION else ""
        if access is None or reflection == "off":  # as unknown as any other path that is not served
            raise MethodUnknown
        if access is Access.OPEN or reflection == "open":
            return
        call.identified = await self._identity.identify(*credentials(call, context, self._certificates))


def credentials(call: Call, context: Any, certificates: bool) -> tuple[list[str | bytes], bytes | None]:
    """All values of `authorization`, and the client's certificate where the listener asks for one."""
    values = [value for key, value in call.metadata if key == "authorization"]
    return values, _certificate(context) if certificates else None


def _certificate(context: Any) -> bytes | None:
    """The leaf that the handshake verified, PEM. Core puts it there; no client can."""
    leaves: Sequence[bytes] = context.auth_context().get("x509_pem_cert", ())
    return leaves[0] if leaves else None
