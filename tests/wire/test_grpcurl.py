"""The real grpcurl against a running gateway."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support.gateway import RunningGateway

PROTOS = Path(__file__).parents[2] / "protos"

PRODUCTION = {"environment": "production"}


async def run_grpcurl(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        "grpcurl",
        "-plaintext",
        "-max-time",
        "40",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


SYMBOLS = {
    "service": ("eksgateway.v1.CancellationService", "rpc GetCancellation"),
    "method": ("eksgateway.v1.UpdateService.CancelUpdate", "rpc CancelUpdate"),
    "streaming method": (
        "eksgateway.v1.UpdateService.WatchUpdate",
        "stream .eksgateway.v1.WatchUpdateResponse",
    ),
    "method of health": ("grpc.health.v1.Health.Check", "rpc Check"),
    "method of reflection": (
        "grpc.reflection.v1.ServerReflection.ServerReflectionInfo",
        "rpc ServerReflectionInfo",
    ),
    "message": ("eksgateway.v1.Cancellation", "string cancellation_id = 1"),
    "field": ("eksgateway.v1.CancelUpdateRequest.update_id", "string update_id = 2"),
    "enum": ("eksgateway.v1.WatchKind", "WATCH_KIND_FINAL = 4"),
    "enum value": ("eksgateway.v1.WATCH_KIND_FINAL", "WATCH_KIND_FINAL = 4"),
    "enum value by its enum": ("eksgateway.v1.WatchKind.WATCH_KIND_FINAL", "WATCH_KIND_FINAL = 4"),
    "nested enum": ("grpc.health.v1.HealthCheckResponse.ServingStatus", "NOT_SERVING = 2"),
    "nested enum value": ("grpc.health.v1.HealthCheckResponse.SERVING", "SERVING = 1"),
    "nested message": ("google.rpc.BadRequest.FieldViolation", "string field = 1"),
    "message of another file": ("google.protobuf.Timestamp", "int64 seconds = 1"),
    "error details": ("google.rpc.ErrorInfo", "string reason = 1"),
}


@pytest.mark.parametrize(("symbol", "shown"), SYMBOLS.values(), ids=SYMBOLS)
async def test_describe_finds_every_kind_of_symbol(gateway: RunningGateway, symbol: str, shown: str) -> None:
    """Methods too, which protobuf's own pool does not find."""
    code, out, err = await run_grpcurl(gateway.address, "describe", symbol)
    assert (code, err) == (0, "")
    assert shown in " ".join(out.split())


@pytest.mark.parametrize(
    "symbol",
    [
        "eksgateway.v1.UpdateService.Nope",
        "eksgateway.v1.WatchKind.NOPE",
        "eksgateway.v1.Nope",
        "eksgateway.v1.CancelUpdateRequest.nope",
    ],
)
async def test_describe_of_an_unknown_symbol_fails(gateway: RunningGateway, symbol: str) -> None:
    code, out, err = await run_grpcurl(gateway.address, "describe", symbol)
    assert (code, out) == (1, "")
    assert "not found" in err.lower()


async def test_json_names_are_the_same_with_reflection_and_with_protos(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    request = {"cluster": {"name": "prod-1"}, "update_id": update_id}
    header = f"authorization: {dict(gateway.oncall)['authorization']}"
    common = (
        "-H",
        header,
        "-d",
        json.dumps(request),
        gateway.address,
        "eksgateway.v1.UpdateService/GetUpdate",
    )
    protos = ("-import-path", str(PROTOS), "-proto", "eksgateway/v1/update_service.proto")
    answers = [await run_grpcurl(*common), await run_grpcurl(*protos, *common)]
    assert [code for code, _, _ in answers] == [0, 0]
    by_reflection, by_protos = (json.loads(out) for _, out, _ in answers)
    assert by_reflection == by_protos
    assert "createdAt" in by_reflection["update"]


async def call(
    gateway: RunningGateway, who: Any, method: str, request: dict[str, Any]
) -> tuple[int, str, str]:
    """Call a method with JSON, as a person does."""
    header = f"authorization: {dict(who)['authorization']}"
    return await run_grpcurl("-H", header, "-d", json.dumps(request), gateway.address, method)


async def test_list_and_describe_need_no_protos(gateway: RunningGateway) -> None:
    code, out, err = await run_grpcurl(gateway.address, "list")
    assert (code, err) == (0, "")
    assert "eksgateway.v1.UpdateService" in out
    assert "eksgateway.v1.CancellationService" in out
    assert "grpc.health.v1.Health" in out
    code, out, _ = await run_grpcurl(gateway.address, "describe", "eksgateway.v1.CancelUpdateRequest")
    assert code == 0
    assert "string update_id = 2;" in out


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_answers_v1_and_v1alpha(gateway: RunningGateway, version: str) -> None:
    service = f"grpc.reflection.{version}.ServerReflection"
    request = json.dumps({"list_services": ""})
    code, out, err = await run_grpcurl("-d", request, gateway.address, f"{service}/ServerReflectionInfo")
    assert (code, err) == (0, "")
    assert "eksgateway.v1.UpdateService" in out


async def test_cancel_and_watch_run_to_the_end(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    request = {"cluster": {"name": "prod-1"}, "update_id": update_id}
    why = {"reason": "bad AMI", "ticket": "OPS-1"}
    code, out, err = await call(
        gateway, gateway.oncall, "eksgateway.v1.UpdateService/CancelUpdate", request | why
    )
    assert (code, err) == (0, "")
    assert json.loads(out)["cancellation"]["phase"] == "CANCELLATION_PHASE_CANCELLING"
    gateway.eks.advance(86_400)
    code, out, err = await call(gateway, gateway.viewer, "eksgateway.v1.UpdateService/WatchUpdate", request)
    assert (code, err) == (0, "")
    assert "WATCH_KIND_FINAL" in out
    assert "CANCELLATION_PHASE_CANCELLED" in out


async def test_denial_shows_its_details_decoded(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    request = {"cluster": {"name": "prod-1"}, "update_id": update_id, "reason": "bad AMI"}
    code, _, err = await call(gateway, gateway.oncall, "eksgateway.v1.UpdateService/CancelUpdate", request)
    assert code == 64 + 7  # grpcurl: 64 and the status PERMISSION_DENIED
    assert "google.rpc.ErrorInfo" in err
    assert '"reason": "POLICY_DENIED"' in err or '"reason":"POLICY_DENIED"' in err
    assert "ticket" in err
