"""Any credentials give a caller or a refusal, never another error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eksgateway.errors import Unauthenticated
from eksgateway.identity.tokens import JwtIdentity
from eksgateway.model import Caller
from eksgateway.settings import JwtSettings
from support.clock import FakeClock
from support.tokens import Idp, compact, signer

NOW = FakeClock().now()
IDP = Idp()
SIGN = signer(IDP.keys["ec"], "ES256")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
headers = st.fixed_dictionaries(
    {"alg": st.just("ES256") | json_values, "kid": st.just("ec") | json_values},
    optional=dict.fromkeys(("typ", "crit", "b64", "jwk", "jku", "zip", "cty"), json_values),
)
claims = st.fixed_dictionaries(
    {},
    optional={
        name: st.just(good) | json_values
        for name, good in (IDP.claims(NOW) | {"nbf": 0, "groups": ["sre"], "jti": "1"}).items()
    },
)
anything = st.text() | st.binary()
bearer_of_anything = anything.map(
    lambda value: f"Bearer {value!r}" if isinstance(value, str) else b"Bearer " + value
)
segments = st.lists(st.text("abcXYZ019-_=", max_size=12), min_size=1, max_size=5).map(
    lambda parts: "Bearer " + ".".join(parts)
)
signed = st.builds(lambda header, body: "Bearer " + compact(header, body, SIGN), headers, claims)
signed_bytes = st.builds(
    lambda header, body: "Bearer " + compact(header, body, SIGN),
    st.binary() | st.just({"alg": "ES256", "kid": "ec"}),
    st.binary() | json_values.map(lambda value: json.dumps(value).encode()),
)
credentials = anything | bearer_of_anything | segments | signed | signed_bytes


@pytest.fixture(scope="module")
def jwks_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_bytes(IDP.jwks())
    return path


def identify(jwks_file: Path, authorization: Sequence[str | bytes]) -> Caller | Unauthenticated:
    async def once() -> Caller | Unauthenticated:
        identity = JwtIdentity(JwtSettings(issuers=(IDP.settings(jwks_file),)), FakeClock())
        try:
            assert identity.recall_caller_id(authorization) is None
            return await identity.identify(authorization)
        except Unauthenticated as refusal:
            return refusal
        finally:
            await identity.close()

    return asyncio.run(once())


@example(authorization=["Bearer \ud800.a.b"])
@given(authorization=st.lists(credentials, max_size=2) | credentials.map(lambda value: [value]))
@settings(max_examples=400, deadline=None)
def test_any_credentials_give_a_caller_or_a_refusal(jwks_file: Path, authorization: list[Any]) -> None:
    answer = identify(jwks_file, authorization)
    if isinstance(answer, Unauthenticated):
        assert answer.reason in {"CREDENTIALS_MISSING", "CREDENTIALS_INVALID", "CREDENTIALS_EXPIRED"}
    else:
        assert answer.id.startswith("jwt:corp:")
        assert answer.id.isprintable()
