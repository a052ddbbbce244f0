"""Listeners that demand client certificates, and clients that have one."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1 import update_service_pb2_grpc
from eksgateway.v1.update_pb2 import ClusterRef
from support.authority import Authority, Issued, replace
from support.gateway import EVERY_ACTION, POLICY_DATA, WHERE

DEMANDS = ("jwt", "mtls", "both")
TYPES = ["VersionRollback"]
STAGING = {"actions": EVERY_ACTION, **WHERE, "clusters": ["staging-*"], "update_types": TYPES}
MESH = "spiffe://corp.example/mesh/proxy"

# The usual grants, one for workloads by SPIFFE ID, and one for robots that must connect through the mesh.
DATA: dict[str, Any] = {
    "eksgateway": {
        "grants": [
            *POLICY_DATA["eksgateway"]["grants"],
            {"id": "workloads", "subjects": ["spiffe://corp.example/ops/**"], **STAGING},
            {"id": "robots", "groups": ["test:robots"], "via": ["spiffe://corp.example/mesh/**"], **STAGING},
        ],
        "freezes": [],
    }
}


def build_listeners(folder: Path, authority: Authority, *demands: str) -> list[dict[str, Any]]:
    """Settings of one listener per demand, all with the same files in ``folder``."""
    certificate, key = authority.server().write(folder)
    replace(folder / "ca.crt", authority.certificate)
    files = {"certificate": certificate, "key": key}
    certified = {"tls": {**files, "client_ca": folder / "ca.crt"}, "trust_domain": "corp.example"}
    return [
        {"address": "127.0.0.1:0", "demand": demand, **({"tls": files} if demand == "jwt" else certified)}
        for demand in demands
    ]


class TlsClient:
    """A client with one connection of its own."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.updates = update_service_pb2_grpc.UpdateServiceStub(channel)

    async def get(self, update_id: str, metadata: Any = ()) -> Any:
        """GetUpdate of staging-1."""
        request = pb.GetUpdateRequest(cluster=ClusterRef(name="staging-1"), update_id=update_id)
        return await self.updates.GetUpdate(request, metadata=metadata, timeout=20)


@asynccontextmanager
async def connect(address: str, root: bytes, own: Issued | None) -> AsyncIterator[TlsClient]:
    """A client that trusts ``root`` and presents its own certificate, if any."""
    pair = (own.key, own.certificate) if own else (None, None)
    credentials = grpc.ssl_channel_credentials(root, *pair)
    # Channels with equal arguments would share a connection.
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        yield TlsClient(channel)


def tls_context(root: bytes, own: Issued) -> ssl.SSLContext:
    """The same client for plain sockets, to read the server's certificate."""
    made = ssl.create_default_context(cadata=root.decode())
    made.set_alpn_protocols(["h2"])
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(own.key + own.certificate)
        pair.flush()
        made.load_cert_chain(pair.name)
    return made
