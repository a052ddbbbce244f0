"""The log of a gateway process: one JSON line per event, without secrets."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.authority import Authority
from support.errors import decode_details
from support.gateway_process import GatewayFolder, GatewayProcess, run_gateway_process
from support.processes import run_program
from support.raw_http2 import connect_http2, frame_message
from support.simulator import SimulatedEks
from support.waiting import wait_until

NASTY = 'x\n{"event": "forged"}\r\x1b[31mred\u2028\u0085'


async def expect_error(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


def cancel(served: GatewayProcess, metadata: Any, **changes: Any) -> Any:
    fields: dict[str, Any] = {"cluster": ClusterRef(name="staging-1"), "update_id": "u", **changes}
    return served.updates.CancelUpdate(pb.CancelUpdateRequest(**fields), metadata=metadata, timeout=30)


async def test_malformed_headers_reach_no_log_line(tmp_path: Path, eks: SimulatedEks) -> None:
    """grpc logs bytes that are not UTF-8, also of a token."""
    path = "/eksgateway.v1.UpdateService/CancelUpdate"
    async with run_gateway_process(GatewayFolder(tmp_path, eks.url)) as served:
        async with connect_http2(served.address) as http:
            wrong: list[dict[str, Any]]
            wrong = [{"authorization": "Bearer canary\udce9"}, {"grpc_timeout": "canary"}]
            for headers in wrong:
                assert (await http.answer(http.send(path, frame_message(b""), **headers))).status != "0"
        assert await served.end() == 0
        assert "canary" not in served.program.err
        assert {line["level"] for line in served.lines} == {"info"}


async def test_each_call_logs_one_line_without_secrets(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id = eks.rollback("staging-1")
    place = GatewayFolder(tmp_path, eks.url)
    async with run_gateway_process(place) as served:
        token = dict(served.oncall)["authorization"].removeprefix("Bearer ")
        unknown: Any = served.channel.unary_unary(f"/no.such/{NASTY!r}")
        accepted = await served.cancel("staging-1", update_id, request_id="first")
        refusals = [
            await expect_error(
                cancel(served, served.outsider, ticket=f"ticket-canary {NASTY}", reason=NASTY)
            ),
            await expect_error(cancel(served, served.oncall, ticket=f"ticket-canary {NASTY}", reason=NASTY)),
            await expect_error(cancel(served, served.oncall, cluster=ClusterRef(name=f"staging-{NASTY}"))),
            await expect_error(cancel(served, served.oncall, update_id=NASTY, request_id=NASTY)),
            await expect_error(cancel(served, (("authorization", f"Bearer {token}x"),))),
            await expect_error(cancel(served, (*served.oncall, *served.oncall))),
            await expect_error(cancel(served, (("authorization-bin", b"secret\x1b[31m\ncanary"),))),
            await expect_error(cancel(served, (*served.outsider, ("x-secret", "metadata-canary")))),
            await expect_error(unknown(b"body-canary", timeout=30)),
        ]
        await wait_until(lambda: len(served.calls) == 1 + len(refusals))
        assert await served.end() == 0
        calls = served.calls  # this parses every line
        told = "".join(repr((a.details(), decode_details(a))) for a in refusals)
        for secret in (token, token.rpartition(".")[2], "metadata-canary", "body-canary", "ticket-canary"):
            assert secret not in served.program.err
            assert secret not in served.program.out
            assert secret not in told
        assert "canary" not in served.program.err
        assert "\x1b" not in served.program.err

    statuses = ["OK", "PERMISSION_DENIED", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INVALID_ARGUMENT"]
    statuses += ["UNAUTHENTICATED"] * 3 + ["PERMISSION_DENIED", "UNIMPLEMENTED"]
    assert [call["status"] for call in calls] == statuses
    first = calls[0]
    assert first["method"] == "/eksgateway.v1.UpdateService/CancelUpdate"
    assert (first["caller"], first["request_id"]) == ("jwt:test:oncall", "first")
    assert first["decision_id"] == accepted.decision.decision_id
    assert first["duration_ms"] > 0
    callers = ["jwt:test:outsider", *["jwt:test:oncall"] * 3, None, None, None]
    assert [call["caller"] for call in calls[1:8]] == callers
    assert {"event", "level", "timestamp", "peer", "reason"} <= set(first)


OTHERS = f"""
import logging, sys, threading, warnings
from eksgateway import logs
logs.configure()
logging.getLogger("library").warning("it said %s", {NASTY!r})
logging.getLogger("library").debug("too much")
try:
    raise ValueError({NASTY!r})
except ValueError:
    logging.getLogger("library").exception("it failed")
warnings.warn({NASTY!r})
"""


async def test_library_logs_are_json_lines() -> None:
    """Records, exceptions and warnings."""
    async with run_program(sys.executable, "-c", OTHERS) as running:
        assert await running.end() == 0
        said, failed, warned = [json.loads(line) for line in running.err.splitlines()]
        assert (said["event"], said["level"]) == (f"it said {NASTY}", "warning")
        assert (failed["event"], failed["level"]) == ("it failed", "error")
        assert "ValueError" in failed["exception"]
        assert NASTY.splitlines()[0] in warned["event"]


async def test_core_logs_nothing_of_broken_connections(tmp_path: Path, eks: SimulatedEks) -> None:
    """Strangers could fill the log."""
    certificate, key = Authority().server().write(tmp_path)
    listener = {"address": "127.0.0.1:0", "tls": {"certificate": str(certificate), "key": str(key)}}
    async with run_gateway_process(GatewayFolder(tmp_path, eks.url, listeners=[listener])) as served:
        host, _, port = served.address.rpartition(":")
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x00" * 100):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(garbage)
            writer.write_eof()
            await reader.read()
            writer.close()
        assert await served.end() == 0
        assert [line["event"] for line in served.lines][-1] == "gateway.stopped"
