"""Reading a JWK set, and ignoring unusable keys in it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from eksgateway.identity.jwk_set import MAX_CANDIDATES, KeysUnusable, read_key_set, verify_signature
from eksgateway.identity.jwt_parser import parse_jwt
from support.tokens import PrivateKey, b64, compact, ec_key, jwk, jwks, rsa_key, signer

GOOD = jwk(ec_key("good"), "good")
RSA = jwk(rsa_key("corp"), "rsa")

IGNORED: list[tuple[str, Any, str]] = [
    ("no object", "key", "not an object"),
    ("no kty", {"kid": "x"}, "not accepted"),
    ("kty is a list", RSA | {"kty": ["RSA"]}, "not accepted"),
    ("unknown kty", RSA | {"kty": "AKP"}, "not accepted"),
    ("symmetric", {"kty": "oct", "kid": "x", "k": b64(b"secret" * 8), "alg": "HS256"}, "secret"),
    ("private", RSA | {"d": "AQAB"}, "secret"),
    ("for encryption", RSA | {"use": "enc"}, "not for signatures"),
    ("use is empty", RSA | {"use": ""}, "not for signatures"),
    ("may do nothing", RSA | {"key_ops": []}, "not for signatures"),
    ("may only encrypt", RSA | {"key_ops": ["encrypt"]}, "not for signatures"),
    ("key_ops is text", RSA | {"key_ops": "verify"}, "not for signatures"),
    ("kid is a number", RSA | {"kid": 1}, "`kid`"),
    ("alg none", RSA | {"alg": "none"}, "not accepted"),
    ("alg HS256", RSA | {"alg": "HS256"}, "not accepted"),
    ("alg of another kty", RSA | {"alg": "ES256"}, "not accepted"),
    ("alg of another curve", GOOD | {"alg": "ES384"}, "not accepted"),
    ("another curve", jwk(ec.generate_private_key(ec.SECP256K1()), "x"), "not accepted"),
    ("curve that is not the key's", GOOD | {"crv": "P-384"}, "malformed"),
    ("no curve", {name: value for name, value in GOOD.items() if name != "crv"}, "not accepted"),
    ("point off the curve", GOOD | {"y": GOOD["x"]}, "malformed"),
    ("modulus is a number", RSA | {"n": 5}, "malformed"),
    ("modulus is no base64", RSA | {"n": "*"}, "malformed"),
    ("modulus is null", RSA | {"n": None}, "malformed"),
    ("modulus is not ASCII", RSA | {"n": "é"}, "malformed"),
    ("modulus is empty", RSA | {"n": ""}, "malformed"),
    ("exponent of two", RSA | {"e": "Ag"}, "malformed"),
    (
        "exponent that takes long",
        RSA | {"e": b64(b"\1" + bytes(199) + b"\1")},
        "exponent of more than 64 bits",
    ),
    ("modulus that takes long", RSA | {"n": b64(b"\xff" * 1025)}, "longer than 8192 bits"),
    ("no exponent", {name: value for name, value in RSA.items() if name != "e"}, "malformed"),
    ("short RSA", jwk(rsa_key("short", bits=1024), "short"), "shorter than 2048 bits"),
]


@pytest.mark.parametrize(("entry", "why"), [row[1:] for row in IGNORED], ids=[row[0] for row in IGNORED])
def test_unusable_key_is_ignored_with_a_reason(entry: Any, why: str) -> None:
    """The issuer's other keys stay usable."""
    keys = read_key_set(json.dumps({"keys": [entry, GOOD]}).encode())
    assert [key.kid for key in keys.keys] == ["good"]
    assert len(keys.ignored) == 1
    assert why in keys.ignored[0]


ACCEPTED: dict[str, dict[str, Any]] = {
    **{f"{name} is null": {name: None} for name in ("d", "k", "use", "key_ops", "alg", "x5c", "crv", "oth")},
    "kid is null": {"kid": None},
    "unknown members": {"exp": 1, "nbf": None, "x-team": {"a": [1]}, "ext": True},
    "a certificate beside it": {"x5c": ["MIIB"], "x5t": "AAAA", "x5u": "http://127.0.0.1:9/"},
    "for verifying among others": {"key_ops": ["encrypt", "verify"]},
}


@pytest.mark.parametrize("members", ACCEPTED.values(), ids=ACCEPTED)
def test_null_and_unknown_members_are_ignored(members: dict[str, Any]) -> None:
    """RFC 7517 §4."""
    (key,) = read_key_set(jwks(RSA | members)).keys
    assert key.public == rsa_key("corp").public_key()


def test_keys_of_unknown_kinds_do_not_affect_others() -> None:
    foreign: list[Any] = [
        {"kty": "OKP", "crv": "X25519", "x": b64(bytes(32))},
        {"kty": "OKP", "crv": "Ed448", "x": b64(bytes(57))},
        {"kty": "EC", "crv": "BP-256", "x": "AA", "y": "AA"},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"},
        {"kty": None},
        {},
    ]
    keys = read_key_set(json.dumps({"keys": [*foreign, RSA, *foreign, GOOD], "version": 2}).encode())
    assert [key.kid for key in keys.keys] == ["rsa", "good"]
    assert len(keys.ignored) == 2 * len(foreign)


def test_byte_order_mark_and_large_numbers_are_accepted() -> None:
    document = b'\xef\xbb\xbf{"issued": 1e999, "keys": [%s]}' % json.dumps(RSA | {"x-n": 0.1}).encode()
    assert [key.kid for key in read_key_set(document).keys] == ["rsa"]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b'{"keys": [%s], "keys": []}', "the key 'keys' stands twice"),
        (b'{"keys": [%s, {"kid": "a", "kid": "b"}]}', "the key 'kid' stands twice"),
        (b'{"keys": [%s], "version": NaN}', "NaN is not JSON"),
    ],
)
def test_ambiguous_json_is_unusable(document: bytes, why: str) -> None:
    with pytest.raises(KeysUnusable, match=f"is not JSON: {why}"):
        read_key_set(document % json.dumps(RSA).encode())


@pytest.mark.parametrize(
    "document",
    [b"", b"\xff", b"[]", b"null", b"{}", b'{"keys":{}}', b'{"keys":[]}', b"<html>", b"[" * 100_000],
    ids=["empty", "bytes", "list", "null", "no keys", "keys no list", "no key", "HTML", "deep"],
)
def test_document_without_usable_keys_is_an_error(document: bytes) -> None:
    """An empty key set would replace good keys."""
    with pytest.raises(KeysUnusable):
        read_key_set(document)


@pytest.mark.parametrize(
    ("entry", "algorithms"),
    [
        (RSA, ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        (RSA | {"alg": "PS384"}, ("PS384",)),
        (GOOD | {"use": "sig", "key_ops": ["verify"]}, ("ES256",)),
        (jwk(ec.generate_private_key(ec.SECP384R1()), "x"), ("ES384",)),
        (jwk(ec.generate_private_key(ec.SECP521R1()), "x"), ("ES512",)),
        (jwk(ed25519.Ed25519PrivateKey.generate(), None), ("EdDSA",)),
    ],
    ids=["RSA", "RSA with alg", "P-256", "P-384", "P-521", "Ed25519"],
)
def test_algorithms_come_from_the_key(entry: dict[str, Any], algorithms: tuple[str, ...]) -> None:
    """Its kind and `alg` decide, not the token."""
    (key,) = read_key_set(jwks(entry)).keys
    assert key.algorithms == algorithms


MAKERS: dict[str, Callable[[], PrivateKey]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "PS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("algorithm", MAKERS)
def test_signatures_verify_with_their_own_key_only(algorithm: str) -> None:
    ours, theirs = MAKERS[algorithm](), MAKERS[algorithm]()
    token = parse_jwt(compact({"alg": algorithm, "kid": "k"}, {}, signer(ours, algorithm)))
    for key, verified in ((ours, True), (theirs, False)):
        (fitting,) = read_key_set(jwks(jwk(key, "k"))).find_candidates(token)
        assert verify_signature(token, fitting) is verified


def test_candidate_keys_of_a_token_are_bounded() -> None:
    """Otherwise one token would cost many checks at an issuer with many keys."""
    many = read_key_set(jwks(*(jwk(ec_key(str(number)), "same") for number in range(20))))
    for header in ({"alg": "ES256"}, {"alg": "ES256", "kid": "same"}):
        assert len(many.find_candidates(parse_jwt(compact(header, {}, lambda _: b"x")))) == MAX_CANDIDATES


SLOWEST: dict[str, tuple[str, Any]] = {
    "RSA": ("PS512", RSA | {"n": b64(b"\xff" * 1024), "e": b64(b"\xff" * 8)}),
    "EC": ("ES512", jwk(ec.generate_private_key(ec.SECP521R1()), "x")),
}


@pytest.mark.parametrize(("algorithm", "entry"), SLOWEST.values(), ids=SLOWEST)
def test_slowest_accepted_keys_verify_within_milliseconds(algorithm: str, entry: Any) -> None:
    """Verification runs on the event loop. The time is the thread's own, with a margin for slow machines."""
    (key,) = read_key_set(jwks(entry)).keys
    size = key.public.key_size // 8 if isinstance(key.public, rsa.RSAPublicKey) else 132
    token = parse_jwt(compact({"alg": algorithm}, {"note": "x" * 20_000}, lambda _: b"\1" * size))

    def check_time() -> float:
        began = time.thread_time()
        assert not verify_signature(token, key)
        return time.thread_time() - began

    assert min(check_time() for _ in range(10)) < 0.005


def test_equal_documents_give_equal_sets() -> None:
    """So a fetch that changes nothing is detected."""
    assert read_key_set(jwks(RSA, GOOD)) == read_key_set(jwks(RSA, GOOD))
    assert read_key_set(jwks(RSA)) != read_key_set(jwks(jwk(rsa_key("attacker"), "rsa")))
