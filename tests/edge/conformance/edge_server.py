"""The server under test of the Connect conformance suite: our edge in front of the suite's own gRPC server.

Both speak the suite's protocol on standard input and output: a message with its length before it. The first
argument is the folder of the suite's protos, the others are the command of the gRPC server.
"""

from __future__ import annotations

import asyncio
import signal
import struct
import sys
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

from eksgateway.edge import connect_error
from eksgateway.edge.methods import find_methods
from eksgateway.edge.server import HttpEdge
from eksgateway.edge.upstream import Upstream
from eksgateway.errors import GatewayError
from eksgateway.metrics import Metrics
from eksgateway.rpc.error_status import status_of
from eksgateway.rpc.peers import EdgePeers
from eksgateway.settings import HttpSettings, LimitSettings

PACKAGE = "connectrpc.conformance.v1"
FILES = ("service", "server_compat")
SUPPORTED = 1 << 30  # bytes, where the suite sets no limit


def add_to_pool(protos: Path) -> None:
    """Compile the suite's protos, and register their messages."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        names = [str(protos / PACKAGE.replace(".", "/") / f"{name}.proto") for name in FILES]
        options = [f"-I{protos}", "--include_imports", f"--descriptor_set_out={out}"]
        include = Path(protoc.__file__).parent / "_proto"
        assert protoc.main(["protoc", *options, f"-I{include}", *names]) == 0
        found = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    for file in found.file:
        if file.package == PACKAGE:
            descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


def message_class(name: str) -> Any:
    return GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(f"{PACKAGE}.{name}"))


def read_message(stream: BinaryIO) -> bytes:
    (length,) = struct.unpack(">I", stream.read(4))
    return stream.read(length)


async def start_reference(command: list[str], limit: int) -> tuple[asyncio.subprocess.Process, str]:
    """The suite's gRPC server, and its address."""
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    # PROTOCOL_GRPC over HTTP_VERSION_2.
    request = message_class("ServerCompatRequest")(protocol=2, http_version=2, message_receive_limit=limit)
    raw = request.SerializeToString()
    process.stdin.write(struct.pack(">I", len(raw)) + raw)
    (length,) = struct.unpack(">I", await process.stdout.readexactly(4))
    answer = message_class("ServerCompatResponse").FromString(await process.stdout.readexactly(length))
    return process, f"{answer.host or '127.0.0.1'}:{answer.port}"


def without_details(error: GatewayError) -> Any:
    """The suite accepts no details that it did not ask for; each refusal of the edge has an ErrorInfo."""
    status = status_of(error)
    del status.details[:]
    return status


async def main() -> None:
    add_to_pool(Path(sys.argv[1]))
    connect_error.status_of = without_details  # type: ignore[attr-defined,assignment]
    request = message_class("ServerCompatRequest").FromString(read_message(sys.stdin.buffer))
    limit = request.message_receive_limit
    process, address = await start_reference(sys.argv[2:], limit)
    upstream = Upstream()
    upstream.connect(address)
    edge = HttpEdge(
        settings=HttpSettings(listen="127.0.0.1:0"),
        limits=LimitSettings(message_bytes=limit or SUPPORTED),
        upstream=upstream,
        peers=EdgePeers(),
        methods=find_methods([descriptor_pool.Default().FindServiceByName(f"{PACKAGE}.ConformanceService")]),
        metrics=Metrics(),
        connections=1000,
        write_timeout=30,
    )
    await edge.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    host, _, port = edge.address.rpartition(":")
    raw = message_class("ServerCompatResponse")(host=host, port=int(port)).SerializeToString()
    sys.stdout.buffer.write(struct.pack(">I", len(raw)) + raw)
    sys.stdout.buffer.flush()
    await stop.wait()
    await edge.stop(0.5)
    process.terminate()
    await process.wait()


asyncio.run(main())
