"""Authentication by tokens on the wire."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eksgateway.model import Decision
from eksgateway.policy.engine import Reloads
from eksgateway.policy.question import Question
from eksgateway.rpc.methods import METHODS, Access
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.gateway import RunningGateway, run_gateway
from support.jwks_server import JwksServer
from support.simulator import SimulatedEks
from support.tokens import ABSENT, Idp, compact, hmac_signer, jwk, rsa_key, signer
from support.wire import expect_refusal


class Recording:
    """A policy engine that allows everything and records its questions."""

    revision = "recording"

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.reloads = Reloads()

    async def revision_after(self, revision: str) -> str:
        if revision == self.revision:
            await asyncio.Event().wait()
        return self.revision

    def validity_of(self, question: Question) -> None: ...

    def next_change(self, now: datetime) -> None:
        pass

    def reload(self) -> None:
        pass

    async def decide(self, question: Question) -> Decision:
        self.questions.append(question)
        return Decision(question.decision_id, allowed=True)

    async def check(self) -> None:
        pass

    async def close(self) -> None:
        pass


IDP = Idp()
STRANGER = rsa_key("stranger")


@asynccontextmanager
async def run_trusting_gateway(
    path: Path, eks: SimulatedEks, jwks_at: str = ""
) -> AsyncIterator[tuple[RunningGateway, Recording]]:
    """Run a gateway that trusts IDP only. Yields it and its policy."""
    (path / "idp.json").write_bytes(IDP.jwks())
    issuer = IDP.settings(jwks_at or path / "idp.json").model_dump()
    policy = Recording()
    async with run_gateway(path, eks, policy=policy, identity={"jwt": {"issuers": [issuer]}}) as gateway:
        yield gateway, policy


async def get(gateway: RunningGateway, update_id: str, *metadata: tuple[str, str | bytes]) -> Any:
    """GetUpdate with this metadata."""
    request = pb.GetUpdateRequest(cluster=ClusterRef(name="prod-1"), update_id=update_id)
    return await gateway.updates.GetUpdate(request, metadata=metadata, timeout=20)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def now() -> datetime:
    return datetime.now(UTC)


def make_token(**changes: Any) -> str:
    return IDP.token(now(), **changes)


def later(seconds: int) -> int:
    return int(now().timestamp()) + seconds


def public_key_as_secret() -> str:
    """HS256, with the RSA public key as the shared secret."""
    pem = IDP.keys["rsa"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return compact({"alg": "HS256", "kid": "rsa", "typ": "JWT"}, IDP.claims(now()), hmac_signer(pem))


def make_unsigned_token() -> str:
    """`alg: none`, with bytes in place of the signature so that the form is valid."""
    return compact({"alg": "none"}, IDP.claims(now()), lambda _: b"x")


def make_stranger_token(**header: Any) -> str:
    """Valid claims, signed with an attacker's key."""
    return compact(
        {"alg": "RS256", "kid": "rsa", "typ": "JWT"} | header, IDP.claims(now()), signer(STRANGER, "RS256")
    )


def make_tampered_token() -> str:
    """Another subject under a valid signature."""
    header, _, signature = make_token().split(".")
    claims = json.dumps(IDP.claims(now(), sub="root")).encode()
    return ".".join([header, base64.urlsafe_b64encode(claims).rstrip(b"=").decode(), signature])


INVALID: dict[str, Callable[[], tuple[tuple[str, str], ...]]] = {
    "repeated": lambda: bearer(make_token()) * 2,
    "two different": lambda: bearer(make_token()) + bearer(make_token(sub="bob")),
    "empty": lambda: (("authorization", ""),),
    "another scheme": lambda: (("authorization", "Basic dXNlcjpwYXNz"),),
    "no scheme": lambda: (("authorization", make_token()),),
    "malformed": lambda: bearer("a.b"),
    "not base64url JSON": lambda: bearer("e30.!!!.e30"),
    "two in one value": lambda: (("authorization", f"Bearer {make_token()}, Bearer {make_token()}"),),
    "alg none": lambda: bearer(make_unsigned_token()),
    "alg none, no signature": lambda: bearer(make_unsigned_token().rpartition(".")[0] + "."),
    "HS256 with the public key": lambda: bearer(public_key_as_secret()),
    "alg not of the issuer": lambda: bearer(make_token(header={"alg": "RS512"})),
    "tampered claims": lambda: bearer(make_tampered_token()),
    "another key": lambda: bearer(make_stranger_token()),
    "wrong aud": lambda: bearer(make_token(aud="somebody-else")),
    "no aud": lambda: bearer(make_token(aud=ABSENT)),
    "wrong iss": lambda: bearer(make_token(iss="https://idp.corp.example/")),
    "no iss": lambda: bearer(make_token(iss=ABSENT)),
    "wrong typ": lambda: bearer(make_token(header={"typ": "dpop+jwt"})),
    "no exp": lambda: bearer(make_token(exp=ABSENT)),
    "nbf in the future": lambda: bearer(make_token(nbf=later(120))),
    "iat in the future": lambda: bearer(make_token(iat=later(120))),
    "crit": lambda: bearer(make_token(header={"crit": ["exp"]})),
    "kid unknown": lambda: bearer(make_token(header={"kid": "no-such-key"})),
    "kid a path": lambda: bearer(make_stranger_token(kid="../../../../dev/null")),
    "kid SQL": lambda: bearer(make_stranger_token(kid="rsa' OR '1'='1")),
    "kid a number": lambda: bearer(make_token(header={"kid": 7})),
    "jwk": lambda: bearer(make_stranger_token(jwk=jwk(STRANGER, "rsa"))),
    "no sub": lambda: bearer(make_token(sub=ABSENT)),
    "sub with a line break": lambda: bearer(make_token(sub="alice\nroot")),
}


async def expect_unauthenticated(gateway: RunningGateway, metadata: tuple[tuple[str, str], ...]) -> str:
    """The reason of the error, which does not repeat the token."""
    refusal = await expect_refusal(get(gateway, "u", *metadata))
    assert refusal.status == "UNAUTHENTICATED"
    for _, value in metadata:
        for part in filter(None, value.removeprefix("Bearer ").split(".")):
            assert len(part) < 4 or part not in repr((refusal.message, refusal.details))
    return refusal.reason


async def test_bad_token_is_refused_before_policy_and_eks(tmp_path: Path, eks: SimulatedEks) -> None:
    """UNAUTHENTICATED; a good token still works afterwards."""
    update_id = eks.rollback("prod-1")
    async with run_trusting_gateway(tmp_path, eks) as (gateway, policy):
        told = {name: await expect_unauthenticated(gateway, metadata()) for name, metadata in INVALID.items()}
        assert told == dict.fromkeys(INVALID, "CREDENTIALS_INVALID")
        assert await expect_unauthenticated(gateway, ()) == "CREDENTIALS_MISSING"
        expired = bearer(make_token(exp=later(-120)))
        assert await expect_unauthenticated(gateway, expired) == "CREDENTIALS_EXPIRED"
        assert policy.questions == []
        assert eks.calls() == ()
        assert (await get(gateway, update_id, *bearer(make_token()))).update.id == update_id


@pytest.mark.parametrize("header", ["jku", "x5u"])
async def test_key_url_in_a_token_is_never_fetched(tmp_path: Path, eks: SimulatedEks, header: str) -> None:
    async with JwksServer.running(json.dumps({"keys": [jwk(STRANGER, "rsa")]}).encode()) as theirs:
        async with run_trusting_gateway(tmp_path, eks) as (gateway, policy):
            token = make_stranger_token(**{header: theirs.url})
            assert await expect_unauthenticated(gateway, bearer(token)) == "CREDENTIALS_INVALID"
            assert policy.questions == []
        assert theirs.fetches == 0


async def test_call_without_keys_of_the_issuer_is_unavailable(tmp_path: Path, eks: SimulatedEks) -> None:
    """With a retry delay, and one fetch for many calls."""
    async with (
        JwksServer.running(b"") as issuer,
        run_trusting_gateway(tmp_path, eks, issuer.url) as (gateway, policy),
    ):
        for _ in range(3):
            refusal = await expect_refusal(get(gateway, "u", *bearer(make_token())))
            assert refusal.status_and_reason == ("UNAVAILABLE", "IDENTITY_UNAVAILABLE")
            assert refusal.retry_s is not None
        assert issuer.fetches == 1
        assert policy.questions == []


KEYS = st.from_regex(r"[a-z0-9_.-]{1,20}", fullmatch=True).filter(
    lambda key: key != "authorization" and not key.startswith("grpc-")
)
TEMPTING = st.sampled_from(
    [
        "x-forwarded-user",
        "x-user",
        "x-groups",
        "subject",
        "groups",
        "caller",
        "action",
        "decision-id",
        "x-amzn-oidc-data",
    ]
)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
PLAIN = st.tuples((KEYS | TEMPTING).map(lambda key: key.removesuffix("-bin")).filter(bool), VALUES)
BINARY = st.tuples(KEYS.map(lambda key: f"{key}-bin"), st.binary(max_size=40))


async def test_metadata_does_not_reach_the_policy(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id = eks.rollback("prod-1")
    async with run_trusting_gateway(tmp_path, eks) as (gateway, policy):
        token = bearer(make_token(groups=["viewers"]))

        async def ask(*metadata: tuple[str, str | bytes]) -> list[Any]:
            policy.questions.clear()
            await get(gateway, update_id, *token, *metadata)
            inputs = [question.to_input() for question in policy.questions]
            for each in inputs:
                each["context"] |= {"decision_id": "", "time": "", "seconds": 0}
                each["resource"]["properties"].get("update", {}).pop("age_s", None)
            return inputs

        plain = await ask()
        assert len(plain) == 2
        for metadata in examples(st.lists(PLAIN | BINARY, min_size=1, max_size=6), 60):
            assert await ask(*metadata) == plain


def examples(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """Values of a strategy. Hypothesis cannot run a test in a running event loop."""
    found: list[Any] = []

    @settings(max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    assert len(found) >= count
    return found


CLOSED = sorted(path for path, method in METHODS.items() if method.access in (Access.CALLER, Access.POLICY))


async def test_every_method_needs_credentials(gateway: RunningGateway) -> None:
    """An empty message is not parsed without them."""
    services = {"UpdateService": 7, "CancellationService": 2}
    assert {name: sum(f".{name}/" in path for path in CLOSED) for name in services} == services
    for path in CLOSED:
        method: Any = gateway.channel.unary_stream(path)
        stream = method(b"\xff", timeout=20)
        refusal = await expect_refusal(stream.read())
        assert refusal.status_and_reason == ("UNAUTHENTICATED", "CREDENTIALS_MISSING"), path
    assert gateway.eks.calls() == ()
