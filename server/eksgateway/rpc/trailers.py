"""Keeps the trailers of an error small enough for proxies.

nginx takes 4 KB of them (`grpc_buffer_size`) and turns an answer with more into a 502, which clients retry.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias
from urllib.parse import quote

from google.rpc import status_pb2

MAX_BYTES: Final = 3000  # of all trailing metadata together, counted as HTTP/2 does
DETAILS: Final = "grpc-status-details-bin"
_ENTRY_BYTES: Final = 32  # HTTP/2 counts these for each header beside its name and value (RFC 9113, 6.5.2)
# An answer that is an error from its start has these in the same header block.
_ADDED_BY_CORE: Final = ((":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "16"))
_UNESCAPED: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")  # in grpc-message

Trailers: TypeAlias = Sequence[tuple[str, str]]
# The bound is in bytes, for each text of the status.
BuildStatus: TypeAlias = Callable[[int | None], status_pb2.Status]


def fit_status(build: BuildStatus, others: Trailers) -> status_pb2.Status:
    """The status with the longest texts that fit."""
    whole = build(None)
    if _is_small(whole, others) or wire_size(whole, others) <= MAX_BYTES:
        return whole
    fits = bisect.bisect_right(
        range(MAX_BYTES), MAX_BYTES, key=lambda max_bytes: wire_size(build(max_bytes), others)
    )
    return build(fits - 1)


def _is_small(status: status_pb2.Status, others: Trailers) -> bool:
    """Nearly every status is: to count its size exactly takes 16 µs. A character becomes up to 12."""
    known: int = sum(len(name) + len(value) for name, value in others) + 12 * len(status.message)
    size: int = status.ByteSize()
    return known + 2 * size < MAX_BYTES // 2


def wire_size(status: status_pb2.Status, others: Trailers) -> int:
    """In bytes, as clients and proxies count them."""
    details = -(-status.ByteSize() * 4 // 3)  # base64 without padding
    entries = [
        *_ADDED_BY_CORE,
        *others,
        ("grpc-message", quote(status.message, safe=_UNESCAPED)),
        (DETAILS, "x" * details),
    ]
    return sum(len(name) + len(value) + _ENTRY_BYTES for name, value in entries)


def truncate(text: str, max_bytes: int | None) -> str:
    """The text, or its beginning with an ellipsis."""
    encoded = text.encode()
    if max_bytes is None or len(encoded) <= max_bytes:
        return text
    ellipsis = "…"
    left = max_bytes - len(ellipsis.encode())
    return encoded[:left].decode(errors="ignore") + ellipsis if left >= 0 else ""


def truncate_list(texts: Sequence[str], max_bytes: int | None) -> list[str]:
    """The first texts that fit. If the first one alone does not fit, it is truncated."""
    if max_bytes is None:
        return list(texts)
    left = max_bytes
    kept: list[str] = []
    for text in texts:
        left -= len(text.encode()) + 1  # with its separator
        if left < 0:
            break
        kept.append(text)
    if texts and not kept and (first := truncate(texts[0], max_bytes - 1)):
        kept.append(first)
    return kept
