"""Reads a listener's TLS files and checks which part of them can be used."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from eksgateway.file_reader import FileUnreadable, read_file
from eksgateway.identity.spiffe import CERTIFICATE_ERRORS
from eksgateway.settings import TlsSettings

_MAX_BYTES: Final = 1_048_576
_MAX_DROPPED: Final = 20  # certificates of a bundle that one log line names
# A certificate, also one whose end is missing.
_BLOCK: Final = re.compile(
    rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----.*?"
    rb"(?:-----END (?:TRUSTED |X509 )?CERTIFICATE-----|(?=-----BEGIN )|\Z)",
    re.DOTALL,
)


class TlsFilesError(Exception):
    """The text names the file and the fault, and shows no content."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files' content (PEM) at one moment."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None


@dataclass(frozen=True, slots=True)
class Validity:
    """Of a certificate in one file."""

    path: Path
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class UsableTls:
    """``roots`` are the usable CAs of the bundle (PEM). ``dropped`` describes the others, and ``recheck_at``
    is when the first of them becomes valid.
    """

    validities: tuple[Validity, ...]
    roots: bytes | None
    dropped: tuple[str, ...] = ()
    recheck_at: datetime | None = None


def read_files(settings: TlsSettings) -> TlsFiles:
    """Raises TlsFilesError."""
    client_ca = None if settings.client_ca is None else _read(settings.client_ca)
    return TlsFiles(_read(settings.certificate), _read(settings.key), client_ca)


def check_files(settings: TlsSettings, files: TlsFiles, now: datetime) -> UsableTls:
    """Raises TlsFilesError. Core reports neither a fault nor a key that does not match its certificate."""
    try:
        leaf = x509.load_pem_x509_certificates(files.certificate)[0]
    except CERTIFICATE_ERRORS:
        raise TlsFilesError(f"{settings.certificate}: is not a PEM certificate") from None
    try:
        key = load_pem_private_key(files.key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise TlsFilesError(f"{settings.key}: is not a PEM private key without a password") from None
    if key.public_key() != leaf.public_key():
        raise TlsFilesError(f"{settings.certificate} and {settings.key} do not belong together")
    validity = _validity(settings.certificate, leaf)
    if fault := _validity_fault(validity, now):
        raise TlsFilesError(f"{validity.path}: {fault}")
    if settings.client_ca is None or files.client_ca is None:
        return UsableTls((validity,), None)
    return _check_bundle(settings.client_ca, files.client_ca, now, validity)


def _check_bundle(path: Path, bundle: bytes, now: datetime, leaf: Validity) -> UsableTls:
    """An expired, not yet valid or unreadable CA leaves the others usable."""
    blocks = _BLOCK.findall(bundle)
    if not blocks:
        raise TlsFilesError(f"{path}: is not a PEM certificate")
    usable: list[tuple[bytes, Validity]] = []
    faults: dict[int, str] = {}
    not_yet_valid: list[datetime] = []
    for number, block in enumerate(blocks, 1):
        try:
            root = x509.load_pem_x509_certificate(block)
            validity = _validity(path, root)
            fault = _validity_fault(validity, now) if _is_ca(root) else "is a certificate that is not a CA's"
        except CERTIFICATE_ERRORS:
            fault = "is not a PEM certificate"
        else:
            if fault and now < validity.not_before:
                not_yet_valid.append(validity.not_before)
        if fault:
            faults[number] = fault
        else:
            usable.append((root.public_bytes(Encoding.PEM), validity))
    dropped = tuple(f"certificate {number} {fault}" for number, fault in faults.items())[:_MAX_DROPPED]
    if not usable:
        same_fault = len(set(faults.values())) == 1
        raise TlsFilesError(f"{path}: {faults[1] if same_fault else '; '.join(dropped)}")
    # Encoded anew: core stops at the first certificate that it cannot read.
    roots = b"".join(root for root, _ in usable)
    # An old CA may stay in the bundle beside the newest.
    newest = max((validity for _, validity in usable), key=lambda validity: validity.not_after)
    return UsableTls((leaf, newest), roots, dropped, min(not_yet_valid, default=None))


def _validity_fault(validity: Validity, now: datetime) -> str:
    if validity.not_before <= now < validity.not_after:
        return ""
    return f"is valid from {validity.not_before.isoformat()} to {validity.not_after.isoformat()} only"


def _read(path: Path) -> bytes:
    try:
        return read_file(path, _MAX_BYTES)
    except FileUnreadable as exc:
        raise TlsFilesError(f"{path}: {exc}") from exc


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (*CERTIFICATE_ERRORS, x509.ExtensionNotFound):
        return False


def _validity(path: Path, certificate: x509.Certificate) -> Validity:
    return Validity(path, certificate.not_valid_before_utc, certificate.not_valid_after_utc)
