"""A TCP proxy that delays each answer: `python -m bench.delay_proxy HOST:PORT SECONDS`.

It stands for the network to a database in another zone. Data from the client is forwarded at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def main(onward: str, delay_s: float) -> None:
    host, port = onward.rsplit(":", 1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, onward_writer = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_forward(reader, onward_writer, 0), _forward(there, writer, delay_s))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until the parent closes it
    server.close()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    while data := await reader.read(65_536):
        if delay_s:
            loop.call_later(delay_s, writer.write, data)
        else:
            writer.write(data)
    writer.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
