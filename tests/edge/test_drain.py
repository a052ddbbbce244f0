"""SIGTERM to a gateway process with an edge: as for gRPC clients."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.edge import ON, EdgeClient, error_reason, read_frame, read_line, update
from support.gateway_process import GatewayFolder, GatewayProcess, run_gateway_process
from support.simulator import SimulatedEks
from support.waiting import wait_until

FRAMES = "application/connect+json"


@asynccontextmanager
async def run(place: GatewayFolder) -> AsyncIterator[tuple[GatewayProcess, EdgeClient]]:
    async with run_gateway_process(place) as served:
        await wait_until(lambda: "Serving HTTP" in served.program.out)
        served.address = served.program.out.split()[3]
        edge = EdgeClient(served.program.out.split()[-1], place.issuer)
        try:
            yield served, edge
        finally:
            await edge.http.close()


async def test_streams_get_the_gateways_last_word(tmp_path: Path, eks: SimulatedEks) -> None:
    """A call in flight is finished, a new one refused with a pause, and the process ends with 0."""
    update_id = eks.rollback("staging-1")
    async with run(GatewayFolder(tmp_path, eks.url, http=ON)) as (served, edge):
        lines = edge.stream(update("staging-1", update_id), edge.viewer)
        frames = edge.stream(update("staging-1", update_id), edge.viewer, FRAMES)
        async with lines as in_lines, frames as in_frames:
            assert (await read_line(in_lines.content))["kind"] == "WATCH_KIND_SNAPSHOT"
            assert (await read_frame(in_frames.content))[0] == 0
            eks.fault("CancelUpdate", delay_s=6)
            cancelling = asyncio.create_task(edge.cancel("staging-1", update_id, requestId="first"))
            await wait_until(lambda: bool(eks.calls("CancelUpdate")))

            served.process.terminate()
            last: Any = None
            while (message := await read_line(in_lines.content)) is not None:
                last = message
            assert last["error"]["code"] == "unavailable"
            assert error_reason(last["error"]) == "DRAINING"
            flags = 0
            while flags == 0:
                flags, frame = await read_frame(in_frames.content)
            assert error_reason(json.loads(frame)["error"]) == "DRAINING"
            refused = await edge.call("GetUpdate", update("staging-1", update_id))
            assert refused.refusal == (503, "unavailable", "DRAINING")
            assert refused.json["details"][1]["debug"] == {"retryDelay": "1s"}
            assert refused.headers["connection"] == "close"
            assert not cancelling.done()
            answer = await cancelling
            assert answer.json["cancellation"]["phase"] == "CANCELLATION_PHASE_CANCELLING"
        began = time.monotonic()
        assert await served.program.end() == 0
        assert time.monotonic() - began < 15
        assert [line["event"] for line in served.lines if line["level"] != "info"] == []


async def test_drain_waits_for_no_idle_connection(tmp_path: Path, eks: SimulatedEks) -> None:
    async with run(GatewayFolder(tmp_path, eks.url, http=ON)) as (served, edge):
        assert (await edge.send("GET", "/")).status == 200  # its connection stays open
        began = time.monotonic()
        assert await served.end() == 0
        assert time.monotonic() - began < 15
        with pytest.raises(aiohttp.ClientError):
            await edge.send("GET", "/")


async def test_watch_is_resumed_after_a_kill(tmp_path: Path, eks: SimulatedEks) -> None:
    """The stream breaks, and its token is good at the next process."""
    update_id = eks.rollback("staging-1")
    place = GatewayFolder(tmp_path, eks.url, http=ON)
    async with run(place) as (served, edge):
        async with edge.stream(update("staging-1", update_id)) as stream:
            token = (await read_line(stream.content))["resumeToken"]
            await edge.cancel("staging-1", update_id)
            served.process.kill()
            with pytest.raises(aiohttp.ClientError):
                await stream.read()
        await served.program.end()
    eks.advance(86_400)
    async with run(place) as (served, edge):
        request = update("staging-1", update_id) | {"resumeToken": token}
        async with edge.stream(request) as stream:
            last: Any = None
            while (message := await read_line(stream.content)) is not None:
                last = message
            assert last["kind"] == "WATCH_KIND_FINAL"
        assert await served.end() == 0
