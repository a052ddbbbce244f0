"""HTTP headers to gRPC metadata, and back."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final

from eksgateway.edge.connect_error import refuse
from eksgateway.errors import RequestInvalid
from eksgateway.rpc.context import Metadata

if TYPE_CHECKING:
    from multidict import CIMultiDict, CIMultiDictProxy

# Of HTTP, of browsers, of the gateway's own, or none for gRPC: calls do not get them.
_NOT_PASSED: Final = re.compile(
    r"host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|date|via|forwarded|origin|referer"
    r"|-bin|cookie|pragma|cache-control|user-agent|dnt|priority|range|upgrade-insecure-requests"
    r"|(?:accept|access-control|connect|content|eksgateway|grpc|if|proxy|sec|x-forwarded)(?:-.*)?"
)
_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")


def read_metadata(headers: CIMultiDictProxy[str]) -> list[tuple[str, str | bytes]]:
    """Raises ConnectError for credentials that gRPC cannot carry; drops other such headers."""
    metadata: list[tuple[str, str | bytes]] = []
    for name, value in headers.items():
        key = name.lower()
        if _NOT_PASSED.fullmatch(key) or not _KEY.fullmatch(key):
            continue
        if key.endswith("-bin"):
            metadata += [(key, _decode(key, each.strip())) for each in value.split(",")]
        elif _VALUE.fullmatch(value):
            metadata.append((key, value))
        elif key == "authorization":
            raise refuse(RequestInvalid("`authorization` has characters that are not printable ASCII."))
    return metadata


def add_headers(headers: CIMultiDict[str], metadata: Metadata, prefix: str = "") -> None:
    for key, value in metadata:
        headers.add(prefix + key, _encode(value))


def to_lists(metadata: Metadata) -> dict[str, list[str]]:
    """The form of the message that ends a stream."""
    lists: dict[str, list[str]] = {}
    for key, value in metadata:
        lists.setdefault(key, []).append(_encode(value))
    return lists


def _encode(value: str | bytes) -> str:
    return value if isinstance(value, str) else base64.b64encode(value).decode().rstrip("=")


def _decode(key: str, value: str) -> bytes:
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise refuse(RequestInvalid(f"The header `{key}` is not base64.")) from None
