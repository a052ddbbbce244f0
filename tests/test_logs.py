"""Logging never changes how a call ends, and writes one JSON object per line."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from typing import Any

import pytest

from eksgateway.logs import MAX_QUEUED_LINES

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


def test_log_that_cannot_be_written_raises_nothing() -> None:
    """The reader may be gone or the disk full."""
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "still here\n")


MANY = """
from eksgateway import logs
logs.configure()
for _ in range(logs.MAX_QUEUED_LINES + 4000):
    logs.Log("eksgateway").info("a.line", text="x" * 200)
print("logged", flush=True)
input()
"""


@pytest.mark.parametrize("blocking", [True, False])
def test_slow_reader_gets_whole_lines_and_a_count_of_lost_ones(blocking: bool) -> None:
    """Also when the reader has made the pipe non-blocking."""
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    with (
        subprocess.Popen(
            [sys.executable, "-c", MANY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writing
        ) as process,
        open(reading, "rb") as log,  # noqa: PTH123  a descriptor
    ):
        os.close(writing)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"logged\n"
        lines = [json.loads(log.readline()) for _ in range(MAX_QUEUED_LINES)]
        process.stdin.write(b"\n")
        process.stdin.close()
        lines += map(json.loads, log)
    lost = sum(line["lines"] for line in lines if line["event"] == "log.lines_lost")
    assert lost > 0
    assert sum(line["event"] == "a.line" for line in lines) + lost == MAX_QUEUED_LINES + 4000


SHORT = """
from eksgateway import logs
logs.configure()
for number in range(100):
    logs.Log("eksgateway").info("a.line", number=number, text="x" * 100)
"""


def test_lines_are_written_together_in_pieces_that_a_pipe_takes_whole() -> None:
    """So that processes with the same standard error do not mix lines."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps the pieces
    with reading, writing:
        subprocess.run([sys.executable, "-c", SHORT], check=True, stderr=writing.fileno(), timeout=60)
        writing.close()
        pieces = list(iter(lambda: reading.recv(1 << 20), b""))
    assert len(pieces) < 50
    assert all(len(piece) <= select.PIPE_BUF and piece.endswith(b"\n") for piece in pieces)
    assert [json.loads(line)["number"] for line in b"".join(pieces).splitlines()] == list(range(100))


HOSTILE = """
import logging, warnings
from eksgateway import logs
logs.configure()
ours, theirs = logs.Log("eksgateway.part"), logging.getLogger("library")

class Unprintable:
    def __repr__(self):
        raise ValueError("two\\nlines")

def log_error(how):
    try:
        raise ValueError("two\\nlines \\ud800")
    except ValueError:
        how()

nested, cyclic = [], []
cyclic.append(cyclic)
for _ in range(100_000):
    nested = [nested]
"""

LINES = {
    "line breaks and what UTF-8 cannot hold": ("ours.info('an.event', v='a\\n\\u2028\\ud800')", "an.event"),
    "a value that has no repr": ("ours.info('an.event', v=Unprintable())", "log.not_encodable"),
    "keys that are no strings": ("ours.info('an.event', v={(1, 2): 3})", "log.not_encodable"),
    "a value in itself": ("ours.info('an.event', v=cyclic)", "log.not_encodable"),
    "a value too deep": ("ours.info('an.event', v=nested)", "log.not_encodable"),
    "a number that JSON does not have": ("ours.info('an.event', v=float('nan'))", "log.not_encodable"),
    "an exception": ("log_error(lambda: ours.exception('an.event'))", "an.event"),
    "another's line breaks": ("theirs.error('one\\n%s', 'two')", "one\ntwo"),
    "another's wrong arguments": ("theirs.error('one %d', 'two')", "log.not_encodable"),
    "another's values": ("theirs.error('one', extra={'values': 5})", "log.not_encodable"),
}


@pytest.mark.parametrize(("call", "event"), LINES.values(), ids=LINES)
def test_every_event_is_one_json_object_on_one_line(call: str, event: str) -> None:
    """A reader loses no line and mistakes no caller's text for a line of the gateway."""
    command = [sys.executable, "-c", HOSTILE + call]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    (line,) = done.stderr.splitlines()
    assert json.loads(line, parse_constant=refuse)["event"] == event
