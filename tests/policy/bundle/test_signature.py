"""The signature of a bundle: OPA verifies it, and refuses another bundle with it."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from eksgateway.policy.bundle.archive import pack
from eksgateway.policy.bundle.signature import SIGNATURES_FILE, hash_file, sign
from eksgateway.policy.bundle.signing_key import ALGORITHMS, load_signing_key
from support.signing_keys import KeyFiles, write_key

# Texts and nesting for which encoders differ.
ODD = {
    "\u2028\u2029\x7f": '<&>"\\/\b\f\n\r\t\x01\x1fé😀',
    "b": [1, -2, 10**18, {"z": None, "Z": True, "é": False, "\uffff": {}, "😀": []}],
    "": "",
}
FILES = {
    "data.json": json.dumps({"eksgateway": ODD}, indent=3).encode(),
    ".manifest": b'{ "roots": ["eksgateway"], "revision": "r1" }',
    "eksgateway/authz.rego": 'package eksgateway.authz\n\nx := "é"\n'.encode(),
}


def _sign(
    files: dict[str, bytes], key: KeyFiles, algorithm: str, key_id: str = "default"
) -> dict[str, bytes]:
    return {
        **files,
        SIGNATURES_FILE: sign(files, load_signing_key(key.private, key_id=key_id, algorithm=algorithm)),
    }


def _verify(files: dict[str, bytes], key: KeyFiles, algorithm: str, folder: Path) -> str:
    """OPA's complaint, or an empty text."""
    bundle = folder / "bundle.tar.gz"
    bundle.write_bytes(pack(files))
    # `opa build` and `opa eval` do not verify signatures.
    command = ["opa", "run", "--skip-version-check", "--bundle", str(bundle)]
    command += ["--verification-key", str(key.public), "--signing-alg", algorithm]
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_opa_verifies_the_signature(algorithm: str, tmp_path: Path) -> None:
    key = write_key(tmp_path, algorithm)
    assert _verify(_sign(FILES, key, algorithm), key, algorithm, tmp_path) == ""


@pytest.mark.parametrize("path", FILES)
def test_opa_refuses_a_changed_file(path: str, tmp_path: Path) -> None:
    key = write_key(tmp_path, "ES256")
    signed = _sign(FILES, key, "ES256")
    signed[path] = signed[path].replace(b"e", b"o", 1)
    assert "digest mismatch" in _verify(signed, key, "ES256", tmp_path)


def test_opa_refuses_another_key_and_files_beside_the_signed_ones(tmp_path: Path) -> None:
    key, other = write_key(tmp_path, "ES256"), write_key(tmp_path, "ES256", "other")
    assert "failed to verify JWT" in _verify(_sign(FILES, other, "ES256"), key, "ES256", tmp_path)
    added = {**_sign(FILES, key, "ES256"), "eksgateway/more.rego": b"package eksgateway.more\n"}
    assert "not included in bundle signature" in _verify(added, key, "ES256", tmp_path)
    lost = _sign(FILES, key, "ES256")
    del lost["eksgateway/authz.rego"]
    assert "not found in the target bundle" in _verify(lost, key, "ES256", tmp_path)


@pytest.mark.parametrize("algorithm", [each for each in ALGORITHMS if not each.startswith("PS")])
def test_equal_files_and_keys_give_equal_signatures(algorithm: str, tmp_path: Path) -> None:
    """Also of EC keys. PS algorithms are random by definition."""
    key = write_key(tmp_path, algorithm)
    assert _sign(FILES, key, algorithm) == _sign(dict(reversed(FILES.items())), key, algorithm)


def test_the_hash_of_data_is_that_of_its_values() -> None:
    assert hash_file("data.json", b'{"b": [1], "a": "x"}') == hash_file("a/data.json", b'{"a":"x","b":[1]}')
    assert hash_file("data.json", b'{"a": 1}') != hash_file("data.json", b'{"a": "1"}')
    assert hash_file("a.rego", b"x ") != hash_file("a.rego", b"x")


def test_numbers_that_cannot_be_hashed_as_opa_does_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.50"):
        hash_file("data.json", b'{"a": 1.50}')


def test_equal_files_give_equal_archives() -> None:
    """With nothing of the machine in them."""
    packed = pack(FILES)
    assert packed == pack(dict(reversed(FILES.items())))
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = archive.getmembers()
    assert [each.name for each in members] == sorted(FILES)
    assert {(each.mtime, each.uid, each.gid, each.uname, each.mode) for each in members} == {
        (0, 0, 0, "", 0o644)
    }
