"""Who may read the API from the server itself: nobody, callers, or everybody, as the setting says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2 as pb

from eksgateway.rpc.methods import REFLECTION
from support.gateway import Running, info, running
from support.simulator import SimulatedEks


async def services(gateway: Running, service: str, metadata: tuple[tuple[str, str], ...] = ()) -> set[str]:
    """What ListServices tells; raises what came back."""
    method = gateway.channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )
    requests = iter([pb.ServerReflectionRequest(list_services="")])
    (answer,) = [answer async for answer in method(requests, metadata=metadata, timeout=20)]
    return {found.name for found in answer.list_services_response.service}


@pytest.mark.parametrize("service", REFLECTION)
async def test_authenticated_reflection_is_for_whoever_proves_who_they_are(
    tmp_path: Path, eks: SimulatedEks, service: str
) -> None:
    """No action is needed for it: an outsider may read it too."""
    async with running(tmp_path, eks, reflection="authenticated") as gateway:
        assert "eksgateway.v1.UpdateService" in await services(gateway, service, gateway.outsider)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await services(gateway, service)
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert info(error.value).reason == "CREDENTIALS_MISSING"


@pytest.mark.parametrize("service", REFLECTION)
async def test_reflection_that_is_off_is_a_method_nobody_knows(
    tmp_path: Path, eks: SimulatedEks, service: str
) -> None:
    """With and without credentials, as any unknown path; tools then say that it is not supported."""
    async with running(tmp_path, eks, reflection="off") as gateway:
        for metadata in ((), gateway.oncall):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await services(gateway, service, metadata)
            assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert info(error.value).reason == "METHOD_UNKNOWN"


@pytest.mark.parametrize(
    ("message", "status", "reason"),
    [
        pytest.param(b"x" * 200_000, "RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE", id="too large"),
        pytest.param(b"\xff\xff\xff", "INVALID_ARGUMENT", "REQUEST_INVALID", id="garbage"),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
async def test_each_message_is_bounded_and_parsed_as_elsewhere(
    gateway: Running, message: bytes, status: str, reason: str, before: int
) -> None:
    """The first one, and one that comes after others."""
    good = pb.ServerReflectionRequest(list_services="*").SerializeToString()
    stream: Any = gateway.channel.stream_stream(f"/{REFLECTION[0]}/ServerReflectionInfo")(timeout=20)
    for _ in range(before):
        await stream.write(good)
        assert await stream.read()
    await stream.write(message)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stream.read()
    assert (error.value.code().name, info(error.value).reason) == (status, reason)
