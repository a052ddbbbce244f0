"""Which certificate files a listener uses, and what it logs about them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from eksgateway.file_reader import HUNG
from eksgateway.rpc.certificates import CHECK_INTERVAL_S, Certificates
from eksgateway.rpc.tls_files import check_files, read_files
from eksgateway.settings import SettingsError, TlsSettings
from support import authority
from support.authority import Authority, Shape
from support.clock import FakeClock
from support.hanging_file import hang_reads
from support.logs import capture_logs
from support.tokens import rsa_key

NOW = FakeClock().now()
CA = Authority(now=NOW)
OTHER = Authority("other", now=NOW)
DAY = 86_400


class Folder:
    """Certificate files, and the listener's certificates."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self.path = path
        self.clock = clock
        self.leaf = CA.server()
        self.leaf.write(path)
        self.write(client_ca=CA.certificate)
        self.settings = TlsSettings(
            certificate=path / "tls.crt", key=path / "tls.key", client_ca=path / "ca.crt"
        )
        self.certificates = Certificates(self.settings, clock)

    def write(self, **contents: bytes) -> None:
        names = {"certificate": "tls.crt", "key": "tls.key", "client_ca": "ca.crt"}
        for name, content in contents.items():
            authority.replace(self.path / names[name], content)

    async def renew(self, times: int = 2) -> None:
        for _ in range(times):
            await self.certificates.renew()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path, clock: FakeClock) -> Folder:
    return Folder(tmp_path, clock)


@pytest.fixture
def log_lines() -> Iterator[list[Any]]:
    with capture_logs() as events:
        yield events


def events(log_lines: list[Any]) -> list[str]:
    return [line["event"] for line in log_lines]


def encrypt(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def issue_leaf(**shape: float) -> Callable[[Folder], None]:
    return lambda folder: leaf(folder, replace(Shape(), **shape))  # type: ignore[arg-type]  # its times


def leaf(folder: Folder, shape: Shape) -> None:
    CA.issue(shape).write(folder.path)


def root(**shape: Any) -> bytes:
    return Authority(now=NOW, shape=replace(CA.shape, **shape)).certificate


BAD: dict[str, tuple[Callable[[Folder], Any], str]] = {
    "certificate missing": (lambda folder: (folder.path / "tls.crt").unlink(), r"tls\.crt: No such file"),
    "key missing": (lambda folder: (folder.path / "tls.key").unlink(), r"tls\.key: No such file"),
    "CA missing": (lambda folder: (folder.path / "ca.crt").unlink(), r"ca\.crt: No such file"),
    "certificate empty": (lambda folder: folder.write(certificate=b""), r"tls\.crt: is not a PEM"),
    "certificate no PEM": (lambda folder: folder.write(certificate=b"\0"), r"tls\.crt: is not a PEM"),
    "certificate cut off": (
        lambda folder: folder.write(certificate=CA.server().certificate[:-40]),
        r"tls\.crt: is not a PEM",
    ),
    "certificate too large": (lambda folder: folder.write(certificate=b"\n" * 1_048_577), "is larger than"),
    "key empty": (lambda folder: folder.write(key=b""), r"tls\.key: is not a PEM private key"),
    "key is a certificate": (lambda folder: folder.write(key=folder.leaf.certificate), r"tls\.key: is not"),
    "key with a password": (
        lambda folder: folder.write(key=encrypt(rsa_key("server"))),
        r"tls\.key: is not .* without a password",
    ),
    "key of another certificate": (
        lambda folder: folder.write(key=CA.server().key),
        r"tls\.crt and .*tls\.key do not belong together",
    ),
    "certificate of another key": (
        lambda folder: folder.write(certificate=CA.server().certificate),
        "do not belong together",
    ),
    "expired": (issue_leaf(starts_s=-7200, ends_s=0), r"tls\.crt: is valid from .* to .* only"),
    "not yet valid": (issue_leaf(starts_s=1), r"tls\.crt: is valid from .* to .* only"),
    "CA empty": (lambda folder: folder.write(client_ca=b""), r"ca\.crt: is not a PEM"),
    "CA no PEM": (lambda folder: folder.write(client_ca=b"-----BEGIN"), r"ca\.crt: is not a PEM"),
    "CA is a leaf": (
        lambda folder: folder.write(client_ca=CA.server().certificate),
        r"ca\.crt: is a certificate that is not a CA's",
    ),
    "every CA expired": (
        lambda folder: folder.write(client_ca=root(starts_s=-DAY, ends_s=-1) * 2),
        r"ca\.crt: is valid from .* to .* only",
    ),
    "no CA that can be used": (
        lambda folder: folder.write(client_ca=root(starts_s=-DAY, ends_s=-1) + CA.server().certificate),
        r"ca\.crt: certificate 1 is valid from .* only; certificate 2 is a certificate that is not a CA's",
    ),
}


@pytest.mark.parametrize(("spoil", "fault"), BAD.values(), ids=BAD)
async def test_load_refuses_unusable_files(
    folder: Folder, spoil: Callable[[Folder], Any], fault: str
) -> None:
    """The error names the file and the fault."""
    spoil(folder)
    with pytest.raises(SettingsError, match=fault):
        await folder.certificates.load()


@pytest.mark.parametrize(("spoil", "fault"), BAD.values(), ids=BAD)
async def test_renew_ignores_unusable_files_and_logs_them_once(
    folder: Folder, log_lines: list[Any], spoil: Callable[[Folder], Any], fault: str
) -> None:
    """The files in use stay in use, until usable ones take their place."""
    await folder.certificates.load()
    spoil(folder)
    await folder.renew(4)
    (line,) = log_lines
    assert (line["event"], line["log_level"]) == ("tls.not_renewed", "error")
    with pytest.raises(SettingsError, match=fault):
        await folder.certificates.load()
    CA.server().write(folder.path)
    folder.write(client_ca=OTHER.certificate)
    await folder.renew()
    assert events(log_lines) == ["tls.not_renewed", "tls.renewed"]
    await folder.renew(4)
    assert len(log_lines) == 2


async def test_renew_logs_a_fault_again_after_it_was_fixed(folder: Folder, log_lines: list[Any]) -> None:
    """Here by restoring the files in use."""
    await folder.certificates.load()
    for _ in range(2):
        folder.write(key=b"")
        await folder.renew()
        folder.write(key=folder.leaf.key)
        await folder.renew()
    assert events(log_lines) == ["tls.not_renewed"] * 2


async def test_renew_waits_until_two_reads_are_the_same(folder: Folder, log_lines: list[Any]) -> None:
    """A half-written bundle may be a valid one that lacks a CA."""
    await folder.certificates.load()
    for content in (OTHER.certificate, OTHER.certificate + CA.certificate):
        folder.write(client_ca=content)
        await folder.renew(1)
    assert log_lines == []
    await folder.renew(1)
    assert events(log_lines) == ["tls.renewed"]


async def test_renew_uses_a_certificate_once_it_is_valid(folder: Folder, log_lines: list[Any]) -> None:
    """Files that were put there too early need not be written again."""
    await folder.certificates.load()
    CA.issue(replace(Shape(), starts_s=60)).write(folder.path)
    await folder.renew()
    folder.clock.jump(60)
    await folder.renew()
    assert events(log_lines) == ["tls.not_renewed", "tls.renewed"]


ODD_ROOTS: dict[str, tuple[bytes, str]] = {
    "expired": (root(starts_s=-DAY, ends_s=-1), "is valid from"),
    "not valid yet": (root(starts_s=3600, ends_s=DAY), "is valid from"),
    "unparsable": (
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "is not a PEM certificate",
    ),
    "not base64": (
        b"-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n",
        "is not a PEM certificate",
    ),
    "without an end": (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "is not a PEM certificate"),
    "of another kind": (CA.server().certificate, "not a CA's"),
}


@pytest.mark.parametrize("place", ["first", "between", "last"])
@pytest.mark.parametrize(("odd", "why"), ODD_ROOTS.values(), ids=ODD_ROOTS)
async def test_an_unusable_root_does_not_affect_the_others(
    folder: Folder, log_lines: list[Any], odd: bytes, why: str, place: str
) -> None:
    """At the start and later. A CA that was removed in the same change is not used any more."""
    others = {"first": (b"", OTHER.certificate * 2), "last": (OTHER.certificate * 2, b"")}
    before, after = others.get(place, (OTHER.certificate, OTHER.certificate))
    await folder.certificates.load()
    folder.write(client_ca=before + b"# a comment\n" + odd + after)
    await folder.renew()
    assert events(log_lines) == ["tls.ca_dropped", "tls.renewed"]
    number = {"first": 1, "between": 2, "last": 3}[place]
    assert [
        line.startswith(f"certificate {number} ") and why in line for line in log_lines[0]["dropped"]
    ] == [True]
    usable = check_files(folder.settings, read_files(folder.settings), folder.clock.now())
    assert usable.roots is not None
    assert usable.roots.split() == (OTHER.certificate * 2).split()
    await folder.renew(4)
    assert len(log_lines) == 2
    again = Certificates(folder.settings, folder.clock)
    await again.load()
    assert events(log_lines) == ["tls.ca_dropped", "tls.renewed", "tls.ca_dropped"]


async def test_renew_uses_a_root_once_it_is_valid(folder: Folder, log_lines: list[Any]) -> None:
    """Files that were put there too early need not be written again."""
    folder.write(client_ca=CA.certificate + root(starts_s=60) + root(starts_s=120))
    await folder.certificates.load()
    for seconds, dropped in ((59, 2), (1, 1), (60, 0)):
        folder.clock.jump(seconds)
        await folder.renew()
        assert (
            len(check_files(folder.settings, read_files(folder.settings), folder.clock.now()).dropped)
            == dropped
        )
    assert events(log_lines) == ["tls.ca_dropped", "tls.ca_dropped", "tls.renewed", "tls.renewed"]


async def test_a_certificate_near_its_end_is_logged_before_and_after(
    folder: Folder, log_lines: list[Any]
) -> None:
    """Once with a fifth of its validity left and once at its end, for each certificate."""
    await folder.certificates.load()
    folder.clock.jump(3600 - 0.2 * 3660 - 1)
    await folder.renew()
    assert log_lines == []
    folder.clock.jump(2)
    await folder.renew()
    folder.clock.jump(0.2 * 3660)
    await folder.renew()
    assert [(line["event"], Path(line["file"]).name) for line in log_lines] == [
        ("tls.expires_soon", "tls.crt"),
        ("tls.expired", "tls.crt"),
    ]
    log_lines.clear()
    CA.issue(replace(Shape(), ends_s=7200)).write(folder.path)
    await folder.renew()
    folder.clock.jump(3300)
    await folder.renew()
    assert events(log_lines) == ["tls.renewed", "tls.expires_soon"]


async def test_a_client_ca_near_its_end_is_logged(folder: Folder, log_lines: list[Any]) -> None:
    """Without a CA every client would be refused."""
    await folder.certificates.load()
    CA.issue(replace(Shape(), ends_s=3 * DAY)).write(folder.path)
    await folder.renew()
    log_lines.clear()
    folder.clock.jump(0.9 * DAY)
    await folder.renew()
    assert [(line["event"], Path(line["file"]).name) for line in log_lines] == [
        ("tls.expires_soon", "ca.crt")
    ]


async def test_run_renews_until_cancelled(folder: Folder, log_lines: list[Any]) -> None:
    await folder.certificates.load()
    running = asyncio.create_task(folder.certificates.run())
    await until_asleep(folder.clock)
    CA.server().write(folder.path)
    await folder.clock.advance(CHECK_INTERVAL_S)
    await until_asleep(folder.clock)
    assert log_lines == []
    await folder.clock.advance(CHECK_INTERVAL_S)
    await until_asleep(folder.clock)
    assert events(log_lines) == ["tls.renewed"]
    running.cancel()


async def until_asleep(clock: FakeClock) -> None:
    async with asyncio.timeout(60):
        while not clock.sleepers:  # noqa: ASYNC110 - files are read on a thread meanwhile
            await asyncio.sleep(0.002)


async def test_renew_logs_a_hanging_file_system(folder: Folder, log_lines: list[Any]) -> None:
    """The event loop is not blocked, the certificate in use stays, and later files are used."""
    await folder.certificates.load()
    with hang_reads(folder.settings.key):
        renewal = asyncio.create_task(folder.renew(1))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not renewal.done()
        await renewal
        assert [(line["event"], HUNG in line["fault"]) for line in log_lines] == [("tls.not_renewed", True)]
    CA.server().write(folder.path)
    await folder.renew(3)
    assert events(log_lines) == ["tls.not_renewed", "tls.renewed"]


async def test_keys_are_not_logged(folder: Folder, log_lines: list[Any]) -> None:
    """Neither in a fault nor in the representation of the files."""
    await folder.certificates.load()
    folder.write(key=b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    await folder.renew()
    with pytest.raises(SettingsError) as fault:
        await folder.certificates.load()
    texts = repr((log_lines, fault.value, fault.value.__cause__, vars(folder.certificates)))
    assert "c2VjcmV0" not in texts
    assert "PRIVATE" not in texts
