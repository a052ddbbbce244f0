"""``python -m eksgateway`` is the console script; the sandbox starts its child processes with it."""

from __future__ import annotations

from eksgateway.cli import main

main()
