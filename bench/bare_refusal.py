"""The baseline of a denied call: a bare grpc.aio handler that refuses each call as the gateway does.

`python -m bench.bare_refusal` prints its address and serves until its standard input closes. It reads and
parses the message, and answers with the status, the details and the two ids of a denial. It decides nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from bench.serving import serve
from eksgateway.v1 import update_service_pb2 as pb


async def refuse(_messages: object, context: Any) -> None:
    raw = await context.read()
    pb.GetUpdateRequest.FromString(raw)
    request_id, decision_id = str(uuid.uuid4()), str(uuid.uuid4())
    info = error_details_pb2.ErrorInfo(
        reason="POLICY_DENIED",
        domain="eksgateway",
        metadata={
            "decision_id": decision_id,
            "reasons": "You have no grant on this cluster.",
            "rule_ids": "",
        },
    )
    detail = any_pb2.Any()
    detail.Pack(info)
    message = "The policy does not allow this."
    code = grpc.StatusCode.PERMISSION_DENIED.value[0]
    status: Any = rpc_status.to_status(status_pb2.Status(code=code, message=message, details=[detail]))
    ids = (("eksgateway-request-id", request_id), ("eksgateway-decision-id", decision_id))
    await context.abort_with_status(status._replace(trailing_metadata=(*ids, *status.trailing_metadata)))


async def main() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    # Registered as the gateway registers its methods: the handler reads the message itself.
    handlers: dict[str, Any] = {"Refuse": grpc.stream_unary_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Bare", handlers),))
    await serve(server)


if __name__ == "__main__":
    asyncio.run(main())
