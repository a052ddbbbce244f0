"""An issuer's public keys, read from a JWK set (RFC 7517). Getting and keeping them is `jwks`'s part."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, get_args

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from eksgateway.identity.compact import Compact
from eksgateway.identity.refusal import invalid
from eksgateway.settings import ALGORITHMS

MIN_RSA_BITS = 2048

# What a key of each kind may verify: never the token's choice alone (RFC 8725 §3.1). Symmetric
# keys (`oct`) have no row, so no algorithm that shares a secret can ever be reached.
_ALGORITHMS_OF: dict[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_JWS = jwt.PyJWS(algorithms=get_args(ALGORITHMS))


class KeysUnusable(Exception):
    """What an issuer published cannot be used; the text is for the log."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key, and the algorithms it may verify."""

    kid: str | None
    algorithms: tuple[str, ...]
    public: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one issuer; ``ignored`` tells why others are not among them."""

    keys: tuple[VerificationKey, ...]
    ignored: tuple[str, ...] = ()

    def knows(self, kid: str) -> bool:
        return any(key.kid == kid for key in self.keys)

    def find(self, token: Compact) -> VerificationKey:
        """The key the token names; a token that names none is taken only if there is no choice."""
        fitting = [
            key
            for key in self.keys
            if token.algorithm in key.algorithms and (token.kid is None or key.kid == token.kid)
        ]
        if not fitting or (token.kid is None and len(fitting) > 1):
            raise invalid("kid", "The token's issuer has no key that fits the token's `kid` and `alg`.")
        return fitting[0]


def check_signature(token: Compact, key: VerificationKey) -> None:
    """Raise CredentialsInvalid unless this key signed the token."""
    try:
        _JWS.decode(token.text, key.public, algorithms=[token.algorithm])
    except jwt.PyJWTError as exc:
        raise invalid("signature", "The token's signature does not verify.") from exc


def read_key_set(document: bytes) -> KeySet:
    """The usable keys in a JWK set. Raises KeysUnusable when there is none."""
    try:
        entries = json.loads(document)["keys"]
    except (ValueError, RecursionError, TypeError, KeyError) as exc:
        raise KeysUnusable("is not a JWK set") from exc
    if not isinstance(entries, list):
        raise KeysUnusable("is not a JWK set: `keys` is not a list")
    keys, ignored = [], []
    for place, entry in enumerate(entries):
        try:
            keys.append(_read_key(entry))
        except KeysUnusable as exc:
            ignored.append(f"keys[{place}] {exc}")
    if not keys:
        raise KeysUnusable("; ".join(["has no usable key", *ignored]))
    return KeySet(tuple(keys), tuple(ignored))


def _read_key(entry: Any) -> VerificationKey:
    if not isinstance(entry, dict):
        raise KeysUnusable("is not an object")
    if "d" in entry or "k" in entry:
        raise KeysUnusable("is secret: whoever can read it could sign")
    if entry.get("use", "sig") != "sig" or not _may_verify(entry.get("key_ops")):
        raise KeysUnusable("is not for signatures")
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise KeysUnusable("has a `kid` that is not a string")
    algorithms = _algorithms(entry)
    try:
        public = jwt.PyJWK(entry, algorithms[0]).key
    except (jwt.PyJWTError, UnsupportedAlgorithm) as exc:
        raise KeysUnusable("is malformed, or of a kind this machine's OpenSSL lacks") from exc
    if isinstance(public, RSAPublicKey) and public.key_size < MIN_RSA_BITS:
        raise KeysUnusable(f"is shorter than {MIN_RSA_BITS} bits")
    return VerificationKey(kid, algorithms, public)


def _algorithms(entry: dict[str, Any]) -> tuple[str, ...]:
    kind = (entry.get("kty"), entry.get("crv", ""))
    family = next((algorithms for known, algorithms in _ALGORITHMS_OF.items() if known == kind), ())
    named = entry.get("alg")
    algorithms = tuple(algorithm for algorithm in family if named in (None, algorithm))
    if not algorithms:
        raise KeysUnusable("has a `kty`, `crv` or `alg` that is not accepted")
    return algorithms


def _may_verify(key_ops: Any) -> bool:
    return key_ops is None or (isinstance(key_ops, list) and "verify" in key_ops)
