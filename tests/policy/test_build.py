"""What is compiled and copied is what a fresh build gives, and the Rego is checked, formatted and covered."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from support.opa import POLICIES

ROOT = POLICIES.parent


def _opa(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["opa", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_fresh_build_changes_nothing(tmp_path: Path) -> None:
    """The committed module and schemas are those of policies/, byte for byte: else run `make policy`."""
    subprocess.run([sys.executable, ROOT / "scripts" / "build_policy.py", tmp_path], check=True)
    built = {path.name for path in tmp_path.iterdir()}
    assert built == {"policy.wasm", "data.schema.json", "input.schema.json", "schema.rego"}
    for name in built:
        committed = POLICIES / "eksgateway" if name == "schema.rego" else files("eksgateway.policy")
        assert (committed / name).read_bytes() == (tmp_path / name).read_bytes(), name


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "--strict", "--schema", "policies/schemas", "policies"),
        ("fmt", "--fail", "--list", "policies"),
    ],
    ids=["check", "fmt"],
)
def test_the_rego_is_as_make_check_wants_it(arguments: tuple[str, ...]) -> None:
    """Strict, typed against the input's schema, formatted."""
    done = _opa(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_line_of_the_rego_is_tested() -> None:
    """The Rego's own tests pass and cover all of it."""
    done = _opa("test", "--coverage", "--threshold", "100", "policies/eksgateway")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["coverage"] == 100
