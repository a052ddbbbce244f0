"""Generated code is committed and not edited."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from eksgateway import errors
from eksgateway.v1.error_reason_pb2 import ErrorReason

ROOT = Path(__file__).parent.parent


def test_generating_the_protos_again_changes_nothing(tmp_path: Path) -> None:
    """The committed files are protoc's output for protos/."""
    script = ROOT / "scripts" / "generate_protos.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=60)
    fresh = {path.name: path.read_bytes() for path in (tmp_path / "eksgateway" / "v1").iterdir()}
    committed = {path.name: path.read_bytes() for path in (ROOT / "server/eksgateway/v1").glob("*_pb2*")}
    assert fresh == committed


def test_generating_the_table_of_reasons_again_changes_nothing(tmp_path: Path) -> None:
    """The tests of every client read the JSON; people read docs/clients.md."""
    script = ROOT / "scripts" / "generate_reasons.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=60)
    for name in ("clients/testing/reasons.json", "docs/clients.md"):
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes(), name


def test_errors_and_reasons_in_the_proto_match() -> None:
    """Clients in other languages use the enum ErrorReason."""
    in_proto = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.DESCRIPTOR.values_by_name} - {
        "UNSPECIFIED"
    }
    assert set(errors.BY_REASON) == in_proto
