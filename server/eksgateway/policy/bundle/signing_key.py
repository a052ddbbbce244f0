"""Loads the key that signs bundles: a private key in PEM, or the secret of an HMAC.

Error texts have the file's name and never its content.
"""

from __future__ import annotations

import hmac
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_ssh_public_key,
)

from eksgateway.errors import StartError
from eksgateway.file_reader import FileUnreadable, read_file

Sign: TypeAlias = Callable[[bytes], bytes]

_MAX_KEY_BYTES: Final = 64 << 10
_MIN_RSA_BITS: Final = 2048  # RFC 7518, section 3.3
_SHA: Final[dict[str, hashes.HashAlgorithm]] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_HMAC: Final = ("HS256", "HS384", "HS512")
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
ALGORITHMS: Final = (*_RSA, *_CURVES.values(), *_HMAC)


class SigningKeyError(StartError):
    """A key that cannot sign a bundle."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """``sign`` returns the signature of a JWS. ``warnings`` are sentences for the operator."""

    key_id: str
    algorithm: str
    sign: Sign = field(repr=False)
    warnings: tuple[str, ...] = ()


def load_signing_key(path: Path, *, key_id: str, algorithm: str | None = None) -> SigningKey:
    """The key in a file. ``algorithm`` is one of ALGORITHMS, by default the first one that fits the key.

    Raises SigningKeyError.
    """
    try:
        content = read_file(path, _MAX_KEY_BYTES)
    except FileUnreadable as exc:
        # Without the path: `opa build` takes the key itself too, and what is given here may be one.
        raise SigningKeyError(
            f"the signing key cannot be read: {exc}: give the path of its file, not the key itself"
        ) from exc
    if b"-----BEGIN" in content:
        signers, warnings = _private_key_signers(path, content), []
    else:
        signers, warnings = _hmac_signers(path, content, algorithm), _secret_warnings(path, content)
    chosen = algorithm or next(iter(signers))
    if chosen not in signers:
        raise SigningKeyError(f"{path}: this key does not sign with {chosen}: use {_join(signers)}")
    warnings += _mode_warnings(path)
    return SigningKey(key_id, chosen, signers[chosen], tuple(warnings))


def _private_key_signers(path: Path, pem: bytes) -> dict[str, Sign]:
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as exc:
        raise SigningKeyError(f"{path}: the key is encrypted: decrypt it into another file") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise SigningKeyError(
            f"{path}: is not a private key in PEM: give an RSA or EC key, not a public key or a certificate"
        ) from exc
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < _MIN_RSA_BITS:
            raise SigningKeyError(f"{path}: the RSA key has {key.key_size} bits, and needs {_MIN_RSA_BITS}")
        return {name: _rsa_signer(key, name) for name in _RSA}
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        name = _CURVES[key.curve.name]
        return {name: _ec_signer(key, name)}
    raise SigningKeyError(
        f"{path}: OPA verifies no key of this kind: use RSA, or EC on P-256, P-384 or P-521"
    )


def _rsa_signer(key: rsa.RSAPrivateKey, algorithm: str) -> Sign:
    sha = _SHA[algorithm[2:]]
    pss = padding.PSS(padding.MGF1(sha), padding.PSS.DIGEST_LENGTH)
    scheme = pss if algorithm.startswith("PS") else padding.PKCS1v15()
    return lambda content: key.sign(content, scheme, sha)


def _ec_signer(key: ec.EllipticCurvePrivateKey, algorithm: str) -> Sign:
    size = (key.key_size + 7) // 8
    # RFC 6979: equal content gives equal bytes.
    scheme = ec.ECDSA(_SHA[algorithm[2:]], deterministic_signing=True)

    def sign(content: bytes) -> bytes:
        numbers = decode_dss_signature(key.sign(content, scheme))
        return b"".join(number.to_bytes(size, "big") for number in numbers)

    return sign


def _hmac_signers(path: Path, secret: bytes, algorithm: str | None) -> dict[str, Sign]:
    if _is_der(secret):
        raise SigningKeyError(f"{path}: the key is in DER: convert it to PEM")
    if _is_public(secret):
        raise SigningKeyError(f"{path}: is a public key, which is no secret: give the private key in PEM")
    if not secret:
        raise SigningKeyError(f"{path}: is empty")
    chosen = algorithm if algorithm in _HMAC else _HMAC[0]
    least = int(chosen[2:]) // 8  # RFC 7518, section 3.2
    if len(secret) < least and algorithm in (None, chosen):
        raise SigningKeyError(
            f"{path}: is no private key in PEM, and as a secret for {chosen} too short:"
            f" it has {len(secret)} bytes, and needs {least}"
        )
    return {name: _hmac_signer(secret, name) for name in _HMAC}


def _hmac_signer(secret: bytes, algorithm: str) -> Sign:
    return lambda content: hmac.digest(secret, content, f"sha{algorithm[2:]}")


def _is_der(content: bytes) -> bool:
    try:
        load_der_private_key(content, password=None)
    except TypeError:  # encrypted
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _is_public(content: bytes) -> bool:
    for load in (load_der_public_key, load_ssh_public_key):
        try:
            load(content)
        except (ValueError, UnsupportedAlgorithm):
            continue
        return True
    return False


def _secret_warnings(path: Path, secret: bytes) -> list[str]:
    if not secret.endswith((b"\n", b"\r")):
        return []
    return [f"{path} ends with a line break, which is part of the secret: OPA needs it in its key too"]


def _mode_warnings(path: Path) -> list[str]:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) or not mode & (stat.S_IRGRP | stat.S_IROTH):
        return []
    return [f"{path} can be read by other users (mode {stat.S_IMODE(mode):04o}): run chmod 600 on it"]


def _join(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
