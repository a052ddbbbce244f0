"""A real OPA server on loopback, and ``opa eval``. The binary ``opa`` must be on PATH."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eksgateway.policy.compiler import compile_content
from eksgateway.policy.source import load_content
from support.ports import find_free_port

POLICIES = Path(__file__).resolve().parents[2] / "policies"
EXAMPLE_DATA = POLICIES / "data.example.yaml"
_READY_S = 100


class OpaServer:
    """A running OPA; ``url`` has no path. Data can be replaced while it runs."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self._process = process

    def put(self, path: str, value: Any) -> None:
        """Set base data, e.g. ``eksgateway/index``."""
        self._send("PUT", path, json.dumps(value).encode())

    def remove(self, path: str) -> None:
        """Remove base data, if it is there."""
        try:
            self._send("DELETE", path, None)
        except urllib.error.HTTPError as exc:
            exc.close()
            if exc.code != 404:
                raise

    def stop(self) -> None:
        """Stop it. ``run_opa`` may stop it again."""
        self._process.terminate()
        self._process.wait(timeout=_READY_S)

    def _send(self, method: str, path: str, body: bytes | None) -> None:
        request = urllib.request.Request(f"{self.url}/v1/data/{path}", body, method=method)
        urllib.request.urlopen(request, timeout=10).close()


@contextmanager
def run_opa(
    *sources: Path, log: Path, arguments: Sequence[str] = (), port: int | None = None
) -> Iterator[OpaServer]:
    """Run OPA with these policies and data, by default the project's with the example data, compiled."""
    if not sources:
        compiled = write_compiled({"eksgateway": load_content(EXAMPLE_DATA)}, log.with_name("example.json"))
        sources = (POLICIES / "eksgateway", compiled)
    server = _start(sources, log, arguments, port)
    try:
        yield server
    finally:
        server.stop()


def compile_index(data: dict[str, Any]) -> dict[str, Any]:
    """The index, from policy data without sets."""
    content = {"grants": [], "denials": [], "freezes": []} | data["eksgateway"]
    index: dict[str, Any] = compile_content(content)["eksgateway"]["index"]
    return index


def write_compiled(data: dict[str, Any], file: Path) -> Path:
    """Write policy data to a file as an OPA reads it."""
    file.write_text(json.dumps({"eksgateway": {"index": compile_index(data)}}))
    return file


def _start(
    sources: Sequence[Path], log: Path, arguments: Sequence[str], port: int | None, attempts: int = 5
) -> OpaServer:
    # OPA does not report the port that it got for 0. If another process takes the port, try another one.
    for _ in range(attempts):
        address = f"127.0.0.1:{port or find_free_port()}"
        command = ["opa", "run", "--server", "--addr", address, *arguments, *map(str, sources)]
        with log.open("ab") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        if _wait_ready(f"http://{address}", process):
            return OpaServer(f"http://{address}", process)
    raise AssertionError(f"OPA did not start: {log.read_text()[-2000:]}")


def _wait_ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _READY_S
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=10).close()
        except urllib.error.HTTPError as exc:  # its authorization refuses this
            exc.close()
            return process.poll() is None
        except OSError:
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                return False
            time.sleep(0.02)
        else:
            return process.poll() is None
    return False


def evaluate(query: str, data: Any, folder: Path) -> Any:
    """The result of ``opa eval`` for a query over the project's policies, with ``data`` beside them."""
    document = folder / "eval-data.json"
    document.write_text(json.dumps(data))
    command = ["opa", "eval", "--format", "json", "--fail"]
    command += ["--data", str(POLICIES / "eksgateway"), "--data", str(document), query]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    return json.loads(done.stdout)["result"][0]["expressions"][0]["value"]


def evaluate_bundle(bundle: Path, query: str, document: Any) -> Any:
    """The result of ``opa eval`` for a query with an input, by a bundle alone."""
    command = ["opa", "eval", "--format", "json", "--fail", "--stdin-input", "--bundle", str(bundle), query]
    asked = json.dumps(document).encode()
    done = subprocess.run(command, check=True, input=asked, capture_output=True, timeout=120)
    return json.loads(done.stdout)["result"][0]["expressions"][0]["value"]


def compile_rego(rego: str, folder: Path, *sources: Path) -> bytes:
    """The Wasm module of a policy whose decision is ``data.eksgateway.authz.decision``.

    ``sources`` are files that it imports.
    """
    (folder / "p.rego").write_text(rego)
    command = ["opa", "build", "-t", "wasm", "-e", "eksgateway/authz/decision", "-o", "b.tgz", "p.rego"]
    command += map(str, sources)
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    unpack = ["tar", "-xzf", "b.tgz", "-O", "/policy.wasm"]
    return subprocess.run(unpack, cwd=folder, check=True, capture_output=True).stdout
