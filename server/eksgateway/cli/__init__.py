"""The command line, ``eksgateway``; each command imports what it needs when it runs."""

from __future__ import annotations

import errno
import os
import sys
from io import TextIOWrapper

from eksgateway.cli import serve_command
from eksgateway.cli.command_errors import print_errors

__all__ = ["main"]

_INSTALL_SERVER = "pip install 'eksgateway[server]'"
_INSTALL_EITHER = "pip install 'eksgateway[cli]' to call a gateway, or 'eksgateway[server]' to run one"
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main() -> None:
    # Read when grpc is imported. Its core writes lines to standard error, and strangers who connect can
    # cause them; each fault also comes as an error.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Read when pydantic builds its first model. Without it, pydantic looks for plugins in the entry points
    # of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):  # names may have characters that the terminal's encoding lacks
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    served = serve_command.read_arguments(sys.argv[1:])
    remedy = _INSTALL_SERVER if served else _INSTALL_EITHER
    try:
        if served:
            with print_errors():
                serve_command.serve(*served)
            return
        from eksgateway.cli import completion  # noqa: PLC0415 - needs the extra
        from eksgateway.cli.main import app  # noqa: PLC0415

        completion.prepare()
        remedy = _INSTALL_SERVER  # for what a command imports when it runs
        try:
            app(prog_name="eksgateway")
        finally:
            _flush()
    except OSError as exc:
        if exc.errno not in _NOT_WRITTEN:
            raise
        _discard_output()
        sys.exit(f"eksgateway: the output cannot be written: {exc.strerror}")
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] == "eksgateway":
            raise
        sys.exit(f"eksgateway: {exc.name} is not installed: run {remedy}")


def _flush() -> None:
    """Write what is left. At Python's end an error would be exit code 120."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains again at its end


def _replace_closed_streams() -> None:
    """For a caller that has closed standard output or error, as `>&-` does."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(nowhere, "w", encoding="utf-8", closefd=False))
