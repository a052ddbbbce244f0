"""What a client certificate's leaf says of who calls, and what is refused in one."""

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
from eksgateway.model import Caller
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


def named(*names: str | x509.GeneralName) -> bytes:
    return CA.issue(
        replace(SVID, names=[uri(name) if isinstance(name, str) else name for name in names])
    ).certificate


def shaped(**changes: object) -> bytes:
    return CA.issue(replace(SVID, **changes)).certificate  # type: ignore[arg-type]  # rows of a table


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def der(certificate: bytes) -> bytes:
    return base64.b64decode(b"".join(certificate.splitlines()[1:-1]))


def names_twice() -> bytes:
    """A certificate with two subjectAltName extensions: one is made under the OID of another's."""
    other = x509.IssuerAlternativeName([uri("spiffe://corp.example/other")])
    return pem(der(shaped(others=[other])).replace(b"\x06\x03\x55\x1d\x12", b"\x06\x03\x55\x1d\x11"))


def names_broken() -> bytes:
    oid = x509.SubjectAlternativeName.oid
    return shaped(names=None, others=[x509.UnrecognizedExtension(oid, b"\x30\x05\x86\x09spi")])


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
    **{f"id: {name}": (named(text), "spiffe_id") for name, text in BAD_IDS.items()},
    "foreign trust domain": (named("spiffe://evil.example/ops/deploy"), "trust_domain"),
    "trust domain below ours": (named("spiffe://a.corp.example/ops"), "trust_domain"),
    "trust domain that begins as ours": (named("spiffe://corp.example.evil/ops"), "trust_domain"),
    "trust domain that ends as ours": (named("spiffe://evilcorp.example/ops"), "trust_domain"),
    "two URI names": (named(WORKLOAD, "spiffe://corp.example/other"), "uri"),
    "two URI names, one of another scheme": (named(WORKLOAD, "https://corp.example/"), "uri"),
    "one URI name twice": (named(WORKLOAD, WORKLOAD), "uri"),
    "DNS name that spells an ID": (named(x509.DNSName(WORKLOAD)), "uri"),
    "e-mail name that spells an ID": (named(x509.RFC822Name(WORKLOAD)), "uri"),
    "no URI name": (named(LOOPBACK), "uri"),
    "no names": (shaped(names=None), "uri"),
    "names twice": (names_twice(), "certificate"),
    "names broken": (names_broken(), "certificate"),
    "a CA": (shaped(ca=True, usage=("digital_signature", "key_cert_sign")), "leaf"),
    "a CA by its constraints alone": (shaped(ca=True), "leaf"),
    "may sign certificates": (shaped(usage=("digital_signature", "key_cert_sign")), "usage"),
    "may sign revocations": (shaped(usage=("digital_signature", "crl_sign")), "usage"),
    "may not sign": (shaped(usage=("key_encipherment",)), "usage"),
    "no key usage": (shaped(usage=None), "usage"),
    "for servers only": (shaped(extended=(SERVER,)), "usage"),
    "empty": (b"", "certificate"),
    "no PEM": (b"spiffe://corp.example/ops", "certificate"),
    "PEM of something else": (pem(b"\x30\x00"), "certificate"),
    "cut off": (pem(der(GOOD)[:-10]), "certificate"),
}


@pytest.fixture
def identity(clock: FakeClock) -> SpiffeIdentity:
    return SpiffeIdentity(DOMAIN, clock)


@pytest.mark.parametrize(("certificate", "check"), BAD.values(), ids=BAD)
async def test_a_bad_certificate_is_refused_by_the_check_meant_for_it(
    identity: SpiffeIdentity, certificate: bytes, check: str
) -> None:
    """By SPIFFE's rules and not a TLS library's; the refusal repeats nothing of what was sent."""
    for _ in range(2):
        with pytest.raises(CredentialsInvalid) as refused:
            await identity.identify((), certificate)
        assert refused.value.metadata == {"check": check}
        assert (refused.value.check, refused.value.issuer) == (check, DOMAIN)  # for the log
        assert not re.search(r"corp|evil|ops", refused.value.message + refused.value.detail)


async def test_a_caller_is_what_the_leaf_says(identity: SpiffeIdentity) -> None:
    """Its SPIFFE ID, in its trust domain, until it expires; without groups."""
    assert await identity.identify((), GOOD) == Caller(
        type="spiffe", id=WORKLOAD, issuer=DOMAIN, expires_at=NOW + timedelta(hours=1)
    )


TAKEN = {
    "DNS names beside the ID": named(x509.DNSName("deploy.corp.example"), WORKLOAD, LOOPBACK),
    "for clients only": shaped(extended=(CLIENT,)),
    "no extended usage": shaped(extended=None),
    "no basic constraints": shaped(ca=None),
    "more key usages": shaped(usage=("digital_signature", "key_encipherment", "key_agreement")),
    "every character": named("spiffe://corp.example/AZaz09.-_/.../..a/a.."),
    "2048 bytes": named("spiffe://corp.example/" + "a" * 2026),
}


@pytest.mark.parametrize("certificate", TAKEN.values(), ids=TAKEN)
async def test_every_legitimate_form_is_taken(identity: SpiffeIdentity, certificate: bytes) -> None:
    """Being strict does not turn away what the specification allows."""
    assert (await identity.identify((), certificate)).id.startswith("spiffe://corp.example/")


async def test_a_certificate_counts_until_it_expires(identity: SpiffeIdentity, clock: FakeClock) -> None:
    """Also one that was read before: connections outlive the handshake that looked at the clock."""
    await identity.identify((), GOOD)
    clock.jump(3599)
    await identity.identify((), GOOD)
    clock.jump(1)
    with pytest.raises(CredentialsExpired, match="connect") as refused:
        await identity.identify((), GOOD)
    assert (refused.value.check, refused.value.issuer) == ("exp", DOMAIN)  # for the log


async def test_without_a_certificate_nobody_is_known(identity: SpiffeIdentity) -> None:
    """Though the handshake demands one, it is not taken on trust that it did."""
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
def test_any_name_is_refused_or_spells_one_identity(text: str) -> None:
    """Taken apart by hand, what is taken has a scheme, a trust domain, whole segments, and nothing else."""
    try:
        svid = read_svid(named(text))
    except CredentialsInvalid:
        return
    scheme, nothing, domain, *segments = text.split("/")
    assert (svid.id, scheme, nothing, domain) == (text, "spiffe:", "", svid.trust_domain)
    assert domain
    assert set(domain) <= DOMAIN_SIGNS
    assert segments
    assert not {"", ".", ".."} & set(segments)
    assert all(set(segment) <= SEGMENT_SIGNS for segment in segments)


def changed(change: tuple[int, bytes]) -> bytes:
    at, new = change
    return pem(der(GOOD)[:at] + new + der(GOOD)[at + len(new) :])


CHANGES = st.tuples(st.integers(0, len(der(GOOD)) - 1), st.binary(min_size=1, max_size=3)).map(changed)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # will be errors
@given(CHANGES | st.binary(max_size=400) | st.binary(max_size=400).map(pem))
@settings(max_examples=600, deadline=None)
def test_any_bytes_are_read_or_refused(certificate: bytes) -> None:
    """A handshake lets no such thing through; and nothing but a refusal would come of it."""
    with suppress(CredentialsInvalid):
        assert isinstance(read_svid(certificate), Svid)


@pytest.fixture
def both(trust: Trust, corp: Idp, clock: FakeClock) -> TokenAndCertificateIdentity:
    return TokenAndCertificateIdentity(trust(corp), SpiffeIdentity(DOMAIN, clock))


async def test_with_both_the_token_is_the_caller_and_the_certificate_its_way(
    both: TokenAndCertificateIdentity, corp: Idp
) -> None:
    """And its rights end with whichever ends first."""
    long = corp.token(NOW, exp=int(NOW.timestamp()) + 7200)
    caller = await both.identify([f"Bearer {long}"], GOOD)
    assert (caller.type, caller.id, caller.via) == ("jwt", "jwt:corp:alice", WORKLOAD)
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
async def test_with_both_neither_stands_in_for_the_other(
    both: TokenAndCertificateIdentity,
    corp: Idp,
    authorization: list[str] | None,
    certificate: bytes | None,
    refusal: type[Unauthenticated],
) -> None:
    """A bad token never falls back to a good certificate, nor the other way round."""
    good = [f"Bearer {corp.token(NOW)}"]
    with pytest.raises(refusal):
        await both.identify(good if authorization is None else authorization, certificate)


async def test_where_a_token_is_demanded_a_certificate_plays_no_part(
    trust: Trust, corp: Idp, clock: FakeClock
) -> None:
    """Neither as a caller nor as a way."""
    identity = choose_identity(ListenerSettings(), trust(corp), clock)
    with pytest.raises(CredentialsMissing):
        await identity.identify([], GOOD)
    assert (await identity.identify([f"Bearer {corp.token(NOW)}"], GOOD)).via is None


def test_a_listener_never_serves_with_less_than_it_demands(clock: FakeClock) -> None:
    """Settings that were not checked end here, and not as an open door."""
    with pytest.raises(ValueError, match="jwt"):
        choose_identity(ListenerSettings(), None, clock)
