"""gzip, with a bound on what a body inflates to."""

from __future__ import annotations

import zlib
from typing import Final

from eksgateway.edge.connect_error import ConnectError, refuse
from eksgateway.errors import RequestInvalid, RequestTooLarge

GZIP: Final = "gzip"
_WORTH_BYTES: Final = 1024  # shorter messages gain nothing
_WITH_GZIP_HEADER: Final = 31
_LEVEL: Final = 1


def inflate(data: bytes, max_bytes: int) -> bytes:
    """Raises ConnectError for data that is no gzip, is cut, or inflates to more than ``max_bytes``."""
    inflating = zlib.decompressobj(_WITH_GZIP_HEADER)
    try:
        inflated = inflating.decompress(data, max_bytes + 1)
    except zlib.error:
        raise refuse(RequestInvalid("The message is not valid gzip.")) from None
    if len(inflated) > max_bytes:
        raise too_large(max_bytes)
    if not inflating.eof or inflating.unused_data:
        raise refuse(RequestInvalid("The message is not one whole gzip stream."))
    return inflated


def deflate(data: bytes) -> bytes | None:
    """None for data that is too short to be worth it."""
    if len(data) < _WORTH_BYTES:
        return None
    deflating = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WITH_GZIP_HEADER)
    return deflating.compress(data) + deflating.flush()


def too_large(max_bytes: int) -> ConnectError:
    return refuse(RequestTooLarge(f"The message is over {max_bytes} bytes."))


def accepts_gzip(header: str) -> bool:
    """``header`` is the value of Accept-Encoding or Connect-Accept-Encoding."""
    for each in header.lower().split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        if name == GZIP:
            return not any(part.startswith("q=") and not part[2:].strip("0.") for part in parameters)
    return False
