"""Authenticating by a token, with real keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from eksgateway.errors import CredentialsExpired, CredentialsInvalid, CredentialsMissing
from eksgateway.model import Caller
from support.clock import FakeClock
from support.tokens import ABSENT, Idp, b64, compact, ec_key, hmac_signer, jwk, rsa_key, signer

from .conftest import Trust

NOW = FakeClock().now()
FAR = int((NOW + timedelta(days=365)).timestamp())
PEM = rsa_key("corp").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
JWK = json.dumps(jwk(rsa_key("corp"), "rsa")).encode()
ATTACKER = rsa_key("attacker")

Forge = Callable[[Idp], Sequence[str | bytes]]


def tamper(idp: Idp) -> str:
    """Claims changed after signing."""
    header, _, signature = idp.token(NOW).split(".")
    return f"{header}.{b64(json.dumps(idp.claims(NOW, sub='root')).encode())}.{signature}"


def add_stray_bits(token: str) -> str:
    """The same signature, with bits set that base64url ignores: 256 bytes end in a character with four."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) | 1]


def header(**changes: Any) -> Forge:
    """Correctly signed, with another header."""
    return lambda idp: ["Bearer " + idp.token(NOW, changes)]


def claims(**changes: Any) -> Forge:
    """Correctly signed, with other claims."""
    return lambda idp: ["Bearer " + idp.token(NOW, **changes)]


def by_attacker(**changes: Any) -> Forge:
    """Signed by a key that the issuer does not have."""
    return lambda idp: [
        "Bearer "
        + compact({"alg": "RS256", "kid": "rsa"} | changes, idp.claims(NOW), signer(ATTACKER, "RS256"))
    ]


def raw(header: Any, claims: Any) -> Forge:
    """Correctly signed, over any bytes."""
    return lambda idp: ["Bearer " + compact(header, claims, signer(idp.keys["rsa"], "RS256"))]


def with_secret(secret: bytes) -> Forge:
    """HS256 with a public value as the secret."""
    return lambda idp: [
        "Bearer " + compact({"alg": "HS256", "kid": "rsa"}, idp.claims(NOW), hmac_signer(secret))
    ]


def unsign(algorithm: str, signature: str) -> Forge:
    return lambda idp: [
        "Bearer "
        + compact({"alg": algorithm, "kid": "rsa"}, idp.claims(NOW), lambda _: b"").removesuffix(".")
        + signature
    ]


GOOD = {"alg": "RS256", "kid": "rsa"}

BAD: list[tuple[str, Forge, str]] = [
    # The value
    ("empty value", lambda _: [""], "form"),
    ("two values", lambda idp: ["Bearer " + idp.token(NOW)] * 2, "form"),
    ("another scheme", lambda _: ["Basic YWxpY2U6c2VjcmV0"], "form"),
    ("no scheme", lambda idp: [idp.token(NOW)], "form"),
    ("two spaces", lambda idp: ["Bearer  " + idp.token(NOW)], "form"),
    ("trailing newline", lambda idp: ["Bearer " + idp.token(NOW) + "\n"], "form"),
    ("two in one value", lambda idp: [f"Bearer {idp.token(NOW)}, Bearer {idp.token(NOW)}"], "form"),
    ("bytes that are not ASCII", lambda _: [b"Bearer \xff.\xff.\xff"], "form"),
    ("two parts", lambda idp: ["Bearer " + idp.token(NOW).rpartition(".")[0]], "form"),
    ("five parts", lambda idp: ["Bearer " + idp.token(NOW) + ".a.b"], "form"),
    ("padding", lambda idp: ["Bearer " + idp.token(NOW) + "=="], "form"),
    ("stray bits", lambda idp: ["Bearer " + add_stray_bits(idp.token(NOW))], "form"),
    # The encoding
    ("header is no JSON", raw(b"{", {}), "form"),
    ("header is a list", raw([], {}), "form"),
    ("header repeats a name", raw(b'{"alg":"RS256","alg":"RS256","kid":"rsa"}', {}), "form"),
    ("claims are no JSON", raw(GOOD, b"\xff"), "form"),
    ("claims are a string", raw(GOOD, "alice"), "form"),
    ("claims repeat a name", raw(GOOD, b'{"sub":"alice","sub":"root"}'), "form"),
    ("claims hold NaN", raw(GOOD, b'{"exp":NaN}'), "form"),
    ("claims nest too deep", raw(GOOD, b"[" * 10_000), "form"),
    # The header
    ("alg none, no signature", unsign("none", "."), "form"),
    *((f"alg {none}", unsign(none, ".AAAA"), "alg") for none in ("none", "None", "NONE", "nOnE", "")),
    ("alg absent", header(alg=ABSENT), "alg"),
    ("alg is a list", header(alg=["RS256"]), "alg"),
    ("HS256 with the public key as PEM", with_secret(PEM), "alg"),
    ("HS256 with the public key as JWK", with_secret(JWK), "alg"),
    ("alg not in the issuer's list", header(alg="RS512"), "alg"),
    ("ES256 naming an RSA key", header(alg="ES256"), "kid"),
    ("RS256 naming an EC key", header(kid="ec"), "kid"),
    ("ES256 signature called RS256", lambda i: ["Bearer " + i.token(NOW, {"alg": "RS256"}, kid="ec")], "kid"),
    ("typ of something else", header(typ="logout+jwt"), "typ"),
    ("typ is no string", header(typ=1), "typ"),
    ("unknown crit", header(crit=["urn:example:must"]), "crit"),
    ("crit with b64", header(crit=["b64"], b64=True), "crit"),
    ("empty crit", header(crit=[]), "crit"),
    ("unencoded payload", header(b64=False), "signature"),
    ("kid is a path", header(kid="../../../../dev/null"), "kid"),
    ("kid is SQL", header(kid="' OR 1=1 --"), "kid"),
    ("kid is long", header(kid="k" * 8000), "kid"),
    ("kid is empty", header(kid=""), "kid"),
    ("kid is a number", header(kid=1), "kid"),
    ("kid is a list", header(kid=["rsa"]), "kid"),
    # The signature
    ("claims changed after signing", lambda idp: ["Bearer " + tamper(idp)], "signature"),
    ("signed by an attacker", by_attacker(), "signature"),
    ("embedded jwk of the attacker", by_attacker(jwk=jwk(ATTACKER, "rsa")), "signature"),
    ("embedded jwk, own kid", by_attacker(kid="mine", jwk=jwk(ATTACKER, "mine")), "kid"),
    ("embedded x5c", by_attacker(x5c=["MIIB"]), "signature"),
    ("EC signature of zeros", lambda i: ["Bearer " + compact(
        {"alg": "ES256", "kid": "ec"}, i.claims(NOW), lambda _: bytes(64))], "signature"),
    ("EC key of an attacker", lambda i: ["Bearer " + compact(
        {"alg": "ES256", "kid": "ec"}, i.claims(NOW), signer(ec_key("attacker"), "ES256"))], "signature"),
    # The claims
    ("iss absent", claims(iss=ABSENT), "iss"),
    ("iss unknown", claims(iss="https://idp.evil.example"), "iss"),
    ("iss with a slash more", claims(iss="https://idp.corp.example/"), "iss"),
    ("iss in capitals", claims(iss="HTTPS://IDP.CORP.EXAMPLE"), "iss"),
    ("iss is a list", claims(iss=["https://idp.corp.example"]), "iss"),
    ("aud absent", claims(aud=ABSENT), "aud"),
    ("aud of another", claims(aud="billing"), "aud"),
    ("aud as a part", claims(aud="eksgateway-staging"), "aud"),
    ("aud list without ours", claims(aud=["billing", "EKSGATEWAY"]), "aud"),
    ("aud is an object", claims(aud={"eksgateway": True}), "aud"),
    ("sub absent", claims(sub=ABSENT), "sub"),
    ("sub empty", claims(sub=""), "sub"),
    ("sub is a number", claims(sub=7), "sub"),
    ("sub too long", claims(sub="s" * 1025), "sub"),
    ("sub with a no-break space", claims(sub="alice\u00a0b"), "sub"),
    ("sub with a newline", claims(sub="alice\nroot"), "sub"),
    ("sub with an escape code", claims(sub="\x1b[31malice"), "sub"),
    ("sub with half a surrogate pair", claims(sub="\ud800"), "sub"),
    ("sub with a bidirectional mark", claims(sub="alice\u202e"), "sub"),
    ("exp absent", claims(exp=ABSENT), "exp"),
    ("exp is text", claims(exp=str(FAR)), "exp"),
    ("exp is true", claims(exp=True), "exp"),
    ("exp after the year 9999", claims(exp=10**300), "exp"),
    ("exp is infinite", raw(GOOD, json.dumps(Idp().claims(NOW, exp=0))[:-2].encode() + b"1e999}"), "exp"),
    ("exp is null", claims(exp=None), "exp"),
    ("nbf in the future", claims(nbf=int(NOW.timestamp()) + 61), "nbf"),
    ("iat in the future", claims(iat=int(NOW.timestamp()) + 61), "nbf"),
    ("nbf is text", claims(nbf="now"), "nbf"),
]  # fmt: skip


@pytest.mark.parametrize(("forge", "check"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_invalid_credentials_are_refused_by_the_intended_check(
    trust: Trust, corp: Idp, forge: Forge, check: str
) -> None:
    authorization = forge(corp)
    with pytest.raises(CredentialsInvalid) as refused:
        await trust(corp).identify(authorization)
    assert refused.value.metadata == {"check": check}


@pytest.mark.parametrize("forge", [row[1] for row in BAD], ids=[row[0] for row in BAD])
async def test_refusals_repeat_no_part_of_the_token(trust: Trust, corp: Idp, forge: Forge) -> None:
    authorization = forge(corp)
    with pytest.raises(CredentialsInvalid) as refused:
        await trust(corp).identify(authorization)
    sent_back = refused.value.message + json.dumps(refused.value.metadata) + refused.value.detail
    for value in authorization:
        text = value if isinstance(value, str) else value.decode("latin-1")
        assert not [part for part in text.replace(".", " ").split() if len(part) > 6 and part in sent_back]


async def test_missing_credentials_are_refused_with_instructions(trust: Trust, corp: Idp) -> None:
    with pytest.raises(CredentialsMissing, match="Bearer"):
        await trust(corp).identify([])


async def test_caller_comes_from_the_verified_claims(trust: Trust, corp: Idp) -> None:
    """Id and groups have the issuer's short name as prefix. The expiry includes the leeway."""
    token = corp.token(NOW, groups=["platform", "sre", "platform"])
    assert await trust(corp).identify([f"Bearer {token}"]) == Caller(
        type="jwt",
        id="jwt:corp:alice",
        issuer="https://idp.corp.example",
        groups=("corp:platform", "corp:sre"),
        expires_at=NOW + timedelta(hours=1, seconds=60),
    )


GOOD_FORMS: list[tuple[str, Forge]] = [
    ("RSA", header()),
    ("EC", lambda idp: ["Bearer " + idp.token(NOW, kid="ec")]),
    ("bytes", lambda idp: [b"Bearer " + idp.token(NOW).encode()]),
    ("lower-case scheme", lambda idp: ["bearer " + idp.token(NOW)]),
    ("no typ", header(typ=ABSENT)),
    ("typ in lower case", header(typ="jwt")),
    ("access token", header(typ="at+jwt")),
    ("access token, spelt out", header(typ="application/AT+JWT")),
    ("any compact JWS", header(typ="JOSE")),
    ("any compact JWS, spelt out", header(typ="application/jose")),
    ("typ is null", header(typ=None)),
    ("kid is null", header(kid=None)),
    ("aud in a list", claims(aud=["billing", "eksgateway"])),
    ("keys in the header, not used", header(jku="http://127.0.0.1:9/", x5u="http://127.0.0.1:9/", jwk={})),
    ("expired within the leeway", claims(exp=int(NOW.timestamp()) - 59)),
    ("nbf within the leeway", claims(nbf=int(NOW.timestamp()) + 60)),
    ("fractions of a second", claims(exp=FAR + 0.5)),
    ("no iat", claims(iat=ABSENT)),
    ("subject of 330 characters", claims(sub="alice" + "e" * 325)),
    ("longest subject", claims(sub="alice" + "e" * 1019)),
    ("250 groups, 14 KB", claims(groups=[f"{n:08x}-6b0e-4f5e-9d5c-2f9a3c1e7b10" for n in range(250)])),
    ("30 KB", claims(note="x" * 22_000)),
]


@pytest.mark.parametrize("forge", [row[1] for row in GOOD_FORMS], ids=[row[0] for row in GOOD_FORMS])
async def test_valid_forms_of_tokens_are_accepted(trust: Trust, corp: Idp, forge: Forge) -> None:
    caller = await trust(corp).identify(forge(corp))
    assert caller.id.startswith("jwt:corp:alice")


async def test_token_without_kid_is_verified_with_the_only_candidate(trust: Trust, corp: Idp) -> None:
    caller = await trust(corp).identify(["Bearer " + corp.token(NOW, {"kid": ABSENT})])
    assert caller.id == "jwt:corp:alice"


async def test_algorithm_must_be_in_the_issuers_settings(trust: Trust, corp: Idp) -> None:
    """An RSA key verifies PS256 only if the settings have it."""
    token = compact({"alg": "PS256", "kid": "rsa"}, corp.claims(NOW), signer(corp.keys["rsa"], "PS256"))
    assert await trust(corp, algorithms=["PS256"]).identify([f"Bearer {token}"])
    with pytest.raises(CredentialsInvalid):
        await trust(corp).identify([f"Bearer {token}"])


async def test_issuers_never_share_a_caller_or_a_group(trust: Trust, corp: Idp, partner: Idp) -> None:
    """The same subject and group of two issuers are two callers and two groups."""
    identity = trust(corp, partner)
    ours, theirs = [
        await identity.identify(["Bearer " + idp.token(NOW, sub="bot", groups=["sre"])])
        for idp in (corp, partner)
    ]
    assert (ours.id, theirs.id) == ("jwt:corp:bot", "jwt:partner:bot")
    assert (ours.groups, theirs.groups) == (("corp:sre",), ("partner:sre",))


async def test_issuer_cannot_sign_for_another(trust: Trust, corp: Idp, partner: Idp) -> None:
    """A token is verified with the keys of the issuer in its `iss`."""
    with pytest.raises(CredentialsInvalid) as refused:
        await trust(corp, partner).identify(["Bearer " + partner.token(NOW, iss=corp.issuer)])
    assert refused.value.metadata == {"check": "signature"}


async def test_expired_token_is_refused_even_if_remembered(trust: Trust, corp: Idp, clock: FakeClock) -> None:
    """A token expires after its leeway, by the wall clock."""
    identity, authorization = trust(corp), ["Bearer " + corp.token(NOW, exp=int(NOW.timestamp()) + 10)]
    await identity.identify(authorization)
    clock.jump(69)
    await identity.identify(authorization)
    clock.jump(1)
    for _ in range(2):
        with pytest.raises(CredentialsExpired):
            await identity.identify(authorization)


async def test_clock_set_back_makes_a_remembered_token_not_yet_valid(
    trust: Trust, corp: Idp, clock: FakeClock
) -> None:
    identity, authorization = trust(corp), ["Bearer " + corp.token(NOW)]
    await identity.identify(authorization)
    clock.jump(-61)
    with pytest.raises(CredentialsInvalid) as refused:
        await identity.identify(authorization)
    assert refused.value.metadata == {"check": "nbf"}


async def test_leeway_is_a_setting(trust: Trust, corp: Idp) -> None:
    identity = trust(corp, jwt={"leeway_s": 0})
    caller = await identity.identify(["Bearer " + corp.token(NOW, exp=FAR)])
    assert caller.expires_at == datetime.fromtimestamp(FAR, UTC)
    with pytest.raises(CredentialsExpired):
        await identity.identify(["Bearer " + corp.token(NOW, exp=int(NOW.timestamp()))])
