"""A listener's TLS files: read, and judged for what of them can be served with. Putting them in force is
`certificates`'s part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from eksgateway.file_reader import FileUnreadable, read_file
from eksgateway.identity.spiffe import CERTIFICATE_ERRORS
from eksgateway.settings import TlsSettings

_MAX_BYTES = 1_048_576
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
    """The part of the files that can be served with. ``roots`` are the CAs of the bundle that count, PEM;
    ``dropped`` is which do not and why; ``again`` is when one of these begins to be valid.
    """

    terms: tuple[Term, ...]
    roots: bytes | None
    dropped: tuple[str, ...] = ()
    again: datetime | None = None


def read_files(settings: TlsSettings) -> Files:
    """The bytes of the files. Raises Unusable."""
    client_ca = None if settings.client_ca is None else _read(settings.client_ca)
    return Files(_read(settings.certificate), _read(settings.key), client_ca)


def judge(settings: TlsSettings, files: Files, now: datetime) -> Judged:
    """The part of these files that can be served with now, and for how long. Raises Unusable.

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
        except CERTIFICATE_ERRORS:
            fault = "is not a PEM certificate"
        else:
            if fault and now < term.starts:
                starts.append(term.starts)
        if fault:
            faults[number] = fault
        else:
            usable.append((root.public_bytes(Encoding.PEM), term))
    dropped = tuple(f"certificate {number} {fault}" for number, fault in faults.items())[:_MOST_NAMED]
    if not usable:
        one = len(set(faults.values())) == 1
        raise Unusable(f"{path}: {faults[1] if one else '; '.join(dropped)}")
    # Written anew: core stops at the first certificate that it cannot read, and is stricter about PEM.
    roots = b"".join(root for root, _ in usable)
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
    except FileUnreadable as exc:
        raise Unusable(f"{path}: {exc}") from exc


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except CERTIFICATE_ERRORS:
        raise Unusable(f"{path}: is not a PEM certificate") from None


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (*CERTIFICATE_ERRORS, x509.ExtensionNotFound):
        return False


def _term(path: Path, certificate: x509.Certificate) -> Term:
    return Term(path, certificate.not_valid_before_utc, certificate.not_valid_after_utc)
