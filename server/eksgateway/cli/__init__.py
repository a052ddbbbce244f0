"""The command line, ``eksgateway``; each command imports what it needs when it runs."""

from __future__ import annotations

import os

from eksgateway.cli.main import app

__all__ = ["main"]


def main() -> None:
    """The console script."""
    # Read when grpc is imported. Its core writes lines of its own to standard error, some of them at
    # the bidding of whoever connects; what matters of them comes as errors too.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Read when pydantic makes its first model. Nothing here is a plugin of it, and to look for some is to
    # read the entry points of every package that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    app()
