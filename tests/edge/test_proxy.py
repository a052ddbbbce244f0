"""The edge behind nginx, with the settings of docs/deploying.md."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import aiohttp

from support.edge import UPDATES, RunningEdge, read_line, update
from support.nginx import run_nginx
from support.simulator import SimulatedEks

PAGE = Path(__file__).parents[2] / "docs" / "deploying.md"


async def test_nginx_passes_each_message_of_a_stream_at_once(edge: RunningEdge, eks: SimulatedEks) -> None:
    update_id = eks.rollback("staging-1")
    (block,) = PAGE.read_text().split("```nginx\n")[1:]
    location = block.partition("```")[0].replace("http://127.0.0.1:8080", edge.url)
    assert edge.url in location
    with tempfile.TemporaryDirectory(prefix="nginx-") as folder:
        async with run_nginx(Path(folder), "", location=location) as address:
            connector = aiohttp.UnixConnector(address.removeprefix("unix:"))
            async with aiohttp.ClientSession("http://gateway", connector=connector) as http:
                headers = edge.oncall | {"content-type": "application/json"}
                body = json.dumps(update("staging-1", update_id))
                async with http.post(f"{UPDATES}/WatchUpdate", data=body, headers=headers) as stream:
                    assert (await read_line(stream.content))["kind"] == "WATCH_KIND_SNAPSHOT"
                    await edge.cancel("staging-1", update_id)
                    async with asyncio.timeout(60):
                        while (await read_line(stream.content))["kind"] != "WATCH_KIND_CHANGE":
                            pass
