"""Calls on connections that are kept: each request is sent once, and each answer is its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from eksgateway.eks.connections import Connections
from eksgateway.errors import EksClientError, EksNoAnswer, EksUnavailable
from eksgateway.model import ClusterRef, UpdateRef
from support.boto_eks import ACCOUNT, CALLER, REGION, MakeEks, session
from support.clock import NEVER

REF = UpdateRef(ClusterRef(ACCOUNT, REGION, "blue"), "u-1")
TOKEN = "6f0b1a52-6d57-4a9e-9a4f-0d5d0a2f8b11"
BODY = b'{"update": {"id": "u-1", "status": "%b"}}'


def answer(status: bytes, headers: bytes = b"") -> bytes:
    body = BODY % status
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), headers, body)


class Server:
    """Sends the next of ``answers`` for each request, and hangs up after those in ``hangs_up_after``.

    ``requests`` has the number of each one's connection, and its bytes.
    """

    def __init__(self, *answers: bytes, hangs_up_after: tuple[int, ...] = ()) -> None:
        self.answers: Iterator[bytes] = iter(answers)
        self.hangs_up_after = hangs_up_after
        self.requests: list[tuple[int, bytes]] = []
        self.connections = 0
        self.hung_up = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"Content-Length: " in head:
                    head += await reader.readexactly(int(head.split(b"Content-Length: ")[1].split()[0]))
                self.requests.append((number, head))
                writer.write(next(self.answers, b""))
                await writer.drain()
                if len(self.requests) in self.hangs_up_after:
                    break
        writer.close()
        await writer.wait_closed()
        self.hung_up.set()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("operation", ["DescribeUpdate", "CancelUpdate"])
async def test_a_connection_that_the_server_closed_meanwhile_is_replaced(
    make_eks: MakeEks, operation: str
) -> None:
    """The call succeeds, and is sent once."""
    server = Server(answer(b"InProgress"), answer(b"Cancelling"), hangs_up_after=(1,))
    async with server.listen() as url:
        eks = make_eks(endpoint_url=url)

        async def call() -> str:
            if operation == "DescribeUpdate":
                return (await eks.describe_update(REF)).status
            return (await eks.cancel_update(REF, on_behalf_of=CALLER, token=TOKEN, send_before=NEVER)).status

        assert await call() == "InProgress"
        await server.hung_up.wait()
        assert await call() == "Cancelling"
        assert [number for number, _ in server.requests] == [1, 2]
        await eks.close()


async def test_a_cancel_whose_kept_connection_breaks_is_not_sent_again(make_eks: MakeEks) -> None:
    server = Server(answer(b"InProgress"), hangs_up_after=(2,))
    async with server.listen() as url:
        eks = make_eks(endpoint_url=url)
        await eks.cancel_update(REF, on_behalf_of=CALLER, token=TOKEN, send_before=NEVER)
        with pytest.raises(EksNoAnswer):
            await eks.cancel_update(REF, on_behalf_of=CALLER, token=TOKEN, send_before=NEVER)
        assert [number for number, _ in server.requests] == [1, 1]
        await eks.close()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
KEPT = {
    "a length": answer(b"InProgress"),
    "lines without CR": answer(b"InProgress").replace(b"\r\n", b"\n"),
    "chunks": CHUNKED % (len(BODY % b"InProgress"), BODY % b"InProgress"),
}
NOT_KEPT = {
    "Connection: close": answer(b"InProgress", b"Connection: close\r\n"),
    "bytes after the answer": answer(b"InProgress") + answer(b"Successful"),
    "HTTP/1.0": answer(b"InProgress").replace(b"HTTP/1.1", b"HTTP/1.0"),
}


@pytest.mark.parametrize("first", KEPT.values(), ids=KEPT)
async def test_a_complete_answer_leaves_its_connection_for_the_next_call(
    make_eks: MakeEks, first: bytes
) -> None:
    server = Server(first, answer(b"Cancelling"))
    async with server.listen() as url:
        eks = make_eks(endpoint_url=url)
        assert (await eks.describe_update(REF)).status == "InProgress"
        assert (await eks.describe_update(REF)).status == "Cancelling"
        assert server.connections == 1
        await eks.close()


@pytest.mark.parametrize("first", NOT_KEPT.values(), ids=NOT_KEPT)
async def test_a_connection_with_an_unsure_end_of_its_answer_is_not_kept(
    make_eks: MakeEks, first: bytes
) -> None:
    """No call reads what follows the answer of another."""
    server = Server(first, answer(b"Cancelling"))
    async with server.listen() as url:
        eks = make_eks(endpoint_url=url)
        assert (await eks.describe_update(REF)).status == "InProgress"
        assert (await eks.describe_update(REF)).status == "Cancelling"
        assert server.connections == 2
        await eks.close()


MALFORMED = {
    "a length and chunks": answer(b"InProgress", b"Transfer-Encoding: chunked\r\n"),
    "two lengths": answer(b"InProgress", b"Content-Length: 3\r\n"),
    "an early end": answer(b"InProgress")[:-5],
    "no header": b"HTTP/1.1 200 OK\r\n",
    "no HTTP": b"no HTTP\r\n\r\n",
}


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_answer_leaves_the_result_unknown(make_eks: MakeEks, malformed: bytes) -> None:
    server = Server(malformed, answer(b"InProgress"), hangs_up_after=(1,))
    async with server.listen() as url:
        eks = make_eks(endpoint_url=url)
        with pytest.raises(EksUnavailable):
            await eks.describe_update(REF)
        assert (await eks.describe_update(REF)).status == "InProgress"
        assert [number for number, _ in server.requests] == [1, 2]
        await eks.close()


@pytest.mark.parametrize("path", ["a b", "é", "p#f"])
async def test_the_path_of_an_endpoint_is_encoded(make_eks: MakeEks, path: str) -> None:
    server = Server(answer(b"InProgress"))
    async with server.listen() as url:
        eks = make_eks(endpoint_url=f"{url}/{path}")
        await eks.describe_update(REF)
        await eks.close()
    line = server.requests[0][1].partition(b"\r\n")[0].decode()
    assert re.fullmatch("GET /[%A-Z0-9a-z/-]+ HTTP/1.1", line)


async def test_an_answer_of_two_error_types_is_neither(make_eks: MakeEks) -> None:
    """A cancel that EKS refused for another reason is not repeated as a throttled one."""
    types = [
        b"x-amzn-ErrorType: %b\r\n" % each for each in (b"InvalidStateException", b"ThrottlingException")
    ]
    refusal = answer(b"", b"x-amzn-RequestId: r-1\r\n" + b"".join(types)).replace(
        b"200 OK", b"400 Bad Request"
    )
    server = Server(refusal)
    async with server.listen() as url:
        eks = make_eks(endpoint_url=url)
        with pytest.raises(EksClientError):
            await eks.cancel_update(REF, on_behalf_of=CALLER, token=TOKEN, send_before=NEVER)
        await eks.close()


async def test_a_credential_with_a_line_break_sends_nothing(make_eks: MakeEks) -> None:
    server = Server()
    async with server.listen() as url:
        eks = make_eks(session(token="token\r\nX-Header: more"), endpoint_url=url)
        with pytest.raises(EksUnavailable):
            await eks.describe_update(REF)
        assert not server.requests
        await eks.close()


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://eks.us-east-1.amazonaws.com", "eks.us-east-1.amazonaws.com"),
        ("https://EKS.example:443", "eks.example"),
        ("http://127.0.0.1:80", "127.0.0.1"),
        ("https://127.0.0.1:80", "127.0.0.1:80"),
        ("https://[::1]:443", "[::1]"),
    ],
)
def test_the_host_header_is_the_signed_one(origin: str, host: str) -> None:
    """Without the port of the scheme, as botocore signs it."""
    assert Connections(origin, 1, 1, 1, None, lambda: None).host == host
