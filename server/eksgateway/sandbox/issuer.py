"""A throw-away issuer of JWTs for the sandbox, the demo and the tests. The gateway itself never signs.

Its key exists in memory only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

from eksgateway.sandbox.files import replace_file
from eksgateway.settings import IssuerSettings


class ThrowawayIssuer:
    """Issues ES256 tokens for one audience, and the settings with which a gateway verifies them."""

    def __init__(
        self,
        name: str = "sandbox",
        issuer: str = "https://sandbox.invalid",
        audience: str = "eksgateway",
    ) -> None:
        self.name = name
        self.issuer = issuer
        self.audience = audience
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key()
        point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self._kid = sha256(point).hexdigest()[:16]
        self._jwk = {
            **ECAlgorithm.to_jwk(public, as_dict=True),
            "kid": self._kid,
            "use": "sig",
            "alg": "ES256",
        }

    def write_jwks(self, path: Path) -> None:
        """Write the public key as a JWK set, atomically."""
        replace_file(path, json.dumps({"keys": [self._jwk]}, indent=2).encode(), mode=0o644)

    def token(
        self,
        subject: str,
        groups: Iterable[str] = (),
        lifetime: timedelta = timedelta(hours=12),
        now: datetime | None = None,
        **claims: Any,
    ) -> str:
        """A signed token. ``claims`` are added, and replace the ones that are set here."""
        start = now or datetime.now(UTC)
        content = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": subject,
            "groups": list(groups),
            "iat": int(start.timestamp()),
            "exp": int((start + lifetime).timestamp()),
        }
        return jwt.encode(content | claims, self._key, algorithm="ES256", headers={"kid": self._kid})

    def settings(self, jwks_path: Path) -> IssuerSettings:
        """The settings of a gateway that trusts this issuer."""
        return IssuerSettings(
            name=self.name,
            issuer=self.issuer,
            audience=(self.audience,),
            jwks=str(jwks_path),
            algorithms=("ES256",),
        )
