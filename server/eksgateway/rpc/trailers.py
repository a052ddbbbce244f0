"""Keeps the trailers of an error small enough for the proxies on their way, whatever is in it.

nginx takes 4 KB of them (`grpc_buffer_size`), and makes a 502 of an answer with more, which clients repeat.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from urllib.parse import quote

from google.rpc import status_pb2

MOST_BYTES = 3000  # of all trailing metadata together, counted as HTTP/2 does
_ENTRY_BYTES = 32  # what HTTP/2 counts for each header beside its name and value (RFC 9113, 6.5.2)
# What core adds; an answer that is an error from its start has all of it in one header block.
_ALWAYS = ((":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "16"))
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")  # not escaped in grpc-message

Trailers = Sequence[tuple[str, str]]
# Makes a status whose texts have at most so many bytes each; None for no bound.
Build = Callable[[int | None], status_pb2.Status]


def fitting(build: Build, others: Trailers) -> status_pb2.Status:
    """The status with the longest texts that fit beside the other trailers."""
    whole = build(None)
    if wire_size(whole, others) <= MOST_BYTES:
        return whole
    longest = bisect.bisect_right(
        range(MOST_BYTES), MOST_BYTES, key=lambda most: wire_size(build(most), others)
    )
    return build(longest - 1)


def wire_size(status: status_pb2.Status, others: Trailers) -> int:
    """Bytes of a status and other trailers together, as a client or proxy counts them."""
    details = -(-status.ByteSize() * 4 // 3)  # base64 without padding
    entries = [
        *_ALWAYS,
        *others,
        ("grpc-message", quote(status.message, safe=_PLAIN)),
        ("grpc-status-details-bin", "x" * details),
    ]
    return sum(len(name) + len(value) + _ENTRY_BYTES for name, value in entries)


def cut(text: str, most: int | None) -> str:
    """The text, or as much of its beginning as has at most so many bytes, with an ellipsis."""
    encoded = text.encode()
    if most is None or len(encoded) <= most:
        return text
    mark = "…"
    room = most - len(mark.encode())
    return encoded[:room].decode(errors="ignore") + mark if room >= 0 else ""


def cut_list(texts: Sequence[str], most: int | None) -> list[str]:
    """As many whole texts, from the first, as have at most so many bytes together; a first one that is too
    long is cut.
    """
    if most is None:
        return list(texts)
    kept: list[str] = []
    for text in texts:
        most -= len(text.encode()) + 1  # and what separates it from the next one
        if most < 0:
            break
        kept.append(text)
    if texts and not kept and (first := cut(texts[0], most + len(texts[0].encode()))):
        kept.append(first)
    return kept
