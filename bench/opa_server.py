"""An OPA server on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.report import MissingProgram


@dataclass(frozen=True)
class OpaServer:
    port: int
    pid: int


def require_opa() -> None:
    """Raises MissingProgram."""
    if shutil.which("opa") is None:
        raise MissingProgram("opa is not on PATH: scripts/build_tools.sh builds it into .tools/bin")


@contextmanager
def run_opa(*sources: Path) -> Iterator[OpaServer]:
    """An OPA with these policies and data, which need not answer yet. Raises MissingProgram."""
    require_opa()
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = ["opa", "run", "--server", "--addr", f"127.0.0.1:{port}", "--log-level", "error"]
    process = subprocess.Popen([*command, *map(str, sources)])
    try:
        yield OpaServer(port, process.pid)
    finally:
        process.terminate()
        process.wait()
