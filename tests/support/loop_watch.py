"""A gateway process whose event loop is watched: `python -P loop_watch.py serve --config FILE`.

It watches from SIGUSR1 on, and confirms that with the event ``watch.started``. Each finding is one JSON
line on standard error with the event ``watch.blocked`` and the stack. A finding is a call on the loop's
thread that may block (files, names, sleep, SQLite, child processes), or a turn of the loop that took more
than LONG_S of the thread's processor time. Processor time does not depend on the machine's load.

Blocking calls are found by name, not by duration: the interpreter reports each call of a C function on that
thread. A read from a fast file system is a finding too.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from types import FrameType, ModuleType
from typing import Any, Final

LONG_S: Final = 0.25  # with the profiler's own cost, which makes Python several times slower
_SAMPLE_S: Final = 0.02

_FUNCTIONS: Final = {
    *("io.open", "_io.open", "io.open_code", "_io.open_code"),
    *(
        f"posix.{name}"
        for name in (
            *(
                "open",
                "stat",
                "lstat",
                "access",
                "listdir",
                "scandir",
                "readlink",
                "statvfs",
                "read",
                "write",
            ),
            *(
                "fsync",
                "fdatasync",
                "rename",
                "replace",
                "unlink",
                "mkdir",
                "rmdir",
                "chmod",
                "link",
                "symlink",
            ),
            *("waitpid", "system", "posix_spawn"),
        )
    ),
    *("_socket.getaddrinfo", "_socket.gethostbyname", "_socket.gethostbyaddr", "_socket.getnameinfo"),
    *("time.sleep", "_posixsubprocess.fork_exec", "fcntl.flock", "fcntl.lockf"),
}
_TYPES: Final = {
    *("sqlite3.Connection", "sqlite3.Cursor"),
    *(
        f"_io.{name}"
        for name in ("FileIO", "TextIOWrapper", "BufferedReader", "BufferedWriter", "BufferedRandom")
    ),
}
_METHODS: Final = {
    *("load_verify_locations", "load_cert_chain", "set_default_verify_paths"),  # of _ssl._SSLContext
}


class Watch:
    """Watches the thread that creates it, which runs the loop."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._began = 0.0  # of the loop's turn, in the thread's processor time
        self._inside = False
        self._reported: set[str] = set()
        self._stacks: list[str] = []

    def start(self, *_: Any) -> None:
        """A signal handler. It runs on the main thread, which is the loop's."""
        os.write(2, b'{"event": "watch.started"}\n')
        threading.Thread(target=self._sample, name="watch", daemon=True).start()
        sys.setprofile(self._profile)

    def _profile(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call":
            if called.__name__ == "poll" and isinstance(called.__self__, select.epoll):
                self._end_turn()
            elif self._inside and (name := _blocking(called)):
                self._report(name, frame)
        elif event == "c_return" and called.__name__ == "poll" and isinstance(called.__self__, select.epoll):
            self._began, self._inside = time.thread_time(), True
            self._stacks.clear()

    def _end_turn(self) -> None:
        took = time.thread_time() - self._began
        if self._inside and took > LONG_S:
            stacks = list(self._stacks)
            self._write(
                {"call": f"a turn of {took:.3f} s", "at": stacks[0] if stacks else "", "stack": stacks[:3]}
            )
        self._inside = False

    def _report(self, name: str, frame: FrameType) -> None:
        stack = _stack(frame)
        if not any(line.endswith(" run_forever") for line in stack):  # the loop has ended
            return
        at = next((line for line in reversed(stack) if "/eksgateway/" in line), stack[-1])
        if f"{name} {at}" not in self._reported:
            self._reported.add(f"{name} {at}")
            self._write({"call": name, "at": at, "stack": stack[-12:]})

    def _write(self, finding: dict[str, Any]) -> None:
        os.write(2, (json.dumps({"event": "watch.blocked", **finding}) + "\n").encode())

    def _sample(self) -> None:
        """Sample the stack of the loop's thread, in case the turn is long."""
        while True:
            time.sleep(_SAMPLE_S)
            frame = sys._current_frames().get(self._thread)  # noqa: SLF001  it has no other name
            if self._inside and frame is not None and len(self._stacks) < 1000:
                self._stacks.append(" < ".join(reversed(_stack(frame)[-8:])))


def _blocking(called: Any) -> str:
    """The name of a C function that may block, or an empty string."""
    owner = getattr(called, "__self__", None)
    if isinstance(owner, ModuleType):
        name = f"{owner.__name__}.{called.__name__}"
        return name if name in _FUNCTIONS else ""
    kind = f"{type(owner).__module__}.{type(owner).__name__}"
    if kind in _TYPES or called.__name__ in _METHODS:
        return f"{kind}.{called.__name__}"
    return ""


def _stack(frame: FrameType) -> list[str]:
    """Outermost first. Reads no source file."""
    return [
        f"{each.f_code.co_filename}:{number} {each.f_code.co_name}"
        for each, number in traceback.walk_stack(frame)
    ][::-1]


if __name__ == "__main__":
    from eksgateway.cli import main

    signal.signal(signal.SIGUSR1, Watch().start)
    main()
