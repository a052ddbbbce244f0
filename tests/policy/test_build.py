"""The committed module, schemas and fixtures are fresh; the Rego is checked, formatted and covered."""

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


def test_a_fresh_build_equals_the_committed_files(tmp_path: Path) -> None:
    """Else run `make policy`."""
    subprocess.run([sys.executable, ROOT / "scripts" / "build_policy.py", tmp_path], check=True)
    built = {path.name for path in tmp_path.iterdir()}
    assert built == {"policy.wasm", "data.schema.json", "input.schema.json", "fixtures.json"}
    for name in built:
        committed = POLICIES / "tests" if name == "fixtures.json" else files("eksgateway.policy")
        assert (committed / name).read_bytes() == (tmp_path / name).read_bytes(), name


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "--strict", "--schema", "policies/schemas", "policies"),
        ("fmt", "--fail", "--list", "policies"),
    ],
    ids=["check", "fmt"],
)
def test_the_rego_passes_check_and_fmt(arguments: tuple[str, ...]) -> None:
    done = _opa(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rego_tests_pass_and_cover_every_line() -> None:
    done = _opa("test", "--coverage", "--threshold", "100", "policies/eksgateway", "policies/tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["coverage"] == 100
