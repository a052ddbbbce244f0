"""A throw-away certificate authority for servers and SPIFFE workloads. Also for invalid certificates."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
WORKLOAD = "spiffe://corp.example/ops/deploy"


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


@dataclass(frozen=True, slots=True)
class Shape:
    """Fields of a certificate; the defaults are those of an X.509-SVID. None leaves an extension out."""

    names: Sequence[x509.GeneralName] | None = (uri(WORKLOAD),)
    ca: bool | None = False
    usage: Sequence[str] | None = ("digital_signature",)
    extended: Sequence[x509.ObjectIdentifier] | None = (CLIENT, SERVER)
    starts_s: float = -60
    ends_s: float = 3600
    others: Sequence[x509.ExtensionType] = ()


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write both files, each replaced in one step."""
        places = folder / "tls.crt", folder / "tls.key"
        for place, content in zip(places, (self.certificate, self.key), strict=True):
            replace(place, content)
        return places


def replace(place: Path, content: bytes) -> None:
    """Replace a file in one step, as certificate renewal does."""
    new = place.with_name(f"{place.name}.new")
    new.write_bytes(content)
    new.rename(place)


_AUTHORITY = Shape(names=None, ca=True, usage=("key_cert_sign", "crl_sign"), extended=None, ends_s=86_400)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(slots=True)
class Authority:
    """Issues certificates whose times count from ``now``."""

    name: str = "authority"
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    shape: Shape = _AUTHORITY
    certificate: bytes = field(init=False)
    _key: ec.EllipticCurvePrivateKey = field(init=False, default_factory=_new_key)

    def __post_init__(self) -> None:
        self.certificate = self._sign(self.name, self._key, self.shape)

    def issue(self, shape: Shape = Shape(), name: str = "leaf") -> Issued:
        """Issue a leaf certificate."""
        key = _new_key()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Issued(self._sign(name, key, shape), private)

    def server(self, name: str = "gateway") -> Issued:
        """A certificate for a server on loopback."""
        return self.issue(Shape(names=(LOOPBACK,), extended=(SERVER,)), name)

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, shape: Shape) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + timedelta(seconds=shape.starts_s))
            .not_valid_after(self.now + timedelta(seconds=shape.ends_s))
        )
        for extension in _extensions(shape):
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def _extensions(shape: Shape) -> list[x509.ExtensionType]:
    found: list[x509.ExtensionType] = [*shape.others]
    if shape.ca is not None:
        found.append(x509.BasicConstraints(ca=shape.ca, path_length=None))
    if shape.usage is not None:
        found.append(x509.KeyUsage(**{usage: usage in shape.usage for usage in _USAGES}))
    if shape.extended is not None:
        found.append(x509.ExtendedKeyUsage(shape.extended))
    if shape.names is not None:
        found.append(x509.SubjectAlternativeName(shape.names))
    return found


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
