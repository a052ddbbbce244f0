"""Reads the public keys in a JWK set (RFC 7517) and verifies signatures with them."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Any, Final, get_args

import cryptography.hazmat.backends.openssl.backend  # noqa: F401  else the first check loads it on the event loop
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import get_default_algorithms

from eksgateway import strict_json
from eksgateway.identity.jwt_parser import UnverifiedToken
from eksgateway.settings import ALGORITHMS

MIN_RSA_BITS: Final = 2048
# With larger keys one check takes over a millisecond, on the event loop.
MAX_RSA_BITS: Final = 8192
MAX_EXPONENT_BITS: Final = 64
MAX_CANDIDATES: Final = 8  # per token; an issuer that sets `kid` has one

# The token alone never chooses an algorithm (RFC 8725 §3.1). No HMAC: symmetric keys (`oct`) are absent.
_ALGORITHMS_BY_KIND: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_VERIFIERS: Final = {name: get_default_algorithms()[name] for name in get_args(ALGORITHMS)}


class KeysUnusable(Exception):
    """The text is for the log."""


class NoUsableKeys(KeysUnusable):
    """A JWK set is well formed; it may be empty."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    kid: str | None
    algorithms: tuple[str, ...]
    public: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one issuer, and why others were ``ignored``."""

    keys: tuple[VerificationKey, ...]
    ignored: tuple[str, ...] = ()

    def find_candidates(self, token: UnverifiedToken) -> tuple[VerificationKey, ...]:
        """The keys that may have signed the token. Keys may share a `kid` (RFC 7517 §4.5)."""
        candidates = [
            key
            for key in self.keys
            if token.algorithm in key.algorithms and (token.kid is None or key.kid == token.kid)
        ]
        return tuple(candidates[:MAX_CANDIDATES])


def verify_signature(token: UnverifiedToken, key: VerificationKey) -> bool:
    """``key`` is a candidate for the token."""
    verifier: Any = _VERIFIERS[token.algorithm]
    try:
        return bool(verifier.verify(token.signed, key.public, token.signature))
    except (ValueError, UnsupportedAlgorithm):  # OpenSSL may load a key that it cannot use
        return False


def read_key_set(document: bytes) -> KeySet:
    """Raises KeysUnusable, or NoUsableKeys when no key of the set is usable."""
    try:
        # A file may begin with a byte order mark, and unknown members may hold numbers of any size.
        entries = strict_json.loads(document.removeprefix(codecs.BOM_UTF8), parse_float=float)["keys"]
    except ValueError as exc:
        raise KeysUnusable(f"is not JSON: {exc!s:.100}") from exc
    except (TypeError, KeyError) as exc:
        raise KeysUnusable("is not a JWK set: it has no `keys`") from exc
    if not isinstance(entries, list):
        raise KeysUnusable("is not a JWK set: `keys` is not a list")
    keys, ignored = [], []
    for index, entry in enumerate(entries):
        try:
            keys.append(_read_key(entry))
        except KeysUnusable as exc:
            ignored.append(f"keys[{index}] {exc}")
    if not keys:
        raise NoUsableKeys("; ".join(["has no usable key", *ignored]))
    return KeySet(tuple(keys), tuple(ignored))


def _read_key(entry: Any) -> VerificationKey:
    if not isinstance(entry, dict):
        raise KeysUnusable("is not an object")
    members = {name: value for name, value in entry.items() if value is not None}  # null means absent
    if "d" in members or "k" in members:
        raise KeysUnusable("is secret: anyone who can read it could sign")
    if members.get("use", "sig") != "sig" or not _may_verify(members.get("key_ops")):
        raise KeysUnusable("is not for signatures")
    kid = members.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise KeysUnusable("has a `kid` that is not a string")
    algorithms = _read_algorithms(members)
    try:
        public = jwt.PyJWK(members, algorithms[0]).key
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, OverflowError) as exc:
        raise KeysUnusable("is malformed, or of a kind this machine's OpenSSL lacks") from exc
    if isinstance(public, RSAPublicKey):
        _check_rsa(public)
    return VerificationKey(kid, algorithms, public)


def _check_rsa(key: RSAPublicKey) -> None:
    if key.key_size < MIN_RSA_BITS:
        raise KeysUnusable(f"is shorter than {MIN_RSA_BITS} bits")
    if key.key_size > MAX_RSA_BITS:
        raise KeysUnusable(f"is longer than {MAX_RSA_BITS} bits")
    if key.public_numbers().e.bit_length() > MAX_EXPONENT_BITS:
        raise KeysUnusable(f"has an exponent of more than {MAX_EXPONENT_BITS} bits")


def _read_algorithms(members: dict[str, Any]) -> tuple[str, ...]:
    kty = members.get("kty")
    kind = (kty, "" if kty == "RSA" else members.get("crv"))
    # Compared one by one: members of a JWK set need not be hashable.
    of_kind = next((algorithms for known, algorithms in _ALGORITHMS_BY_KIND.items() if known == kind), ())
    algorithms = tuple(name for name in of_kind if members.get("alg") in (None, name))
    if not algorithms:
        raise KeysUnusable("has a `kty`, `crv` or `alg` that is not accepted")
    return algorithms


def _may_verify(key_ops: Any) -> bool:
    return key_ops is None or (isinstance(key_ops, list) and "verify" in key_ops)
