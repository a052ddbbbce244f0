"""Two issuers with real keys and JWK sets in files, and an identity that trusts both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from eksgateway.identity.tokens import JwtIdentity
from eksgateway.settings import JwtSettings
from support.clock import FakeClock
from support.tokens import Idp


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def corp() -> Idp:
    return Idp()


@pytest.fixture
def partner() -> Idp:
    return Idp(name="partner", issuer="https://idp.partner.example")


Trust = Callable[..., JwtIdentity]


@pytest.fixture
async def trust(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Trust]:
    """Makes an identity that trusts issuers whose JWK sets are in files."""
    made: list[JwtIdentity] = []

    def make(
        *idps: Idp,
        jwt: dict[str, Any] | None = None,
        count: Callable[[str, str, int], None] = lambda *_: None,
        count_claims: Callable[[str, str, int], None] = lambda *_: None,
        **changes: Any,
    ) -> JwtIdentity:
        issuers = []
        for idp in idps:
            path = tmp_path / f"{idp.name}.json"
            path.write_bytes(idp.jwks())
            issuers.append(idp.settings(path, **changes))
        settings = JwtSettings(issuers=tuple(issuers), **(jwt or {}))
        made.append(JwtIdentity(settings, clock, count_groups=count, count_claims=count_claims))
        return made[-1]

    yield make
    for identity in made:
        await identity.close()
