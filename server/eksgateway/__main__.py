"""``python -m eksgateway``: the same as the console script; the sandbox starts its children so."""

from __future__ import annotations

from eksgateway.cli import main

main()
