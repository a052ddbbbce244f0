"""Keys that sign and verify bundles, as files."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

CURVES: dict[str, type[ec.EllipticCurve]] = {
    "ES256": ec.SECP256R1,
    "ES384": ec.SECP384R1,
    "ES512": ec.SECP521R1,
}


@dataclass(frozen=True)
class KeyFiles:
    """``public`` is what OPA verifies with: the public key, or the same secret."""

    private: Path
    public: Path


def write_key(folder: Path, algorithm: str, name: str = "key") -> KeyFiles:
    """A new key for the algorithm, that only its user can read."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    if algorithm.startswith("HS"):
        secret = secrets.token_hex(64).encode()
        _write(private, secret)
        _write(public, secret)
    else:
        key = ec.generate_private_key(CURVES[algorithm]()) if algorithm in CURVES else rsa_key()
        _write(private, to_pem(key))
        _write(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return KeyFiles(private, public)


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def to_pem(key: PrivateKeyTypes, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def _write(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)
