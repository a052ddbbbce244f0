"""Reflection by setting: off, for callers, or open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2 as pb

from eksgateway.rpc.methods import REFLECTION
from support.gateway import RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.wire import Refusal, expect_refusal


async def services(
    gateway: RunningGateway, service: str, metadata: tuple[tuple[str, str], ...] = ()
) -> set[str]:
    """The answer of ListServices; raises its error."""
    method = gateway.channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )
    requests = iter([pb.ServerReflectionRequest(list_services="")])
    (answer,) = [answer async for answer in method(requests, metadata=metadata, timeout=20)]
    return {found.name for found in answer.list_services_response.service}


async def read_refusal(
    gateway: RunningGateway, service: str, metadata: tuple[tuple[str, str], ...] = ()
) -> Refusal:
    """Open a stream that is refused before its first message.

    No message is sent: grpc.aio's client would report its own failure to send as the call's status.
    """
    stream: Any = gateway.channel.stream_stream(f"/{service}/ServerReflectionInfo")(
        metadata=metadata, timeout=20
    )
    return await expect_refusal(stream.read())


@pytest.mark.parametrize("service", REFLECTION)
async def test_authenticated_reflection_needs_credentials_and_no_action(
    tmp_path: Path, eks: SimulatedEks, service: str
) -> None:
    async with run_gateway(tmp_path, eks, reflection="authenticated") as gateway:
        assert "eksgateway.v1.UpdateService" in await services(gateway, service, gateway.outsider)
        refusal = await read_refusal(gateway, service)
        assert refusal.status_and_reason == ("UNAUTHENTICATED", "CREDENTIALS_MISSING")


@pytest.mark.parametrize("service", REFLECTION)
async def test_reflection_off_is_an_unknown_method(tmp_path: Path, eks: SimulatedEks, service: str) -> None:
    async with run_gateway(tmp_path, eks, reflection="off") as gateway:
        for metadata in ((), gateway.oncall):
            refusal = await read_refusal(gateway, service, metadata)
            assert refusal.status_and_reason == ("UNIMPLEMENTED", "METHOD_UNKNOWN")


@pytest.mark.parametrize(
    ("message", "status", "reason"),
    [
        pytest.param(b"x" * 200_000, "RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE", id="too large"),
        pytest.param(b"\xff\xff\xff", "INVALID_ARGUMENT", "REQUEST_INVALID", id="garbage"),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
async def test_each_message_is_bounded_and_validated(
    gateway: RunningGateway, message: bytes, status: str, reason: str, before: int
) -> None:
    """The first one and later ones."""
    good = pb.ServerReflectionRequest(list_services="*").SerializeToString()
    stream: Any = gateway.channel.stream_stream(f"/{REFLECTION[0]}/ServerReflectionInfo")(timeout=20)
    for _ in range(before):
        await stream.write(good)
        assert await stream.read()
    await stream.write(message)
    assert (await expect_refusal(stream.read())).status_and_reason == (status, reason)


async def reflect(gateway: RunningGateway, **request: Any) -> pb.ServerReflectionResponse:
    """The answer to one request of reflection."""
    method = gateway.channel.stream_stream(
        f"/{REFLECTION[0]}/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )
    (answer,) = [one async for one in method(iter([pb.ServerReflectionRequest(**request)]), timeout=20)]
    assert isinstance(answer, pb.ServerReflectionResponse)
    return answer


FOUND: dict[str, dict[str, Any]] = {
    "file": {"file_by_filename": "eksgateway/v1/update_service.proto"},
    "message": {"file_containing_symbol": "eksgateway.v1.CancelUpdateRequest"},
    "method": {"file_containing_symbol": "eksgateway.v1.UpdateService.CancelUpdate"},
    "field": {"file_containing_symbol": "eksgateway.v1.CancelUpdateRequest.update_id"},
}


@pytest.mark.parametrize("request_", FOUND.values(), ids=FOUND)
async def test_file_is_sent_with_its_dependencies_and_json_names(
    gateway: RunningGateway, request_: dict[str, Any]
) -> None:
    """By its name and by any symbol in it."""
    answer = await reflect(gateway, **request_)
    raw = answer.file_descriptor_response.file_descriptor_proto
    files = {file.name: file for file in map(descriptor_pb2.FileDescriptorProto.FromString, raw)}
    assert len(files) == len(raw)
    assert {"eksgateway/v1/update_service.proto", "google/protobuf/timestamp.proto"} <= set(files)
    assert all(set(file.dependency) <= set(files) for file in files.values())
    messages = [message for file in files.values() for message in file.message_type]
    names = {field.name: field.json_name for message in messages for field in message.field}
    assert (names["update_id"], names["cluster"], names["created_at"]) == ("updateId", "cluster", "createdAt")
    assert all(names.values())


async def test_v1_has_the_file_name_of_its_specification(gateway: RunningGateway) -> None:
    for request in (
        {"file_containing_symbol": "grpc.reflection.v1.ServerReflection"},
        {"file_by_filename": "grpc/reflection/v1/reflection.proto"},
    ):
        (raw,) = (await reflect(gateway, **request)).file_descriptor_response.file_descriptor_proto
        name = descriptor_pb2.FileDescriptorProto.FromString(raw).name
        assert name == "grpc/reflection/v1/reflection.proto"


NOT_FOUND: dict[str, dict[str, Any]] = {
    "file": {"file_by_filename": "no/such.proto"},
    "symbol": {"file_containing_symbol": "eksgateway.v1.Nope"},
    "method": {"file_containing_symbol": "eksgateway.v1.UpdateService.Nope"},
    "package": {"file_containing_symbol": "eksgateway.v1"},
    "nothing": {"file_containing_symbol": ""},
    "extension": {
        "file_containing_extension": {
            "containing_type": "google.protobuf.MethodOptions",
            "extension_number": 7,
        }
    },
    "type of extensions": {"all_extension_numbers_of_type": "no.such.Type"},
}


@pytest.mark.parametrize("request_", NOT_FOUND.values(), ids=NOT_FOUND)
async def test_unknown_symbol_is_reported_in_the_message(
    gateway: RunningGateway, request_: dict[str, Any]
) -> None:
    """The stream goes on."""
    answer = await reflect(gateway, **request_)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_extension_numbers_are_listed(gateway: RunningGateway) -> None:
    answer = await reflect(gateway, all_extension_numbers_of_type="eksgateway.v1.CancelUpdateRequest")
    found = answer.all_extension_numbers_response
    assert (found.base_type_name, list(found.extension_number)) == ("eksgateway.v1.CancelUpdateRequest", [])
