"""A listener's certificate, key and client CA: read from their files, judged, and renewed without a restart.

Connections keep what they were made with until they end; this decides for new ones only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from eksgateway.clock import Clock
from eksgateway.logs import Log
from eksgateway.reading import HUNG, Reader
from eksgateway.settings import SettingsError, TlsSettings

log = Log("eksgateway.tls")

LOOK_S = 2.0
_MAX_BYTES = 1_048_576
_LATE = 0.2  # of its life is left: whoever renews certificates should have done it by now


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


class Certificates:
    """The files of one listener. ``read`` them once, then ``keep`` looking for newer ones.

    What cannot be used is told once and changes nothing: what was in force stays.
    """

    def __init__(self, settings: TlsSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._in_force: Files | None = None
        self._terms: Sequence[Term] = ()
        self._seen: Files | None = None
        self._fault = ""
        self._reader = Reader(lambda: read_files(settings))
        self._warned: set[tuple[str, Term]] = set()
        # From the event loop to core's threads: holds the newest until the next connection takes it.
        self._fresh: deque[grpc.ServerCertificateConfiguration] = deque(maxlen=1)

    def read(self) -> grpc.ServerCredentials:
        """What to listen with. Raises SettingsError."""
        try:
            files = read_files(self._settings)
            terms = judge(self._settings, files, self._clock.now())
        except Unusable as exc:
            raise SettingsError(f"tls: {exc}") from exc
        self._in_force, self._terms = files, terms
        return grpc.dynamic_ssl_server_credentials(
            _configuration(files),
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
            if files == self._in_force:
                self._fault = ""
                return
            if files != self._seen:  # perhaps half written: judged when two looks find the same
                self._seen = files
                return
            terms = judge(self._settings, files, self._clock.now())
        except Unusable as exc:
            self._refuse(str(exc))
            return
        except TimeoutError:
            self._refuse(f"{self._settings.certificate}: {HUNG}")
            return
        self._in_force, self._terms, self._fault = files, terms, ""
        self._fresh.append(_configuration(files))
        log.info("tls.renewed", ends={str(term.path): term.ends.isoformat() for term in terms})

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
        for term in self._terms:
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


def judge(settings: TlsSettings, files: Files, now: datetime) -> tuple[Term, ...]:
    """How long these files are good for, if they can be served with now. Raises Unusable.

    Core tells neither what is wrong nor whether key and certificate belong together.
    """
    leaf = _certificates(settings.certificate, files.certificate)[0]
    try:
        key = load_pem_private_key(files.key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable(f"{settings.key}: is not a PEM private key without a password") from None
    if key.public_key() != leaf.public_key():
        raise Unusable(f"{settings.certificate} and {settings.key} do not belong together")
    terms = [_term(settings.certificate, leaf)]
    if settings.client_ca is not None and files.client_ca is not None:
        roots = _certificates(settings.client_ca, files.client_ca)
        if not all(_is_ca(root) for root in roots):
            raise Unusable(f"{settings.client_ca}: holds a certificate that is not a CA's")
        # An old root may stay in a bundle beside the new one.
        terms.append(max((_term(settings.client_ca, root) for root in roots), key=lambda term: term.ends))
    for term in terms:
        if not term.starts <= now < term.ends:
            valid = f"valid from {term.starts.isoformat()} to {term.ends.isoformat()}"
            raise Unusable(f"{term.path}: is {valid} only")
    return tuple(terms)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise Unusable(f"{path}: {exc.strerror}") from exc
    if len(content) > _MAX_BYTES:
        raise Unusable(f"{path}: is larger than {_MAX_BYTES} bytes")
    return content


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise Unusable(f"{path}: is not a PEM certificate") from None


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False


def _term(path: Path, certificate: x509.Certificate) -> Term:
    return Term(path, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _configuration(files: Files) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(files.key, files.certificate)], root_certificates=files.client_ca
    )
