"""Reads requests, and builds answers and errors, by botocore's model of EKS.

Values of enums are not checked: ``Cancelling`` is missing from the model, and AWS adds values.
https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape


class ModelMismatch(Exception):
    """The simulator built an answer that EKS's model does not describe."""


class BadRequest(Exception):
    """The request does not fit the model."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    status: int
    body: dict[str, Any]
    error: str = ""  # x-amzn-errortype


@cache
def service_model() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("eks", "service-2"), "eks")


def read_request(
    operation: OperationModel, uri: Mapping[str, str], query: Mapping[str, str], body: bytes
) -> dict[str, Any]:
    """The operation's parameters. Raises BadRequest."""
    shape = operation.input_shape
    if shape is None:
        return {}
    document = _document(body)
    sources: dict[str | None, Mapping[str, Any]] = {"uri": uri, "querystring": query, None: document}
    params: dict[str, Any] = {}
    for name, member in shape.members.items():
        location = member.serialization.get("location")
        value = sources[location].get(member.serialization.get("name", name))
        if value is not None:
            params[name] = _number(name, value) if location and member.type_name == "integer" else value
    try:
        # `include` is a list in the query string; it has no effect here.
        to_wire(shape, {name: value for name, value in params.items() if name != "include"})
    except ModelMismatch as exc:
        raise BadRequest(str(exc)) from exc
    return params


def build_answer(operation: OperationModel, result: dict[str, Any]) -> HttpReply:
    if operation.output_shape is None:
        raise ModelMismatch(f"{operation.name} has no output")
    return HttpReply(int(operation.http.get("responseCode", 200)), to_wire(operation.output_shape, result))


def build_error(operation: OperationModel, code: str, members: dict[str, Any]) -> HttpReply:
    """An error that the operation models, with the ``members`` that its shape has."""
    for shape in operation.error_shapes:
        if shape.name == code:
            return _build_modeled(shape, members)
    raise ModelMismatch(f"{operation.name} does not model {code}")


def build_any_error(code: str | None, message: str, status: int | None = None) -> HttpReply:
    """An error with any code or none: AWS sends codes that are not modeled, and botocore accepts them."""
    if code in service_model().shape_names and service_model().shape_for(code).metadata.get("exception"):
        reply = _build_modeled(service_model().shape_for(code), {"message": message})
        return HttpReply(status or reply.status, reply.body, code)
    return HttpReply(status or 400, {"message": message}, code or "")


def to_wire(shape: Shape, value: Any, path: str = "") -> Any:
    """The JSON form of a value. Raises ModelMismatch with its path."""
    if isinstance(shape, StructureShape):
        return _structure(shape, value, path)
    if isinstance(shape, ListShape):
        _expect(isinstance(value, list | tuple), path, "a list", value)
        return [to_wire(shape.member, item, f"{path}[{i}]") for i, item in enumerate(value)]
    if isinstance(shape, MapShape):
        # Only the maximum is checked: EKS sends `"tags": {}` where the model requires at least one.
        fits = isinstance(value, dict) and len(value) <= shape.metadata.get("max", len(value))
        _expect(fits, path, "a map", value)
        return {
            to_wire(shape.key, key, f"{path}.{key}"): to_wire(shape.value, item, f"{path}.{key}")
            for key, item in value.items()
        }
    return _scalar(shape, value, path)


def _structure(shape: StructureShape, value: Any, path: str) -> dict[str, Any]:
    _expect(isinstance(value, dict), path, "a structure", value)
    unknown, missing = value.keys() - shape.members.keys(), set(shape.required_members) - value.keys()
    if unknown or missing:
        raise ModelMismatch(f"{path or shape.name}: unknown {sorted(unknown)}, missing {sorted(missing)}")
    return {
        shape.members[name].serialization.get("name", name): to_wire(
            shape.members[name], item, f"{path}.{name}".lstrip(".")
        )
        for name, item in value.items()
    }


def _scalar(shape: Shape, value: Any, path: str) -> Any:
    low, high = shape.metadata.get("min", 0), shape.metadata.get("max", float("inf"))
    match shape.type_name:
        case "timestamp":
            fits = isinstance(value, datetime) and value.tzinfo is not None
            _expect(fits, path, "an aware datetime", value)
            return value.timestamp()
        case "boolean":
            _expect(isinstance(value, bool), path, "true or false", value)
        case "integer" | "long":
            fits = type(value) is int and low <= value <= high
            _expect(fits, path, f"a number from {low} to {high}", value)
        case "string":
            fits = isinstance(value, str) and low <= len(value) <= high
            _expect(fits, path, f"text of {low} to {high} characters", value)
        case other:
            raise ModelMismatch(f"{path}: shapes of type {other} are not simulated")
    return value


def _expect(holds: bool, path: str, what: str, value: Any) -> None:
    if not holds:
        raise ModelMismatch(f"{path or 'value'}: must be {what}, not {value!r}")


def _build_modeled(shape: Shape, members: dict[str, Any]) -> HttpReply:
    if not isinstance(shape, StructureShape):
        raise ModelMismatch(f"{shape.name} is not a structure")
    known = {name: value for name, value in members.items() if name in shape.members}
    return HttpReply(shape.metadata["error"]["httpStatusCode"], to_wire(shape, known), shape.name)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body) if body.strip() else {}
    except ValueError as exc:
        raise BadRequest("the body is not JSON") from exc
    if not isinstance(document, dict):
        raise BadRequest("the body is not a JSON object")
    return document


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as exc:
        raise BadRequest(f"{name}: must be a number, not {text!r}") from exc
