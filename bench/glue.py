"""The baseline of a cancel: the service that a team would write instead of the gateway.

`python -m bench.glue SIMULATOR_URL LEDGER` prints its address and serves until its standard input closes. It
serves CancelUpdate of the gateway's API: it reads the cluster and the update, asks a real OPA, writes a row,
cancels, and writes the answer. It proves no identity, and has no limits, logs or metrics.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import boto3
import grpc
from botocore.config import Config
from opa_client import AsyncOpaClient  # type: ignore[import-untyped]  # ships no types

from bench.opa_server import run_opa
from bench.processes import REGION
from bench.serving import serve
from eksgateway.v1 import cancellation_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_service_pb2_grpc import (
    UpdateServiceServicer,
    add_UpdateServiceServicer_to_server,
)

_THREADS: Final = 16  # those of the gateway
_POLICY: Final = """package glue
import rego.v1
default allow := false
allow if {
    "bench:oncall" in input.groups
    input.cluster.status == "ACTIVE"
    input.update.type == "VersionRollback"
}
"""


class Rows:
    """A row for each cancel, durable before the cancel is sent and after it was answered."""

    def __init__(self, path: str) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._rows = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._rows.execute("PRAGMA journal_mode=WAL")
        self._rows.execute("PRAGMA synchronous=FULL")
        self._rows.execute(
            "CREATE TABLE cancels (id TEXT PRIMARY KEY, cluster TEXT, update_id TEXT, status TEXT)"
        )

    async def write(self, statement: str, *values: str) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._rows.execute, statement, values)


@dataclass(frozen=True)
class Glue(UpdateServiceServicer):
    eks: Any
    opa: Any
    rows: Rows
    threads: ThreadPoolExecutor

    async def CancelUpdate(  # noqa: N802  the name of the RPC
        self, request: pb.CancelUpdateRequest, context: Any
    ) -> pb.CancelUpdateResponse:
        name, update_id = request.cluster.name, request.update_id
        cluster = (await self._call(self.eks.describe_cluster, name=name))["cluster"]
        update = (await self._call(self.eks.describe_update, name=name, updateId=update_id))["update"]
        question = {
            "groups": ["bench:oncall"],
            "reason": request.reason,
            "cluster": {"name": name, "status": cluster["status"], "tags": cluster.get("tags", {})},
            "update": {"id": update_id, "type": update["type"], "status": update["status"]},
        }
        answer = await self.opa.query_rule(question, "glue", "allow")
        if answer.get("result") is not True:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "denied")
        key = str(uuid.uuid4())
        await self.rows.write("INSERT INTO cancels VALUES (?, ?, ?, 'sent')", key, name, update_id)
        sent = await self._call(self.eks.cancel_update, name=name, updateId=update_id, clientRequestToken=key)
        status = sent["update"]["status"]
        await self.rows.write("UPDATE cancels SET status = ? WHERE id = ?", status, key)
        return pb.CancelUpdateResponse(cancellation=cancellation_pb2.Cancellation(cancellation_id=key))

    async def _call(self, call: Any, **values: str) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.threads, partial(call, **values))


async def main(simulator: str, ledger: str) -> None:
    eks = boto3.client(
        "eks", region_name=REGION, endpoint_url=simulator, config=Config(max_pool_connections=_THREADS)
    )
    with tempfile.TemporaryDirectory(prefix="eksgateway-bench-") as folder:
        policy = Path(folder) / "glue.rego"
        policy.write_text(_POLICY)
        with run_opa(policy) as opa:
            async with AsyncOpaClient(host="127.0.0.1", port=opa.port) as client:
                await client.wait_for_ready(timeout=30)
                glue = Glue(eks, client, Rows(ledger), ThreadPoolExecutor(_THREADS))  # type: ignore[abstract]
                server = grpc.aio.server()
                add_UpdateServiceServicer_to_server(glue, server)
                await serve(server)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
