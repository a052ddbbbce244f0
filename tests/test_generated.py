"""Generated code is committed and never edited."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from eksgateway import errors
from eksgateway.v1.error_reason_pb2 import ErrorReason

ROOT = Path(__file__).parent.parent


def test_generating_the_protos_again_changes_nothing(tmp_path: Path) -> None:
    """What is committed is what protoc makes of protos/."""
    script = ROOT / "scripts" / "generate_protos.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=60)
    fresh = {path.name: path.read_bytes() for path in (tmp_path / "eksgateway" / "v1").iterdir()}
    committed = {path.name: path.read_bytes() for path in (ROOT / "server/eksgateway/v1").glob("*_pb2*")}
    assert fresh == committed


def test_every_error_has_its_reason_in_the_proto_and_every_reason_its_error() -> None:
    """ErrorReason is the list that clients in other languages read."""
    in_proto = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.DESCRIPTOR.values_by_name} - {
        "UNSPECIFIED"
    }
    assert set(errors.BY_REASON) == in_proto
