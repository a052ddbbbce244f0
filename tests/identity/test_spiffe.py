"""Authenticating by a client certificate."""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from eksgateway.errors import CredentialsExpired, CredentialsInvalid, CredentialsMissing, Unauthenticated
from eksgateway.identity.listener_identity import TokenAndCertificateIdentity, choose_identity
from eksgateway.identity.spiffe import SpiffeIdentity, Svid, read_svid
from eksgateway.model import Caller, Claim
from eksgateway.settings import ListenerSettings
from support.authority import CLIENT, LOOPBACK, SERVER, WORKLOAD, Authority, Shape, uri
from support.clock import FakeClock
from support.tokens import Idp

from .conftest import Trust

NOW = FakeClock().now()
CA = Authority(now=NOW)
SVID = Shape()
GOOD = CA.issue().certificate
DOMAIN = "corp.example"


def with_names(*names: str | x509.GeneralName) -> bytes:
    return CA.issue(
        replace(SVID, names=[uri(name) if isinstance(name, str) else name for name in names])
    ).certificate


def with_shape(**changes: object) -> bytes:
    return CA.issue(replace(SVID, **changes)).certificate  # type: ignore[arg-type]  # rows of a table


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def der(certificate: bytes) -> bytes:
    return base64.b64decode(b"".join(certificate.splitlines()[1:-1]))


def names_twice() -> bytes:
    """A certificate with two subjectAltName extensions, one created under another OID."""
    other = x509.IssuerAlternativeName([uri("spiffe://corp.example/other")])
    return pem(der(with_shape(others=[other])).replace(b"\x06\x03\x55\x1d\x12", b"\x06\x03\x55\x1d\x11"))


def names_broken() -> bytes:
    oid = x509.SubjectAlternativeName.oid
    return with_shape(names=None, others=[x509.UnrecognizedExtension(oid, b"\x30\x05\x86\x09spi")])


BAD_IDS = {
    "trust domain alone": "spiffe://corp.example",
    "no path": "spiffe://corp.example/",
    "trailing slash": "spiffe://corp.example/ops/",
    "empty segment": "spiffe://corp.example//ops",
    "empty segment inside": "spiffe://corp.example/a//b",
    "a dot": "spiffe://corp.example/./ops",
    "a dot at the end": "spiffe://corp.example/ops/.",
    "two dots": "spiffe://corp.example/ops/../root",
    "two dots at the end": "spiffe://corp.example/ops/..",
    "escaped letter": "spiffe://corp.example/%61",
    "escaped slash": "spiffe://corp.example/a%2Fb",
    "query": "spiffe://corp.example/ops?a=b",
    "empty query": "spiffe://corp.example/ops?",
    "fragment": "spiffe://corp.example/ops#a",
    "port": "spiffe://corp.example:443/ops",
    "empty port": "spiffe://corp.example:/ops",
    "user": "spiffe://corp.example@evil.example/ops",
    "user and password": "spiffe://a:b@corp.example/ops",
    "upper-case trust domain": "spiffe://Corp.example/ops",
    "upper-case scheme": "SPIFFE://corp.example/ops",
    "another scheme": "https://corp.example/ops",
    "a longer scheme": "xspiffe://corp.example/ops",
    "no scheme": "corp.example/ops",
    "one slash": "spiffe:/corp.example/ops",
    "no trust domain": "spiffe:///ops",
    "bracketed host": "spiffe://[::1]/ops",
    "trust domain too long": f"spiffe://{'a' * 256}/ops",
    "a star": "spiffe://corp.example/*",
    "a space": "spiffe://corp.example/a b",
    "a space before": " spiffe://corp.example/ops",
    "a newline after": "spiffe://corp.example/ops\n",
    "NUL": "spiffe://corp.example/ops\0root",
    "backslash": "spiffe://corp.example/a\\b",
    "semicolon": "spiffe://corp.example/a;b",
    "empty": "",
    "over 2048 bytes": "spiffe://corp.example/" + "a" * 2027,
}

BAD: dict[str, tuple[bytes, str]] = {
    **{f"id: {name}": (with_names(text), "spiffe_id") for name, text in BAD_IDS.items()},
    "foreign trust domain": (with_names("spiffe://evil.example/ops/deploy"), "trust_domain"),
    "trust domain below ours": (with_names("spiffe://a.corp.example/ops"), "trust_domain"),
    "trust domain that begins as ours": (with_names("spiffe://corp.example.evil/ops"), "trust_domain"),
    "trust domain that ends as ours": (with_names("spiffe://evilcorp.example/ops"), "trust_domain"),
    "two URI names": (with_names(WORKLOAD, "spiffe://corp.example/other"), "uri"),
    "two URI names, one of another scheme": (with_names(WORKLOAD, "https://corp.example/"), "uri"),
    "one URI name twice": (with_names(WORKLOAD, WORKLOAD), "uri"),
    "DNS name that spells an ID": (with_names(x509.DNSName(WORKLOAD)), "uri"),
    "e-mail name that spells an ID": (with_names(x509.RFC822Name(WORKLOAD)), "uri"),
    "no URI name": (with_names(LOOPBACK), "uri"),
    "no names": (with_shape(names=None), "uri"),
    "names twice": (names_twice(), "certificate"),
    "names broken": (names_broken(), "certificate"),
    "a CA": (with_shape(ca=True, usage=("digital_signature", "key_cert_sign")), "leaf"),
    "a CA by its constraints alone": (with_shape(ca=True), "leaf"),
    "may sign certificates": (with_shape(usage=("digital_signature", "key_cert_sign")), "usage"),
    "may sign revocations": (with_shape(usage=("digital_signature", "crl_sign")), "usage"),
    "may not sign": (with_shape(usage=("key_encipherment",)), "usage"),
    "no key usage": (with_shape(usage=None), "usage"),
    "for servers only": (with_shape(extended=(SERVER,)), "usage"),
    "empty": (b"", "certificate"),
    "no PEM": (b"spiffe://corp.example/ops", "certificate"),
    "PEM of something else": (pem(b"\x30\x00"), "certificate"),
    "cut off": (pem(der(GOOD)[:-10]), "certificate"),
}


@pytest.fixture
def identity(clock: FakeClock) -> SpiffeIdentity:
    return SpiffeIdentity(DOMAIN, clock)


@pytest.mark.parametrize(("certificate", "check"), BAD.values(), ids=BAD)
async def test_invalid_certificate_is_refused_by_the_intended_check(
    identity: SpiffeIdentity, certificate: bytes, check: str
) -> None:
    """By SPIFFE's rules, not a TLS library's. The refusal repeats no part of the certificate."""
    for _ in range(2):
        with pytest.raises(CredentialsInvalid) as refused:
            await identity.identify((), certificate)
        assert refused.value.metadata == {"check": check}
        assert (refused.value.check, refused.value.issuer) == (check, DOMAIN)  # for the log
        assert not re.search(r"corp|evil|ops", refused.value.message + refused.value.detail)


async def test_caller_comes_from_the_certificate(identity: SpiffeIdentity) -> None:
    """It has no groups."""
    assert await identity.identify((), GOOD) == Caller(
        type="spiffe", id=WORKLOAD, issuer=DOMAIN, expires_at=NOW + timedelta(hours=1)
    )


TAKEN = {
    "DNS names beside the ID": with_names(x509.DNSName("deploy.corp.example"), WORKLOAD, LOOPBACK),
    "for clients only": with_shape(extended=(CLIENT,)),
    "no extended usage": with_shape(extended=None),
    "no basic constraints": with_shape(ca=None),
    "more key usages": with_shape(usage=("digital_signature", "key_encipherment", "key_agreement")),
    "every character": with_names("spiffe://corp.example/AZaz09.-_/.../..a/a.."),
    "2048 bytes": with_names("spiffe://corp.example/" + "a" * 2026),
}


@pytest.mark.parametrize("certificate", TAKEN.values(), ids=TAKEN)
async def test_valid_forms_of_certificates_are_accepted(identity: SpiffeIdentity, certificate: bytes) -> None:
    assert (await identity.identify((), certificate)).id.startswith("spiffe://corp.example/")


async def test_expired_certificate_is_refused_even_if_cached(
    identity: SpiffeIdentity, clock: FakeClock
) -> None:
    """A connection may outlive its certificate."""
    await identity.identify((), GOOD)
    clock.jump(3599)
    await identity.identify((), GOOD)
    clock.jump(1)
    with pytest.raises(CredentialsExpired, match="connect") as refused:
        await identity.identify((), GOOD)
    assert (refused.value.check, refused.value.issuer) == ("exp", DOMAIN)  # for the log


async def test_missing_certificate_is_refused(identity: SpiffeIdentity) -> None:
    """Even though the handshake requires one."""
    with pytest.raises(CredentialsMissing, match="certificate"):
        await identity.identify(["Bearer a.b.c"], None)


ASCII = st.characters(min_codepoint=0, max_codepoint=127)
SIGNS = ["spiffe:", "//", "/", "corp.example", "a", "..", ".", "%61", "?", "#", ":1", "@", "A", "\n"]
PIECES = st.lists(st.sampled_from(SIGNS) | st.text(ASCII, max_size=3), max_size=8).map("".join)
TEXTS = st.text(ASCII, max_size=60) | PIECES | PIECES.map("spiffe://corp.example/".__add__)
DOMAIN_SIGNS = set("abcdefghijklmnopqrstuvwxyz0123456789.-_")
SEGMENT_SIGNS = DOMAIN_SIGNS | set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@given(TEXTS)
@settings(max_examples=400, deadline=None)
def test_any_name_is_refused_or_has_one_spelling(text: str) -> None:
    """An accepted ID consists of a scheme, a trust domain and non-empty segments."""
    try:
        svid = read_svid(with_names(text))
    except CredentialsInvalid:
        return
    scheme, nothing, domain, *segments = text.split("/")
    assert (svid.id, scheme, nothing, domain) == (text, "spiffe:", "", svid.trust_domain)
    assert domain
    assert set(domain) <= DOMAIN_SIGNS
    assert segments
    assert not {"", ".", ".."} & set(segments)
    assert all(set(segment) <= SEGMENT_SIGNS for segment in segments)


def change_bytes(change: tuple[int, bytes]) -> bytes:
    at, new = change
    return pem(der(GOOD)[:at] + new + der(GOOD)[at + len(new) :])


CHANGES = st.tuples(st.integers(0, len(der(GOOD)) - 1), st.binary(min_size=1, max_size=3)).map(change_bytes)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # will be errors
@given(CHANGES | st.binary(max_size=400) | st.binary(max_size=400).map(pem))
@settings(max_examples=600, deadline=None)
def test_any_bytes_give_an_svid_or_a_refusal(certificate: bytes) -> None:
    with suppress(CredentialsInvalid):
        assert isinstance(read_svid(certificate), Svid)


@pytest.fixture
def both(trust: Trust, corp: Idp, clock: FakeClock) -> TokenAndCertificateIdentity:
    return TokenAndCertificateIdentity(trust(corp, claims={"ref": "ref"}), SpiffeIdentity(DOMAIN, clock))


async def test_both_gives_the_tokens_caller_via_the_certificate(
    both: TokenAndCertificateIdentity, corp: Idp
) -> None:
    """The earlier expiry applies."""
    long = corp.token(NOW, exp=int(NOW.timestamp()) + 7200, ref="main")
    caller = await both.identify([f"Bearer {long}"], GOOD)
    assert (caller.type, caller.id, caller.via) == ("jwt", "jwt:corp:alice", WORKLOAD)
    assert caller.claims == (Claim("ref", ("main",)),)
    assert caller.expires_at == NOW + timedelta(hours=1)
    short = corp.token(NOW, exp=int(NOW.timestamp()) + 600)
    assert (await both.identify([f"Bearer {short}"], GOOD)).expires_at == NOW + timedelta(seconds=660)


LACKING: dict[str, tuple[list[str] | None, bytes | None, type[Unauthenticated]]] = {
    "no token": ([], GOOD, CredentialsMissing),
    "a bad token": (["Bearer a.b.c"], GOOD, CredentialsInvalid),
    "two tokens": (["Bearer a.b.c"] * 2, GOOD, CredentialsInvalid),
    "no certificate": (None, None, CredentialsMissing),
    "a foreign certificate": (None, BAD["foreign trust domain"][0], CredentialsInvalid),
}


@pytest.mark.parametrize(("authorization", "certificate", "refusal"), LACKING.values(), ids=LACKING)
async def test_both_requires_token_and_certificate(
    both: TokenAndCertificateIdentity,
    corp: Idp,
    authorization: list[str] | None,
    certificate: bytes | None,
    refusal: type[Unauthenticated],
) -> None:
    """Neither replaces the other."""
    good = [f"Bearer {corp.token(NOW)}"]
    with pytest.raises(refusal):
        await both.identify(good if authorization is None else authorization, certificate)


async def test_jwt_ignores_the_certificate(trust: Trust, corp: Idp, clock: FakeClock) -> None:
    identity = choose_identity(ListenerSettings(), trust(corp), clock)
    with pytest.raises(CredentialsMissing):
        await identity.identify([], GOOD)
    assert (await identity.identify([f"Bearer {corp.token(NOW)}"], GOOD)).via is None


def test_incomplete_settings_of_a_listener_are_an_error(clock: FakeClock) -> None:
    with pytest.raises(ValueError, match="jwt"):
        choose_identity(ListenerSettings(), None, clock)
