"""Loads one method of a gRPC server by h2load, in turns with that of a baseline."""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.processes import cpu_s
from bench.report import MissingProgram

Credentials = Sequence[tuple[str, str]]

_CONNECTIONS: Final = 4
_CALLS_PER_CONNECTION: Final = 25  # at once
_TURNS: Final = 4
_CALLS: Final = 2000  # of one turn


@dataclass
class Server:
    """A server under load. The samples are those of its turns."""

    pid: int
    address: str
    path: str
    rates: list[float] = field(default_factory=list)  # calls/s
    costs: list[float] = field(default_factory=list)  # µs of CPU of the process for a call

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def cost(self) -> float:
        return statistics.median(self.costs)

    def __str__(self) -> str:
        return f"{self.path.rpartition('/')[2]} {self.cost:.0f} µs of CPU, {self.rate:.0f}/s"


async def load_in_turns(ours: Server, theirs: Server, message: bytes, callers: Sequence[Credentials]) -> None:
    for turn in range(-1, _TURNS):  # the first warms up
        for server in (ours, theirs):
            before = cpu_s(server.pid)
            rate = await load(server.address, server.path, message, callers, _CALLS)
            if turn >= 0:
                server.rates.append(rate)
                server.costs.append((cpu_s(server.pid) - before) / _CALLS * 1e6)
    print(f"{ours} ÷ {theirs}", flush=True)


async def load(address: str, path: str, message: bytes, callers: Sequence[Credentials], calls: int) -> float:
    """Calls per second over four connections, shared by one, two or four callers. Raises MissingProgram."""
    if shutil.which("h2load") is None:
        raise MissingProgram("h2load is not installed: apt-get install nghttp2-client")
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + struct.pack(">I", len(message)) + message)
        body.flush()
        connections, share = _CONNECTIONS // len(callers), calls // len(callers)
        command = ["h2load", "-c", str(connections), "-m", str(_CALLS_PER_CONNECTION), "-n", str(share)]
        command += ["-t", "1", "-d", body.name, f"http://{address}{path}"]
        rates = (_run([*command, *_headers(each)], share) for each in callers)
        return sum(await asyncio.gather(*rates))


def _headers(credentials: Credentials) -> list[str]:
    headers = (("content-type", "application/grpc"), ("te", "trailers"), *credentials)
    return [part for key, value in headers for part in ("-H", f"{key}: {value}")]


async def _run(command: Sequence[str], calls: int) -> float:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    rate = re.search(r"finished in .*?, ([0-9.]+) req/s", out.decode())
    if rate is None or f" {calls} succeeded" not in out.decode():
        raise RuntimeError(out.decode())
    return float(rate[1])
