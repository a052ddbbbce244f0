"""Which certificate files are put in force, which are not, and what is told about either."""

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
from eksgateway.rpc.certificates import LOOK_S, Certificates
from eksgateway.rpc.tls_files import judge, read_files
from eksgateway.settings import SettingsError, TlsSettings
from support import authority
from support.authority import Authority, Shape
from support.clock import FakeClock
from support.hanging import hanging
from support.logs import capture_logs
from support.tokens import rsa_key

NOW = FakeClock().now()
CA = Authority(now=NOW)
OTHER = Authority("other", now=NOW)
DAY = 86_400


class Folder:
    """Certificate files, and who looks at them."""

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

    async def look(self, times: int = 2) -> None:
        for _ in range(times):
            await self.certificates.look()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path, clock: FakeClock) -> Folder:
    return Folder(tmp_path, clock)


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as events:
        yield events


def events(logged: list[Any]) -> list[str]:
    return [line["event"] for line in logged]


def encrypted(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def issued(**shape: float) -> Callable[[Folder], None]:
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
        lambda folder: folder.write(key=encrypted(rsa_key("server"))),
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
    "expired": (issued(starts_s=-7200, ends_s=0), r"tls\.crt: is valid from .* to .* only"),
    "not yet valid": (issued(starts_s=1), r"tls\.crt: is valid from .* to .* only"),
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


@pytest.mark.parametrize(("spoil", "said"), BAD.values(), ids=BAD)
async def test_files_that_cannot_be_used_keep_a_listener_from_starting(
    folder: Folder, spoil: Callable[[Folder], Any], said: str
) -> None:
    """And the file and the fault are said."""
    spoil(folder)
    with pytest.raises(SettingsError, match=said):
        await folder.certificates.read()


@pytest.mark.parametrize(("spoil", "said"), BAD.values(), ids=BAD)
async def test_files_that_cannot_be_used_change_nothing_and_are_told_once(
    folder: Folder, logged: list[Any], spoil: Callable[[Folder], Any], said: str
) -> None:
    """What was in force stays; good files in their place are put in force afterwards."""
    await folder.certificates.read()
    spoil(folder)
    await folder.look(4)
    (told,) = logged
    assert (told["event"], told["log_level"]) == ("tls.not_renewed", "error")
    with pytest.raises(SettingsError, match=said):
        await folder.certificates.read()
    CA.server().write(folder.path)
    folder.write(client_ca=OTHER.certificate)
    await folder.look()
    assert events(logged) == ["tls.not_renewed", "tls.renewed"]
    await folder.look(4)
    assert len(logged) == 2


async def test_what_was_in_force_may_come_back(folder: Folder, logged: list[Any]) -> None:
    """A fault that was mended that way, and comes again, is told again."""
    await folder.certificates.read()
    for _ in range(2):
        folder.write(key=b"")
        await folder.look()
        folder.write(key=folder.leaf.key)
        await folder.look()
    assert events(logged) == ["tls.not_renewed"] * 2


async def test_a_file_is_judged_when_two_looks_find_the_same(folder: Folder, logged: list[Any]) -> None:
    """A bundle that is half written may be a good one that lacks a CA."""
    await folder.certificates.read()
    for content in (OTHER.certificate, OTHER.certificate + CA.certificate):
        folder.write(client_ca=content)
        await folder.look(1)
    assert logged == []
    await folder.look(1)
    assert events(logged) == ["tls.renewed"]


async def test_a_certificate_is_put_in_force_when_its_time_has_come(
    folder: Folder, logged: list[Any]
) -> None:
    """One that was put there too early needs no second hand."""
    await folder.certificates.read()
    CA.issue(replace(Shape(), starts_s=60)).write(folder.path)
    await folder.look()
    folder.clock.jump(60)
    await folder.look()
    assert events(logged) == ["tls.not_renewed", "tls.renewed"]


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
async def test_a_root_that_cannot_be_used_harms_no_other(
    folder: Folder, logged: list[Any], odd: bytes, why: str, place: str
) -> None:
    """The others of its bundle count, at the start and later; a CA that was removed with it does not."""
    others = {"first": (b"", OTHER.certificate * 2), "last": (OTHER.certificate * 2, b"")}
    before, after = others.get(place, (OTHER.certificate, OTHER.certificate))
    await folder.certificates.read()
    folder.write(client_ca=before + b"# a comment\n" + odd + after)
    await folder.look()
    assert events(logged) == ["tls.ca_dropped", "tls.renewed"]
    number = {"first": 1, "between": 2, "last": 3}[place]
    assert [line.startswith(f"certificate {number} ") and why in line for line in logged[0]["dropped"]] == [
        True
    ]
    judged = judge(folder.settings, read_files(folder.settings), folder.clock.now())
    assert judged.roots is not None
    assert judged.roots.split() == (OTHER.certificate * 2).split()
    await folder.look(4)
    assert len(logged) == 2
    again = Certificates(folder.settings, folder.clock)
    await again.read()
    assert events(logged) == ["tls.ca_dropped", "tls.renewed", "tls.ca_dropped"]


async def test_a_root_counts_from_when_it_is_valid(folder: Folder, logged: list[Any]) -> None:
    """One that was put there too early needs no second hand."""
    folder.write(client_ca=CA.certificate + root(starts_s=60) + root(starts_s=120))
    await folder.certificates.read()
    for seconds, dropped in ((59, 2), (1, 1), (60, 0)):
        folder.clock.jump(seconds)
        await folder.look()
        assert len(judge(folder.settings, read_files(folder.settings), folder.clock.now()).dropped) == dropped
    assert events(logged) == ["tls.ca_dropped", "tls.ca_dropped", "tls.renewed", "tls.renewed"]


async def test_a_certificate_that_nobody_renews_is_told_in_time_and_when_it_has_expired(
    folder: Folder, logged: list[Any]
) -> None:
    """Once each: with a fifth of its life left, and at its end; and again for the next one."""
    await folder.certificates.read()
    folder.clock.jump(3600 - 0.2 * 3660 - 1)
    await folder.look()
    assert logged == []
    folder.clock.jump(2)
    await folder.look()
    folder.clock.jump(0.2 * 3660)
    await folder.look()
    assert [(line["event"], Path(line["file"]).name) for line in logged] == [
        ("tls.expires_soon", "tls.crt"),
        ("tls.expired", "tls.crt"),
    ]
    logged.clear()
    CA.issue(replace(Shape(), ends_s=7200)).write(folder.path)
    await folder.look()
    folder.clock.jump(3300)
    await folder.look()
    assert events(logged) == ["tls.renewed", "tls.expires_soon"]


async def test_a_client_ca_near_its_end_is_told_too(folder: Folder, logged: list[Any]) -> None:
    """With it every client would be locked out."""
    await folder.certificates.read()
    CA.issue(replace(Shape(), ends_s=3 * DAY)).write(folder.path)
    await folder.look()
    logged.clear()
    folder.clock.jump(0.9 * DAY)
    await folder.look()
    assert [(line["event"], Path(line["file"]).name) for line in logged] == [("tls.expires_soon", "ca.crt")]


async def test_it_looks_again_and_again(folder: Folder, logged: list[Any]) -> None:
    """By the injected clock, until it is stopped."""
    await folder.certificates.read()
    keeping = asyncio.create_task(folder.certificates.keep())
    await resting(folder.clock)
    CA.server().write(folder.path)
    await folder.clock.advance(LOOK_S)
    await resting(folder.clock)
    assert logged == []
    await folder.clock.advance(LOOK_S)
    await resting(folder.clock)
    assert events(logged) == ["tls.renewed"]
    keeping.cancel()


async def resting(clock: FakeClock) -> None:
    async with asyncio.timeout(60):
        while not clock.sleepers:  # noqa: ASYNC110 - files are read on a thread meanwhile
            await asyncio.sleep(0.002)


async def test_a_file_system_that_hangs_is_told_and_holds_nothing_up(
    folder: Folder, logged: list[Any]
) -> None:
    """The certificate in force stays, the loop goes on, and what is put there later comes into force."""
    await folder.certificates.read()
    with hanging(folder.settings.key):
        looking = asyncio.create_task(folder.look(1))
        for _ in range(5):
            await asyncio.sleep(0)  # it goes on
        assert not looking.done()
        await looking
        assert [(line["event"], HUNG in line["fault"]) for line in logged] == [("tls.not_renewed", True)]
    CA.server().write(folder.path)
    await folder.look(3)
    assert events(logged) == ["tls.not_renewed", "tls.renewed"]


async def test_nothing_of_a_key_is_told(folder: Folder, logged: list[Any]) -> None:
    """Neither in a fault nor in what stands for the files."""
    await folder.certificates.read()
    folder.write(key=b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    await folder.look()
    with pytest.raises(SettingsError) as fault:
        await folder.certificates.read()
    told = repr((logged, fault.value, fault.value.__cause__, vars(folder.certificates)))
    assert "c2VjcmV0" not in told
    assert "PRIVATE" not in told
