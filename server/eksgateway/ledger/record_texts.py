"""Cancellation records to their texts and back.

The newest are kept with their texts, because decoding one takes 60 µs: an outcome and a poll read what this
process has just written. The key is the whole text, so what another replica has written meanwhile is decoded.
"""

from __future__ import annotations

from threading import Lock
from typing import Final

from eksgateway.ledger.codec import decode, encode
from eksgateway.ledger.projection import CancellationRecord

_KEPT: Final = 128  # some 1 MB

_lock: Final = Lock()
_newest: Final[dict[str, CancellationRecord]] = {}


def encode_record(record: CancellationRecord) -> str:
    text = encode(record)
    with _lock:
        _newest[text] = record
        if len(_newest) > _KEPT:
            del _newest[next(iter(_newest))]
    return text


def decode_record(text: str) -> CancellationRecord:
    """Raises CodecError."""
    return _newest.get(text) or decode(CancellationRecord, text)
