"""An issuer's public keys, read from a JWK set (RFC 7517). Getting and keeping them is `jwks`'s part."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Any, Final, get_args

import cryptography.hazmat.backends.openssl.backend  # noqa: F401  or the first check loads it, on the event loop
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import get_default_algorithms

from eksgateway import strict_json
from eksgateway.identity.compact import Compact
from eksgateway.settings import ALGORITHMS

MIN_RSA_BITS: Final = 2048
# A key beyond these takes over a millisecond for one signature, on the event loop.
MAX_RSA_BITS: Final = 8192
MAX_EXPONENT_BITS: Final = 64
MOST_TRIED: Final = 8  # keys that a token is tried with; an issuer that names its keys has one that fits

# What a key of each kind may verify: never the token's choice alone (RFC 8725 §3.1). Symmetric
# keys (`oct`) have no row, so no algorithm that shares a secret can ever be reached.
_ALGORITHMS_OF: dict[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_VERIFIERS: Final = {name: get_default_algorithms()[name] for name in get_args(ALGORITHMS)}


class KeysUnusable(Exception):
    """What an issuer published cannot be used; the text is for the log."""


class NoUsableKeys(KeysUnusable):
    """A JWK set in which no key can be used; perhaps it is empty."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key, and the algorithms it may verify."""

    kid: str | None
    algorithms: tuple[str, ...]
    public: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one issuer; ``ignored`` is why others are not among them."""

    keys: tuple[VerificationKey, ...]
    ignored: tuple[str, ...] = ()

    def fitting(self, token: Compact) -> tuple[VerificationKey, ...]:
        """The keys that may have signed the token: those with its `kid`, or all if it names none, that may
        verify its `alg`; MOST_TRIED at most. A `kid` need not be unique (RFC 7517 §4.5).
        """
        fitting = [
            key
            for key in self.keys
            if token.algorithm in key.algorithms and (token.kid is None or key.kid == token.kid)
        ]
        return tuple(fitting[:MOST_TRIED])


def verifies(token: Compact, key: VerificationKey) -> bool:
    """Whether this key signed the token. The key's own algorithms have been compared before."""
    verifier: Any = _VERIFIERS[token.algorithm]
    try:
        return bool(verifier.verify(token.signed, key.public, token.signature))
    except (ValueError, UnsupportedAlgorithm):  # a key that this machine's OpenSSL can load and not use
        return False


def read_key_set(document: bytes) -> KeySet:
    """The usable keys in a JWK set. Raises KeysUnusable, or NoUsableKeys when there is none."""
    try:
        # A file may begin with a byte order mark, and an unknown member have any number.
        entries = strict_json.loads(document.removeprefix(codecs.BOM_UTF8), parse_float=float)["keys"]
    except ValueError as exc:
        raise KeysUnusable(f"is not JSON: {exc!s:.100}") from exc
    except (TypeError, KeyError) as exc:
        raise KeysUnusable("is not a JWK set: it has no `keys`") from exc
    if not isinstance(entries, list):
        raise KeysUnusable("is not a JWK set: `keys` is not a list")
    keys, ignored = [], []
    for place, entry in enumerate(entries):
        try:
            keys.append(_read_key(entry))
        except KeysUnusable as exc:
            ignored.append(f"keys[{place}] {exc}")
    if not keys:
        raise NoUsableKeys("; ".join(["has no usable key", *ignored]))
    return KeySet(tuple(keys), tuple(ignored))


def _read_key(entry: Any) -> VerificationKey:
    if not isinstance(entry, dict):
        raise KeysUnusable("is not an object")
    members = {name: value for name, value in entry.items() if value is not None}  # null is absent
    if "d" in members or "k" in members:
        raise KeysUnusable("is secret: whoever can read it could sign")
    if members.get("use", "sig") != "sig" or not _may_verify(members.get("key_ops")):
        raise KeysUnusable("is not for signatures")
    kid = members.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise KeysUnusable("has a `kid` that is not a string")
    algorithms = _algorithms(members)
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


def _algorithms(members: dict[str, Any]) -> tuple[str, ...]:
    kty = members.get("kty")
    kind = (kty, "" if kty == "RSA" else members.get("crv"))
    family = next((algorithms for known, algorithms in _ALGORITHMS_OF.items() if known == kind), ())
    named = members.get("alg")
    algorithms = tuple(algorithm for algorithm in family if named in (None, algorithm))
    if not algorithms:
        raise KeysUnusable("has a `kty`, `crv` or `alg` that is not accepted")
    return algorithms


def _may_verify(key_ops: Any) -> bool:
    return key_ops is None or (isinstance(key_ops, list) and "verify" in key_ops)
