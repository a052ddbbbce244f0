"""Authenticates the caller, before any of the message is read."""

from __future__ import annotations

from dataclasses import dataclass

from eksgateway.errors import MethodUnknown
from eksgateway.identity.protocol import Identity
from eksgateway.rpc.call import Call
from eksgateway.rpc.context import RpcContext
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.rpc.methods import Access


@dataclass(frozen=True, slots=True)
class Authenticate(Interceptor):
    identity: Identity
    certificates: bool
    reflection: str

    async def enter(self, call: Call, context: RpcContext) -> None:
        reflection = self.reflection if call.access is Access.REFLECTION else ""
        if call.access is None or reflection == "off":
            raise MethodUnknown
        if call.access is Access.OPEN or reflection == "open":
            return
        credentials = read_credentials(call, context, self.certificates)
        call.verified_caller = await self.identity.identify(*credentials)


def read_credentials(
    call: Call, context: RpcContext, certificates: bool
) -> tuple[list[str | bytes], bytes | None]:
    """All values of `authorization`, and the client's certificate (PEM leaf) where the listener demands one.

    Core sets it; clients cannot.
    """
    values = [value for key, value in call.metadata if key == "authorization"]
    leaves = context.auth_context().get("x509_pem_cert", ()) if certificates else ()
    return values, leaves[0] if leaves else None
