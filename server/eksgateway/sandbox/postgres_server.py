"""A PostgreSQL of its own on loopback, for the sandbox and for tests."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from eksgateway.errors import StartError
from eksgateway.sandbox.postgres_programs import ServerUser, find_installation

_START_TIMEOUT_S: Final = 60.0
_ATTEMPTS: Final = 3  # another program may take the port; processes of a killed server take a moment to end
_ATTEMPT_PAUSE_S: Final = 0.3
_POLL_S: Final = 0.02
_STATUS_LINE: Final = 7  # of postmaster.pid; see `pg_ctl` and miscadmin.h of PostgreSQL
_LOG_LINES: Final = 8

# The parent of the server, and ends with it. A line on standard input ends the server, which ignores SIGINT
# while it is just starting. The end of standard input means that the process which started it was killed:
# then the server's folder, $0, is removed too.
_GUARD: Final = """
exec 3<&0
"$@" 3<&- </dev/null & server=$!
{ read -r line || touch "$0/orphaned"; while kill -INT $server; do sleep 0.2; done; } <&3 2>/dev/null &
watcher=$!
wait $server; code=$?
kill $watcher 2>/dev/null
[ -e "$0/orphaned" ] && rm -r "$0"
exit $code
"""


class PostgresServer:
    """Blocks: an event loop calls it by ``run_blocking``. ``close`` from another thread ends a ``start``.

    Its superuser is ``postgres``, with a random password, as any user of this machine reaches the port.
    """

    def __init__(self, version: int = 18, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        """``port`` 0 is a free one, chosen at the first start. Raises StartError without the wheel."""
        self.port = port
        self.password = secrets.token_hex(16)
        self.folder: Path | None = None
        self._installation = find_installation(version)
        self._settings = dict(settings or {})
        self._chooses_port = port == 0
        self._user: ServerUser
        self._programs: Path
        self._guard: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()
        self._closing = threading.Event()

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Of a role with the superuser's password, as ``postgres`` is."""
        return f"postgresql://{user}:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """Of the server's first process. Raises OSError while it does not run."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def start(self) -> Self:
        """Return when it accepts connections; again after a stop, on its port and data. Raises StartError."""
        with self._lock:
            if self._guard is not None and self._guard.poll() is None:
                return self
            self.stop()  # what is left of one that ended by itself
            if self.folder is None:
                self._create()
            for attempt in range(_ATTEMPTS):
                if self._chooses_port:
                    self.port = _free_port()
                before = self._status()
                self._launch()
                if self._wait_until_ready(before):
                    self._chooses_port = False
                    return self
                ended = self.wait()
                self.stop()
                if attempt + 1 < _ATTEMPTS:
                    self._closing.wait(_ATTEMPT_PAUSE_S)
            raise self._failure(f"PostgreSQL ended while it started: {ended}")

    def wait(self) -> str:
        """Wait until the server ends, by itself or by ``stop``. Returns its exit code as text."""
        guard = self._guard
        return f"exit code {guard.wait()}" if guard is not None else "not started"

    def stop(self, mode: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT ends its connections (fast), SIGQUIT skips the checkpoint (immediate).

        A server that is still there after 20 s gets SIGQUIT, and SIGKILL after 10 s more.
        """
        with self._lock:
            guard, self._guard = self._guard, None
            if guard is None:
                return
            for number, patience_s in ((mode, 20), (signal.SIGQUIT, 10), (signal.SIGKILL, None)):
                if guard.poll() is None:
                    with contextlib.suppress(OSError, IndexError):  # it has ended, or has not begun
                        os.kill(self.pid, signal.SIGCONT)  # a stopped process obeys SIGKILL alone
                        os.kill(self.pid, number)
                self._signal_guard(guard)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    guard.wait(patience_s)
                    break

    def close(self) -> None:
        """Stop it and remove its folder. It cannot be started again."""
        self._closing.set()
        with self._lock:
            self.stop()
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _signal_guard(guard: subprocess.Popen[bytes]) -> None:
        assert guard.stdin is not None  # noqa: S101 - started with PIPE
        with contextlib.suppress(OSError, ValueError):  # it has ended, or has the line
            guard.stdin.write(b"stop\n")
            guard.stdin.flush()
        with contextlib.suppress(OSError):
            guard.stdin.close()

    @property
    def _data(self) -> Path:
        assert self.folder is not None  # noqa: S101 - started
        return self.folder / "data"

    @property
    def _log(self) -> Path:
        return self._data.with_name("log")

    def _create(self) -> None:
        """Create an empty cluster. Raises StartError."""
        self._user = ServerUser.choose()
        self.folder = self._user.make_folder("eksgateway-postgres-")
        self._programs = self._user.give_programs(self._installation, self.folder)
        password = self.folder / "password"
        password.touch(mode=0o600)
        os.chown(password, self._user.uid, self._user.gid)
        password.write_text(self.password)
        # Without a collation of the environment, which this machine may lack.
        options = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={password}"]
        options += ["--encoding=UTF8", "--locale=C", "--no-sync", "--set=scram_iterations=1"]
        done = subprocess.run(  # noqa: S603 - a program of the wheel
            self._user.command(self._programs / "initdb", "-D", self._data, *options),
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=_environment(),
        )
        password.unlink()
        if done.returncode:
            self.close()
            raise StartError(f"PostgreSQL's initdb failed: {done.stderr.strip()}")

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",  # a long path would be an error
            "scram_iterations": "1",  # the password is random, so one round is enough
            **self._settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        program = [str(self._programs / "postgres"), "-D", str(self._data), *options]
        with self._log.open("wb") as log:
            self._guard = subprocess.Popen(  # noqa: S603 - a program of the wheel
                self._user.command("/bin/sh", "-c", _GUARD, str(self.folder), *program),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=_environment(),
                start_new_session=True,  # Ctrl-C reaches the parent alone
            )

    def _status(self) -> list[str]:
        """The lines of postmaster.pid, which a server that was killed leaves behind."""
        with contextlib.suppress(OSError):
            return (self._data / "postmaster.pid").read_text().splitlines()
        return []

    def _wait_until_ready(self, before: list[str]) -> bool:
        """False if it ended. ``before`` is the status of the server before this one. Raises StartError."""
        assert self._guard is not None  # noqa: S101 - just launched
        ends = time.monotonic() + _START_TIMEOUT_S
        while self._guard.poll() is None:
            status = self._status()
            if status != before and [line.strip() for line in status[_STATUS_LINE:]] == ["ready"]:
                return True
            if self._closing.wait(_POLL_S):
                raise StartError("PostgreSQL was stopped while it started")
            if time.monotonic() > ends:
                raise self._failure(f"PostgreSQL did not start within {_START_TIMEOUT_S:.0f} s")
        return False

    def _failure(self, what: str) -> StartError:
        lines = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        self.stop(signal.SIGQUIT)
        return StartError("\n  ".join([what, *lines]))


def _environment() -> dict[str, str]:
    """A locale that every machine has. macOS needs one that is valid, or PostgreSQL refuses to start."""
    return {**os.environ, "LC_ALL": "C"}


def _free_port() -> int:
    """Below the ports of outgoing connections, which could take it while the server restarts."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - not a secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
