"""The simulator as a process: its output, its end, and its address."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from eksgateway.simulator import serve
from support.simulator import SimulatedEks

SCRIPT = """
import asyncio
from eksgateway.simulator import serve
asyncio.run(serve(speed=60, stop_on_stdin_eof={stop_on_stdin_eof}))
"""


@asynccontextmanager
async def start_process(*, stop_on_stdin_eof: bool) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A process that runs ``serve``, and the line that it printed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        SCRIPT.format(stop_on_stdin_eof=stop_on_stdin_eof),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stdout
    try:
        yield child, (await asyncio.wait_for(child.stdout.readline(), 30)).decode()
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


def close_stdin(child: asyncio.subprocess.Process) -> None:
    assert child.stdin
    child.stdin.close()


@pytest.mark.parametrize(
    ("stop_on_stdin_eof", "stop"),
    [
        pytest.param(False, lambda child: child.send_signal(signal.SIGTERM), id="SIGTERM"),
        pytest.param(False, lambda child: child.send_signal(signal.SIGINT), id="SIGINT"),
        pytest.param(True, lambda child: child.send_signal(signal.SIGTERM), id="SIGTERM, stdin open"),
        pytest.param(True, close_stdin, id="end of standard input"),
    ],
)
async def test_serve_prints_its_url_and_ends_with_0(
    stop_on_stdin_eof: bool, stop: Callable[[asyncio.subprocess.Process], None]
) -> None:
    async with start_process(stop_on_stdin_eof=stop_on_stdin_eof) as (child, line):
        found = re.fullmatch(
            r"Simulated EKS \(a simulation, not AWS\) at (http://127\.0\.0\.1:[0-9]+)\n", line
        )
        assert found
        client = SimulatedEks()
        client.url = found[1]
        assert (await client.call("list_clusters"))["clusters"] == []
        await client.__aexit__()
        stop(child)
        assert child.stderr
        assert await asyncio.wait_for(child.wait(), 20) == 0
        assert await child.stderr.read() == b""


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com"])
async def test_serve_refuses_other_addresses_by_default(host: str) -> None:
    with pytest.raises(ValueError, match="not loopback"):
        await serve(host)


async def test_serve_raises_for_a_port_in_use(eks: SimulatedEks) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await serve(port=int(eks.url.rpartition(":")[2]))
