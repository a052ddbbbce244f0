"""Certificates that are renewed under load."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any, TypeVar

import grpc

from eksgateway.clock import SystemClock
from support.authority import Authority, Issued, replace
from support.gateway import RunningGateway, run_gateway
from support.logs import capture_logs
from support.mtls import DATA, build_listeners, connect, tls_context
from support.simulator import SimulatedEks
from support.waiting import wait_until

T = TypeVar("T")


class Hurried(SystemClock):
    """A clock whose sleeps are twenty times shorter, so that files are read more often."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 20)


class Load:
    """Clients that call without a pause; ``lost`` has each error that is not an answer."""

    def __init__(self, gateway: RunningGateway, update_id: str) -> None:
        self.address = gateway.gateway.listeners[0].address
        self.update_id = update_id
        self.calls = 0
        self.lost: list[str] = []

    async def stand(self, root: bytes, own: Issued) -> None:
        """Call over one connection."""
        async with connect(self.address, root, own) as connection:
            while True:
                await self._call(connection)

    async def come_and_go(self, client: Callable[[], tuple[bytes, Issued]]) -> None:
        """Call over one connection after another, each with the client's current files."""
        while True:
            async with connect(self.address, *client()) as connection:
                for _ in range(3):
                    await self._call(connection)

    async def _call(self, connection: Any) -> None:
        try:
            await connection.get(self.update_id)
        except grpc.aio.AioRpcError as error:
            self.lost.append(f"{error.code().name}: {error.details()}")
        self.calls += 1

    async def wait_for_calls(self, calls: int = 100) -> None:
        """Wait for so many more calls."""
        wanted = self.calls + calls
        await wait_until(lambda: self.calls >= wanted, 30)


async def wait_for_answer(wanted: T, ask: Callable[[], Awaitable[T]]) -> None:
    """Call until the answer is this one."""
    async with asyncio.timeout(30):
        while await ask() != wanted:  # noqa: ASYNC110  the answer comes over the wire
            await asyncio.sleep(0.02)


@asynccontextmanager
async def run_jobs(*jobs: Any) -> AsyncIterator[None]:
    """Run jobs until the context ends."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        yield
        assert [task for task in tasks if task.done()] == []
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def fetch_digest(address: str, root: bytes, own: Issued) -> str:
    """The digest of the server's certificate on a new connection."""
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=tls_context(root, own))
    try:
        connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
    finally:
        writer.close()


def digest(issued: Issued) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(issued.certificate.decode())).hexdigest()


async def can_connect(address: str, root: bytes, own: Issued) -> bool:
    """Whether a new connection of this client is accepted."""
    async with connect(address, root, own) as connection:
        try:
            await connection.get("00000000-0000-0000-0000-000000000000")
        except grpc.aio.AioRpcError as error:
            return error.code() is not grpc.StatusCode.UNAVAILABLE
    return True


@asynccontextmanager
async def run_tls_gateway(
    path: Path, eks: SimulatedEks, authority: Authority
) -> AsyncIterator[RunningGateway]:
    files = build_listeners(path, authority, "mtls")
    async with run_gateway(path, eks, data=DATA, clock=Hurried(), listeners=files) as gateway:
        yield gateway


async def test_renewed_server_certificate_loses_no_call(tmp_path: Path, eks: SimulatedEks) -> None:
    """Open connections go on, and new ones get the new certificate."""
    authority, update_id = Authority(), eks.rollback("staging-1")
    root, own = authority.certificate, authority.issue()
    async with run_tls_gateway(tmp_path, eks, authority) as gateway:
        load = Load(gateway, update_id)
        standing = [load.stand(root, authority.issue()) for _ in range(3)]
        async with run_jobs(*standing, *(load.come_and_go(lambda: (root, own)) for _ in range(3))):
            for _ in range(3):
                new = authority.server()
                assert await fetch_digest(load.address, root, own) != digest(new)
                new.write(tmp_path)
                await wait_for_answer(digest(new), lambda: fetch_digest(load.address, root, own))
                await load.wait_for_calls()
        assert load.lost == []


async def test_renewed_client_ca_loses_no_call(tmp_path: Path, eks: SimulatedEks) -> None:
    """First both CAs are in the bundle, then the new one alone."""
    authority, successor, update_id = Authority(), Authority("successor"), eks.rollback("staging-1")
    root = authority.certificate  # the server's does not change
    old, new = authority.issue(), successor.issue()
    clients = [old]
    bundle = tmp_path / "ca.crt"
    async with run_tls_gateway(tmp_path, eks, authority) as gateway:
        load = Load(gateway, update_id)
        standing = [load.stand(root, own) for own in (old, old, authority.issue())]
        coming = [load.come_and_go(lambda: (root, clients[-1])) for _ in range(3)]
        async with run_jobs(*standing, *coming):
            await load.wait_for_calls()
            assert not await can_connect(load.address, root, new)
            replace(bundle, authority.certificate + successor.certificate)
            await wait_for_answer(True, lambda: can_connect(load.address, root, new))
            clients.append(new)
            await load.wait_for_calls()
            replace(bundle, successor.certificate)
            await wait_for_answer(False, lambda: can_connect(load.address, root, old))
            await load.wait_for_calls()
        assert load.lost == []


async def test_root_that_is_not_valid_yet_is_left_out(tmp_path: Path, eks: SimulatedEks) -> None:
    """The removed CA is no longer trusted, and the gateway starts."""
    authority, successor = Authority(), Authority("successor")
    early = Authority("early", shape=replaced(authority.shape, starts_s=3600)).certificate
    old, new = authority.issue(), successor.issue()
    async with run_tls_gateway(tmp_path, eks, authority) as gateway:
        address = gateway.gateway.listeners[0].address
        replace(tmp_path / "ca.crt", early + successor.certificate)
        await wait_for_answer(False, lambda: can_connect(address, authority.certificate, old))
        assert await can_connect(address, authority.certificate, new)
    files = build_listeners(tmp_path, authority, "mtls")
    replace(tmp_path / "ca.crt", early + authority.certificate)
    async with run_gateway(tmp_path, eks, data=DATA, listeners=files) as gateway:
        assert await can_connect(gateway.gateway.listeners[0].address, authority.certificate, old)


async def test_mismatched_files_keep_the_old_certificate(tmp_path: Path, eks: SimulatedEks) -> None:
    """Logged once; correct files are picked up."""
    authority, update_id = Authority(), eks.rollback("staging-1")
    root, own = authority.certificate, authority.issue()
    after = authority.server()
    with capture_logs() as logged:
        async with run_tls_gateway(tmp_path, eks, authority) as gateway:
            load = Load(gateway, update_id)
            before = await fetch_digest(load.address, root, own)
            async with run_jobs(load.come_and_go(lambda: (root, own))):
                replace(tmp_path / "tls.crt", after.certificate)  # without its key
                await wait_until(lambda: "tls.not_renewed" in [line["event"] for line in logged])
                await load.wait_for_calls(30)
                assert await fetch_digest(load.address, root, own) == before
                replace(tmp_path / "tls.key", after.key)
                await wait_for_answer(digest(after), lambda: fetch_digest(load.address, root, own))
                await load.wait_for_calls(30)
            assert load.lost == []
    told = [line["event"] for line in logged if line["event"].startswith("tls.")]
    assert told == ["tls.not_renewed", "tls.renewed"]
