"""The methods that the edge serves, found in the descriptors of their services."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass


@dataclass(frozen=True, slots=True)
class Method:
    """``streams`` means that the answer is a stream."""

    path: str
    request: type[Message]
    response: type[Message]
    streams: bool


def find_methods(services: Iterable[ServiceDescriptor]) -> Mapping[str, Method]:
    """By path. A method with a stream of requests is left out: HTTP/1.1 is half duplex."""
    found = {}
    for service in services:
        for method in service.methods:
            if not method.client_streaming:
                path = f"/{service.full_name}/{method.name}"
                request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
                found[path] = Method(path, request, response, method.server_streaming)
    return found
