"""An issuer that signs any claims, and the parts of forged tokens."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm

from eksgateway.settings import IssuerSettings

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
Sign = Callable[[bytes], bytes]

_SHA256 = RSAAlgorithm.SHA256
SIGNERS: dict[str, Algorithm] = {
    "RS256": RSAAlgorithm(_SHA256),
    "PS256": RSAPSSAlgorithm(_SHA256),
    "ES256": ECAlgorithm(_SHA256),
    "EdDSA": OKPAlgorithm(),
}


@functools.cache
def rsa_key(label: str, bits: int = 2048) -> rsa.RSAPrivateKey:  # noqa: ARG001  the label is the cache's key
    """The RSA key of that label in this process. Creating one takes 0.1 s."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@functools.cache
def ec_key(label: str) -> ec.EllipticCurvePrivateKey:  # noqa: ARG001  the label is the cache's key
    """The P-256 key of that label in this process."""
    return ec.generate_private_key(ec.SECP256R1())


def jwk(key: PrivateKey, kid: str | None, **members: Any) -> dict[str, Any]:
    """The public JWK of a key, with members added."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        content = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        content = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        content = OKPAlgorithm.to_jwk(public, as_dict=True)
    return content | ({} if kid is None else {"kid": kid}) | members


def jwks(*keys: dict[str, Any]) -> bytes:
    """A JWK set."""
    return json.dumps({"keys": keys}).encode()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(header: Any, claims: Any, sign: Sign) -> str:
    """A compact JWS of any JSON values or bytes."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    signed = ".".join(b64(part) for part in parts)
    return f"{signed}.{b64(sign(signed.encode()))}"


def signer(key: PrivateKey, algorithm: str) -> Sign:
    """Signs with a private key."""
    return lambda content: SIGNERS[algorithm].sign(content, key)


def hmac_signer(secret: bytes) -> Sign:
    """Signs as HS256 does, with any bytes as the shared secret."""
    return lambda content: hmac.new(secret, content, hashlib.sha256).digest()


ABSENT = object()  # as a claim: leave it out


@dataclass(frozen=True)
class Idp:
    """An issuer with an RSA key (kid ``rsa``) and an EC key (kid ``ec``)."""

    name: str = "corp"
    issuer: str = "https://idp.corp.example"
    audience: str = "eksgateway"
    keys: dict[str, PrivateKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys.update(rsa=rsa_key(self.name), ec=ec_key(self.name))

    def jwks(self) -> bytes:
        return jwks(*(jwk(key, kid, use="sig") for kid, key in self.keys.items()))

    def settings(self, place: str | Path, **changes: Any) -> IssuerSettings:
        given = {"name": self.name, "issuer": self.issuer, "audience": self.audience, "jwks": str(place)}
        return IssuerSettings(**(given | changes))

    def claims(self, now: datetime, **changes: Any) -> dict[str, Any]:
        """Valid claims for an hour, changed by ``changes``. ABSENT leaves one out."""
        start = int(now.timestamp())
        good = {"iss": self.issuer, "aud": self.audience, "sub": "alice", "iat": start, "exp": start + 3600}
        return {name: value for name, value in (good | changes).items() if value is not ABSENT}

    def token(
        self, now: datetime, header: dict[str, Any] | None = None, kid: str = "rsa", **claims: Any
    ) -> str:
        """A valid token, with claims and header changed by ``claims`` and ``header``."""
        algorithm = "RS256" if isinstance(self.keys[kid], rsa.RSAPrivateKey) else "ES256"
        good = {"alg": algorithm, "kid": kid, "typ": "JWT"}
        changed = {name: value for name, value in (good | (header or {})).items() if value is not ABSENT}
        return compact(changed, self.claims(now, **claims), signer(self.keys[kid], algorithm))
