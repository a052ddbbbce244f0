"""A sandbox and two proxies that a client's test controls by lines on standard input. See README.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from eksgateway.file_writer import replace_file
from eksgateway.sandbox.folder import CALLERS
from eksgateway.sandbox.gateway_process import GatewayProcess
from eksgateway.sandbox.options import SandboxOptions
from eksgateway.sandbox.sandbox import Sandbox, open_sandbox
from eksgateway.signals import run_until, stop_event

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from support.nginx import run_nginx
from support.ports import find_free_port
from support.tcp_proxy import TcpProxy

_LEEWAY = timedelta(seconds=60)  # of the gateway's default settings
_AGE = timedelta(hours=1)  # of issued tokens: they end after they began


async def run(folder: Path, speed: float, proxy_timeout_s: float) -> None:
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_event())
        # Sockets of nginx need a short path.
        short = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nginx-")))
        sandbox = await stack.enter_async_context(open_sandbox(SandboxOptions(port=0, speed=speed), _report))
        gateway = asyncio.create_task(sandbox.start())
        if not await run_until(stop, _wait(gateway)):
            return
        process = sandbox.gateways[0]
        stack.callback(_signal, process, signal.SIGCONT)  # a paused gateway cannot drain
        proxy = await stack.enter_async_context(TcpProxy(process.address))
        port = find_free_port()
        await stack.enter_async_context(
            run_nginx(short, process.address, port=port, read_timeout_s=proxy_timeout_s)
        )
        info = sandbox.info() | {"proxy": proxy.address, "timeout_proxy": f"127.0.0.1:{port}"}
        path = folder / "info.json"
        replace_file(path, json.dumps(info, indent=2).encode())
        stack.callback(path.unlink, missing_ok=True)
        print(path, flush=True)
        await run_until(stop, _obey(_commands(sandbox, proxy)))


async def _wait(task: asyncio.Task[None]) -> None:
    await task


def _commands(sandbox: Sandbox, proxy: TcpProxy) -> dict[str, Callable[..., Awaitable[Any]]]:
    gateway = sandbox.gateways[0]

    async def issue_token(caller: str, seconds: str) -> str:
        """Valid for so long, with the gateway's leeway."""
        lifetime = timedelta(seconds=float(seconds)) - _LEEWAY + _AGE
        start = datetime.now(UTC) - _AGE
        return sandbox.issuer.token(caller, CALLERS[caller], lifetime=lifetime, now=start)

    async def advance(seconds: str) -> None:
        await sandbox.command_simulator("clock", {"advance_s": float(seconds)})

    async def pause() -> None:
        _signal(gateway, signal.SIGSTOP)

    async def resume() -> None:
        _signal(gateway, signal.SIGCONT)

    async def silence() -> None:
        proxy.silence()

    async def cut() -> None:
        proxy.cut()

    return {
        "advance": advance,
        "token": issue_token,
        "kill": gateway.kill,
        "drain": gateway.stop,
        "start": gateway.start,
        "pause": pause,
        "resume": resume,
        "silence": silence,
        "cut": cut,
    }


async def _obey(commands: dict[str, Callable[..., Awaitable[Any]]]) -> None:
    """Run the command of each line and answer with a line, until standard input ends."""
    async for line in _stdin_lines():
        name, *arguments = line.split()
        try:
            answer = await commands[name](*arguments)
        except Exception as exc:  # noqa: BLE001 - the test that sent the line gets it
            print(f"error: {name}: {type(exc).__name__}: {exc}".replace("\n", " "), flush=True)
        else:
            print(f"ok {answer}" if answer else "ok", flush=True)


async def _stdin_lines() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await reader.readline():
        if line.strip():
            yield line.decode()


def _signal(gateway: GatewayProcess, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(gateway.pid, number)


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="run_sandbox", description=__doc__)
    parser.add_argument("folder", type=Path, help="for the info file")
    parser.add_argument("--speed", type=float, default=120.0, help="simulated seconds a second (120)")
    parser.add_argument("--proxy-timeout", type=float, default=2.0, help="of timeout_proxy, in seconds (2)")
    given = parser.parse_args()
    asyncio.run(run(given.folder.resolve(), given.speed, given.proxy_timeout))


main()
