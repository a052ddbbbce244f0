"""Keys that sign bundles, and those that are refused. No text has anything of a key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from eksgateway.policy.bundle.signing_key import SigningKey, SigningKeyError, load_signing_key
from support.signing_keys import CURVES, rsa_key, to_pem

P256 = ec.generate_private_key(ec.SECP256R1())
TRADITIONAL = PrivateFormat.TraditionalOpenSSL


def _write(folder: Path, content: bytes) -> Path:
    file = folder / "policy.key"
    file.touch(mode=0o600)
    file.write_bytes(content)
    return file


def _load(file: Path, algorithm: str | None = None) -> SigningKey:
    return load_signing_key(file, key_id="k", algorithm=algorithm)


DEFAULTS: dict[str, tuple[bytes, str]] = {
    "rsa": (to_pem(rsa_key()), "RS256"),
    "rsa-pkcs1": (to_pem(rsa_key(), TRADITIONAL), "RS256"),
    "ec-sec1": (to_pem(P256, TRADITIONAL), "ES256"),
    **{name: (to_pem(ec.generate_private_key(curve())), name) for name, curve in CURVES.items()},
    "secret": (b"s" * 32, "HS256"),
}


@pytest.mark.parametrize(("content", "algorithm"), DEFAULTS.values(), ids=DEFAULTS)
def test_the_algorithm_fits_the_key(content: bytes, algorithm: str, tmp_path: Path) -> None:
    key = _load(_write(tmp_path, content))
    assert (key.algorithm, key.key_id, key.warnings) == (algorithm, "k", ())


REFUSED: dict[str, tuple[bytes, str | None, str]] = {
    "public": (
        P256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        None,
        "not a public",
    ),
    "encrypted": (
        P256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass")),
        None,
        "encrypted",
    ),
    "broken": (to_pem(P256).replace(b"M", b"N", 1), None, "not a private key"),
    "der": (P256.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), None, "convert it to PEM"),
    "der-as-secret": (
        P256.private_bytes(Encoding.DER, TRADITIONAL, NoEncryption()),
        "HS256",
        "convert it to PEM",
    ),
    "public-der": (
        P256.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "HS256",
        "no secret",
    ),
    "public-ssh": (
        P256.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" me@host\n",
        None,
        "no secret",
    ),
    "ed25519": (to_pem(ed25519.Ed25519PrivateKey.generate()), None, "OPA verifies no key of this kind"),
    "dsa": (to_pem(dsa.generate_private_key(1024)), None, "OPA verifies no key of this kind"),
    "secp256k1": (to_pem(ec.generate_private_key(ec.SECP256K1())), None, "P-256"),
    "rsa-1024": (to_pem(rsa.generate_private_key(65537, 1024)), None, "has 1024 bits, and needs 2048"),
    "rsa-as-ec": (to_pem(rsa_key()), "ES256", "does not sign with ES256: use RS256"),
    "rsa-as-secret": (to_pem(rsa_key()), "HS256", "does not sign with HS256"),
    "p256-as-es384": (to_pem(P256), "ES384", "use ES256"),
    "secret-as-rsa": (b"s" * 64, "RS256", "does not sign with RS256: use HS256, HS384 or HS512"),
    "short": (b"s" * 31, None, "31 bytes, and needs 32"),
    "short-512": (b"s" * 63, "HS512", "63 bytes, and needs 64"),
    "empty": (b"", None, "is empty"),
    "large": (b"s" * 100_000, None, "larger than"),
}


@pytest.mark.parametrize(("content", "algorithm", "text"), REFUSED.values(), ids=REFUSED)
def test_an_unusable_key_is_refused(content: bytes, algorithm: str | None, text: str, tmp_path: Path) -> None:
    file = _write(tmp_path, content)
    with pytest.raises(SigningKeyError) as caught:
        _load(file, algorithm)
    assert text in str(caught.value)
    assert text.startswith("larger") or str(caught.value).startswith(f"{file}: ")
    assert "sss" not in str(caught.value)


@pytest.mark.parametrize("given", ["my-secret-of-thirty-two-characters", to_pem(P256).decode()])
def test_a_key_given_in_place_of_its_file_is_refused_without_its_text(given: str) -> None:
    """`opa build` takes it."""
    with pytest.raises(SigningKeyError, match="the path of its file, not the key itself") as caught:
        _load(Path(given))
    assert given[:12] not in str(caught.value)


@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_key_that_others_can_read_has_a_warning(mode: int, warns: bool, tmp_path: Path) -> None:
    file = _write(tmp_path, to_pem(P256))
    file.chmod(mode)
    assert bool(_load(file).warnings) == warns


def test_a_key_may_come_through_a_pipe() -> None:
    """As from a shell's <(…): its mode means nothing."""
    reading, writing = os.pipe()
    os.write(writing, to_pem(P256))
    os.close(writing)
    try:
        assert _load(Path(f"/dev/fd/{reading}")).warnings == ()
    finally:
        os.close(reading)


def test_a_secret_that_ends_with_a_line_break_has_a_warning(tmp_path: Path) -> None:
    """OPA takes it as part of the secret, too."""
    assert "line break" in _load(_write(tmp_path, b"s" * 32 + b"\n")).warnings[0]


def test_the_representation_of_a_key_does_not_have_its_text(tmp_path: Path) -> None:
    assert "sss" not in repr(_load(_write(tmp_path, b"s" * 32)))
