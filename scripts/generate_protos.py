"""Generates server/eksgateway/v1/ from protos/ (`make protos`). An argument is another output folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Final

from grpc_tools import protoc

ROOT: Final = Path(__file__).resolve().parent.parent
PROTOS: Final = ROOT / "protos"


def generate(out: Path) -> None:
    """Write modules and type stubs for every file, and gRPC stubs for files with a service."""
    _protoc(PROTOS.rglob("*.proto"), f"--python_out={out}", f"--mypy_out=quiet:{out}")
    _protoc(PROTOS.rglob("*_service.proto"), f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}")


def _protoc(sources: Iterable[Path], *options: str) -> None:
    includes = (PROTOS, files("grpc_tools") / "_proto")  # the second holds google/protobuf
    names = sorted(str(path.relative_to(PROTOS)) for path in sources)
    status = protoc.main(["protoc", *(f"--proto_path={path}" for path in includes), *options, *names])
    if status:
        sys.exit(status)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "server")
