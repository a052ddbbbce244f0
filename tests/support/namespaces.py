"""Programs with a read-only file system, in a mount namespace of their own."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_UNSHARE = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--")


def read_only_root(*writable: Path) -> tuple[str, ...]:
    """The command prefix that leaves only these folders writable.

    Skips the test where mount namespaces are not allowed, as in many containers.
    """
    if reason := _refusal():
        pytest.skip(reason)
    return (*_UNSHARE, sys.executable, __file__, *map(str, writable), "--")


@functools.cache
def _refusal() -> str:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return "mount namespaces need Linux and util-linux's unshare"
    found = subprocess.run([*_UNSHARE, "mount", "--bind", "/tmp", "/tmp"], capture_output=True, check=False)
    return f"this machine gives no mount namespace: {found.stderr.decode()}" if found.returncode else ""


def _make_read_only(writable: list[str]) -> None:
    for folder in writable:
        subprocess.run(["mount", "--bind", folder, folder], check=True)
    with Path("/proc/self/mounts").open() as mounts:
        points = [line.split()[1] for line in mounts]
    for point in {*points, "/"} - set(writable):
        if not point.startswith(("/proc", "/sys", "/dev")) or point == "/dev/shm":
            subprocess.run(["mount", "-o", "remount,ro,bind", point], check=False, capture_output=True)
    for folder in ("/tmp", "/var/tmp", "/"):
        if os.access(folder, os.W_OK):
            sys.exit(f"{folder} can still be written")


if __name__ == "__main__":
    split = sys.argv.index("--")
    _make_read_only(sys.argv[1:split])
    os.chdir("/")
    os.execvp(sys.argv[split + 1], sys.argv[split + 1 :])
