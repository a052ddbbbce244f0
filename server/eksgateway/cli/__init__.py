"""The command line, ``eksgateway``; each command imports what it needs when it runs."""

from __future__ import annotations

from eksgateway.cli.main import app

__all__ = ["main"]


def main() -> None:
    """The console script."""
    app()
