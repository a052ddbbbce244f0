"""A listener's certificate, key and client CA: read from their files, judged, and renewed without a restart.

Connections keep what they were made with until they end; this decides for new ones only.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from eksgateway.clock import Clock
from eksgateway.logs import Log
from eksgateway.reading import HUNG, Reader, Unreadable, read_file
from eksgateway.settings import SettingsError, TlsSettings

log = Log("eksgateway.tls")

LOOK_S = 2.0
_MAX_BYTES = 1_048_576
_LATE = 0.2  # of its life is left: a renewal should have come by now
# What x509 raises for a certificate that it cannot read: classes without a common base.
_UNREADABLE = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_MOST_NAMED = 20  # certificates of a bundle in a line of the log
# A certificate, or what was meant to be one: the end may be missing.
_BLOCK = re.compile(
    rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----.*?"
    rb"(?:-----END (?:TRUSTED |X509 )?CERTIFICATE-----|(?=-----BEGIN )|\Z)",
    re.DOTALL,
)


class Unusable(Exception):
    """Files that cannot be put in force; the text says which and why, and nothing of what they hold."""


@dataclass(frozen=True, slots=True)
class Files:
    """What the files held at one moment, PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None


@dataclass(frozen=True, slots=True)
class Term:
    """From when to when the certificate in one file is good."""

    path: Path
    starts: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class Judged:
    """What of the files can be served with. ``roots`` are the CAs of the bundle that count, PEM; ``dropped``
    is which do not and why; ``again`` is when one of these begins to be valid.
    """

    terms: tuple[Term, ...]
    roots: bytes | None
    dropped: tuple[str, ...] = ()
    again: datetime | None = None


class Certificates:
    """The files of one listener. ``read`` them once, then ``keep`` looking for newer ones.

    What cannot be used is logged once and changes nothing: what was in force stays. A CA that cannot be
    used harms no other one of its bundle.
    """

    def __init__(self, settings: TlsSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._in_force: Files | None = None
        self._judged = Judged((), None)
        self._seen: Files | None = None
        self._fault = ""
        self._reader = Reader(lambda: read_files(settings))
        self._warned: set[tuple[str, Term]] = set()
        # From the event loop to core's threads: holds the newest until the next connection takes it.
        self._fresh: deque[grpc.ServerCertificateConfiguration] = deque(maxlen=1)

    async def read(self) -> grpc.ServerCredentials:
        """What to listen with. Raises SettingsError."""
        try:
            files = await self._reader.read()
            judged = await self._judge(files)
        except Unusable as exc:
            raise SettingsError(f"tls: {exc}") from exc
        except TimeoutError as exc:
            raise SettingsError(f"tls: {self._settings.certificate}: {HUNG}") from exc
        self._put(files, judged)
        return grpc.dynamic_ssl_server_credentials(
            _configuration(files, judged),
            self._fetch,  # type: ignore[arg-type]  # its stub does not know that None is no change
            require_client_authentication=files.client_ca is not None,
        )

    async def keep(self) -> None:
        """Look again and again; runs until cancelled."""
        while True:
            await self._clock.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:  # one odd file must not end all renewals
                log.exception("tls.unexpected", certificate=str(self._settings.certificate))

    async def look(self) -> None:
        """Put in force what the files hold now, if it can be used."""
        self._warn()
        try:
            files = await self._reader.read()
            if files == self._in_force and not self._due():
                self._fault = ""
                return
            if files not in (self._seen, self._in_force):  # perhaps half written
                self._seen = files  # judged when two looks find the same
                return
            judged = await self._judge(files)
        except Unusable as exc:
            self._refuse(str(exc))
            return
        except TimeoutError:
            self._refuse(f"{self._settings.certificate}: {HUNG}")
            return
        self._put(files, judged)
        self._fresh.append(_configuration(files, judged))
        log.info("tls.renewed", ends={str(term.path): term.ends.isoformat() for term in judged.terms})

    async def _judge(self, files: Files) -> Judged:
        """A bundle may hold hundreds of certificates, so it is parsed on a thread."""
        return await asyncio.to_thread(judge, self._settings, files, self._clock.now())

    def _put(self, files: Files, judged: Judged) -> None:
        if judged.dropped and (files != self._in_force or judged.dropped != self._judged.dropped):
            log.error("tls.ca_dropped", file=str(self._settings.client_ca), dropped=judged.dropped)
        self._in_force, self._judged, self._fault = files, judged, ""

    def _due(self) -> bool:
        """Whether a CA that was not valid yet when it was judged is valid now."""
        again = self._judged.again
        return again is not None and self._clock.now() >= again

    def _refuse(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            log.error("tls.not_renewed", fault=fault, effect="what was in force stays")

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by core before each handshake, on its own threads; None is no change."""
        try:
            return self._fresh.popleft()
        except IndexError:
            return None

    def _warn(self) -> None:
        now = self._clock.now()
        for term in self._judged.terms:
            if term.ends - now >= _LATE * (term.ends - term.starts):
                continue
            event = "tls.expires_soon" if now < term.ends else "tls.expired"
            if (event, term) not in self._warned:
                self._warned.add((event, term))
                log.warning(event, file=str(term.path), ends=term.ends.isoformat())


def read_files(settings: TlsSettings) -> Files:
    """The bytes of the files. Raises Unusable."""
    client_ca = None if settings.client_ca is None else _read(settings.client_ca)
    return Files(_read(settings.certificate), _read(settings.key), client_ca)


def judge(settings: TlsSettings, files: Files, now: datetime) -> Judged:
    """What of these files can be served with now, and for how long. Raises Unusable.

    Core reports neither what is wrong nor whether key and certificate belong together.
    """
    leaf = _certificates(settings.certificate, files.certificate)[0]
    try:
        key = load_pem_private_key(files.key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable(f"{settings.key}: is not a PEM private key without a password") from None
    if key.public_key() != leaf.public_key():
        raise Unusable(f"{settings.certificate} and {settings.key} do not belong together")
    term = _term(settings.certificate, leaf)
    if fault := _out_of_term(term, now):
        raise Unusable(f"{term.path}: {fault}")
    if settings.client_ca is None or files.client_ca is None:
        return Judged((term,), None)
    return _judge_bundle(settings.client_ca, files.client_ca, now, term)


def _judge_bundle(path: Path, bundle: bytes, now: datetime, leaf: Term) -> Judged:
    """Each CA by itself: one that is expired, not valid yet or unreadable leaves the others in force."""
    blocks = _BLOCK.findall(bundle)
    if not blocks:
        raise Unusable(f"{path}: is not a PEM certificate")
    usable: list[tuple[bytes, Term]] = []
    faults: dict[int, str] = {}
    starts: list[datetime] = []
    for number, block in enumerate(blocks, 1):
        try:
            root = x509.load_pem_x509_certificate(block)
            term = _term(path, root)
            fault = _out_of_term(term, now) if _is_ca(root) else "is a certificate that is not a CA's"
        except _UNREADABLE:
            fault = "is not a PEM certificate"
        else:
            if fault and now < term.starts:
                starts.append(term.starts)
        if fault:
            faults[number] = fault
        else:
            usable.append((block, term))
    dropped = tuple(f"certificate {number} {fault}" for number, fault in faults.items())[:_MOST_NAMED]
    if not usable:
        one = len(set(faults.values())) == 1
        raise Unusable(f"{path}: {faults[1] if one else '; '.join(dropped)}")
    roots = b"\n".join(block for block, _ in usable) + b"\n"
    # The newest: an old root may stay in a bundle beside it.
    longest = max((term for _, term in usable), key=lambda term: term.ends)
    return Judged((leaf, longest), roots, dropped, min(starts, default=None))


def _out_of_term(term: Term, now: datetime) -> str:
    if term.starts <= now < term.ends:
        return ""
    return f"is valid from {term.starts.isoformat()} to {term.ends.isoformat()} only"


def _read(path: Path) -> bytes:
    try:
        return read_file(path, _MAX_BYTES)
    except Unreadable as exc:
        raise Unusable(f"{path}: {exc}") from exc


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except _UNREADABLE:
        raise Unusable(f"{path}: is not a PEM certificate") from None


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (*_UNREADABLE, x509.ExtensionNotFound):
        return False


def _term(path: Path, certificate: x509.Certificate) -> Term:
    return Term(path, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _configuration(files: Files, judged: Judged) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(files.key, files.certificate)], root_certificates=judged.roots
    )
