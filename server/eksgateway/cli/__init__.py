"""The command line, ``eksgateway``; each command imports what it needs when it runs."""

from __future__ import annotations

import os

from eksgateway.cli.main import app

__all__ = ["main"]


def main() -> None:
    # Read when grpc is imported. Its core writes lines to standard error, and strangers who connect can
    # cause them; each fault also comes as an error.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Read when pydantic builds its first model. Without it, pydantic looks for plugins in the entry points
    # of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    app()
