"""Logging never decides how a call ends."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import logging, os
from eksgateway import logs
logs.configure()
os.close(2)
for _ in range(3):
    logs.Log("eksgateway").info("a.line", text="x" * 100_000)
    logging.getLogger("library").error("another")
print("still here")
"""


def test_a_log_that_cannot_be_written_raises_nothing() -> None:
    """Its reader may be gone or its disk full: the work goes on, and exits as it would have."""
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "still here\n")
