"""The two forms of messages, JSON and binary. The gateway itself gets and sends binary ones."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

from google.protobuf import json_format

from eksgateway.edge.connect_error import refuse
from eksgateway.edge.methods import Method
from eksgateway.errors import RequestInvalid

_FAULT_CHARACTERS = 300


class Codec(ABC):
    """``name`` is the end of the content types."""

    name: str

    @abstractmethod
    def read(self, method: Method, body: bytes) -> bytes:
        """The binary request. Raises ConnectError."""

    @abstractmethod
    def write(self, method: Method, response: bytes) -> bytes: ...


class Binary(Codec):
    name = "proto"

    def read(self, method: Method, body: bytes) -> bytes:  # noqa: ARG002  the gateway parses it
        return body

    def write(self, method: Method, response: bytes) -> bytes:  # noqa: ARG002
        return response


class Json(Codec):
    """proto3 JSON. A field that the request does not have is refused, as a misspelt one would be lost."""

    name = "json"

    def read(self, method: Method, body: bytes) -> bytes:
        message = method.request()
        try:
            json_format.Parse(body, message)
            return message.SerializeToString()
        except Exception as exc:  # noqa: BLE001  of malformed JSON it raises many kinds, AttributeError too
            fault = _describe(exc)
            name = method.request.DESCRIPTOR.name
            raise refuse(RequestInvalid(f"The message is no {name} in JSON: {fault}")) from None

    def write(self, method: Method, response: bytes) -> bytes:
        return to_json(json_format.MessageToDict(method.response.FromString(response)))


def _describe(exc: Exception) -> str:
    if isinstance(exc.__context__, SystemError):  # of a name that has half of a surrogate pair
        return "it is not valid Unicode."
    return " ".join(str(exc).split())[:_FAULT_CHARACTERS]


def to_json(value: object) -> bytes:
    """On one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


CODECS = {codec.name: codec for codec in (Binary(), Json())}
