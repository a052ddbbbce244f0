"""A throw-away issuer of JWTs for the sandbox, the demo and the tests. The gateway itself never signs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

from eksgateway.file_writer import replace_file
from eksgateway.settings import IssuerSettings


class ThrowawayIssuer:
    """Issues ES256 tokens. Its key exists in memory only."""

    issuer: Final = "https://sandbox.invalid"
    audience: Final = "eksgateway"

    def __init__(self, name: str = "sandbox") -> None:
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key()
        point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self._kid = sha256(point).hexdigest()[:16]
        jwk = ECAlgorithm.to_jwk(public, as_dict=True)
        self._jwk = jwk | {"kid": self._kid, "use": "sig", "alg": "ES256"}

    def write_jwks(self, path: Path) -> None:
        """Write the public key, atomically."""
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
        return IssuerSettings(
            name=self.name,
            issuer=self.issuer,
            audience=(self.audience,),
            jwks=str(jwks_path),
            algorithms=("ES256",),
        )
