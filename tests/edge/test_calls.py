"""Calls over HTTP are those of gRPC: same policy, same answers, same errors."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from google.protobuf import json_format

from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from support.edge import HISTORY, UPDATES, WHY, RunningEdge, frame, read_frame, read_line, update
from support.simulator import SimulatedEks
from support.wire import PRODUCTION


def get_request(update_id: str, cluster: str = "prod-1") -> bytes:
    """A binary GetUpdateRequest or WatchUpdateRequest: both have these fields first."""
    return pb.GetUpdateRequest(
        cluster=update_pb2.ClusterRef(name=cluster), update_id=update_id
    ).SerializeToString()


async def test_denial_names_its_reason(edge: RunningEdge, eks: SimulatedEks) -> None:
    """Nothing is sent to EKS."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    denied = await edge.call("CancelUpdate", update("prod-1", update_id) | {"reason": "bad AMI"})
    assert denied.refusal == (403, "permission_denied", "POLICY_DENIED")
    assert "ticket is required" in str(denied.json["details"])
    assert denied.headers["trailer-eksgateway-decision-id"] in str(denied.json["details"])
    assert not eks.calls("CancelUpdate")


async def test_cancel_is_watched_to_its_end(edge: RunningEdge, eks: SimulatedEks) -> None:
    """By JSON lines, as a shell reads them."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    async with edge.stream(update("prod-1", update_id), edge.viewer) as stream:
        assert stream.headers["content-type"] == "application/x-ndjson"
        assert stream.headers["x-accel-buffering"] == "no"
        assert (await read_line(stream.content))["kind"] == "WATCH_KIND_SNAPSHOT"
        answer = await edge.cancel("prod-1", update_id, requestId="mine")
        assert answer.headers["trailer-eksgateway-request-id"] == "mine"
        eks.advance(86_400)
        last: Any = None
        while (message := await read_line(stream.content)) is not None:
            last = message
        assert (last["kind"], last["phase"]) == ("WATCH_KIND_FINAL", "CANCELLATION_PHASE_CANCELLED")
    assert len(eks.calls("CancelUpdate")) == 1
    got = await edge.call(f"{HISTORY}/GetCancellation", {"requestId": "mine"})
    assert got.json["cancellation"]["phase"] == "CANCELLATION_PHASE_CANCELLED"


async def test_cancel_and_watch_in_frames_ends_with_metadata(edge: RunningEdge, eks: SimulatedEks) -> None:
    update_id = eks.rollback("staging-1")
    request = update("staging-1", update_id) | {"requestId": "mine"}
    async with edge.stream(request, None, "application/connect+json", "CancelUpdateAndWatch") as stream:
        assert stream.headers["content-type"] == "application/connect+json"
        flags, first = await read_frame(stream.content)
        assert flags == 0
        assert json.loads(first)["cancellation"]["requestId"] == "mine"
        eks.advance(86_400)
        while flags == 0:
            flags, last = await read_frame(stream.content)
        assert flags == 2
        assert json.loads(last)["metadata"]["eksgateway-request-id"] == ["mine"]
        assert "error" not in json.loads(last)
        assert stream.content.at_eof() or await stream.content.read() == b""


async def test_same_request_id_by_http_and_grpc_has_one_effect(edge: RunningEdge, eks: SimulatedEks) -> None:
    update_id = eks.rollback("staging-1")
    await edge.gateway.cancel("staging-1", update_id, request_id="mine", **WHY)
    repeated = await edge.cancel("staging-1", update_id, requestId="mine")
    assert repeated.status == 200
    assert len(eks.calls("CancelUpdate")) == 1


async def test_binary_answers_equal_those_in_json(edge: RunningEdge, eks: SimulatedEks) -> None:
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    headers = edge.viewer | {"content-type": "application/proto"}
    binary = await edge.send("POST", f"{UPDATES}/GetUpdate", get_request(update_id), headers)
    assert binary.headers["content-type"] == "application/proto"
    in_json = await edge.call("GetUpdate", update("prod-1", update_id))
    assert json_format.MessageToDict(pb.GetUpdateResponse.FromString(binary.body)) == in_json.json


async def test_gzip_is_taken_and_given(edge: RunningEdge, eks: SimulatedEks) -> None:
    """Given for long answers only."""
    for number in range(12):
        eks.rollback(f"staging-{number}")
    headers = edge.oncall | {"content-type": "application/json", "content-encoding": "gzip"}
    path = f"{UPDATES}/ListCancellableUpdates"
    body = gzip.compress(b"{}")
    plain = await edge.send("POST", path, body, headers)
    async with edge.http.post(
        path, data=body, headers=headers | {"accept-encoding": "br, gzip;q=0.5"}
    ) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert len((await answer.json())["updates"]) == len(plain.json["updates"]) == 12
    refused = await edge.send("POST", path, body, headers | {"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers


async def test_frames_may_be_compressed(edge: RunningEdge, eks: SimulatedEks) -> None:
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    headers = edge.viewer | {
        "content-type": "application/connect+proto",
        "connect-content-encoding": "gzip",
        "connect-accept-encoding": "gzip",
    }
    body = frame(gzip.compress(get_request(update_id)), flags=1)
    async with edge.http.post(f"{UPDATES}/WatchUpdate", data=body, headers=headers) as stream:
        assert stream.headers["connect-content-encoding"] == "gzip"
        flags, first = await read_frame(stream.content)
        message = pb.WatchUpdateResponse.FromString(gzip.decompress(first) if flags else first)
        assert message.kind == pb.WATCH_KIND_SNAPSHOT


@pytest.mark.parametrize("content_type", ["application/json", "application/connect+json"])
async def test_refused_stream_has_the_whole_error(
    edge: RunningEdge, eks: SimulatedEks, content_type: str
) -> None:
    """JSON lines keep the HTTP status; in frames it is 200 by the protocol."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    async with edge.stream(update("prod-1", update_id), edge.outsider, content_type) as stream:
        body = await stream.read()
        if content_type == "application/json":
            assert stream.status == 403
            error = json.loads(body)
            assert stream.headers["trailer-eksgateway-decision-id"]
        else:
            assert stream.status == 200
            assert body[0] == 2
            error = json.loads(body[5:])["error"]
            assert json.loads(body[5:])["metadata"]["eksgateway-decision-id"]
        assert error["code"] == "permission_denied"
        assert error["details"][0]["debug"]["reason"] == "POLICY_DENIED"


async def test_deadline_of_the_client_ends_the_call(edge: RunningEdge, eks: SimulatedEks) -> None:
    """A stream that has begun ends with the error as its last line."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    body = json.dumps(update("prod-1", update_id)).encode()
    headers = edge.viewer | {"content-type": "application/json", "connect-timeout-ms": "2000"}
    async with edge.http.post(f"{UPDATES}/WatchUpdate", data=body, headers=headers) as stream:
        assert stream.status == 200
        lines = (await stream.read()).splitlines()
        assert json.loads(lines[0])["kind"] == "WATCH_KIND_SNAPSHOT"
        assert json.loads(lines[-1])["error"]["code"] == "deadline_exceeded"
    eks.fault("DescribeUpdate", delay_s=20)
    late = await edge.call(
        "GetUpdate", update("staging-1", eks.rollback("staging-1")), connect_timeout_ms="100"
    )
    assert (late.status, late.code) == (504, "deadline_exceeded")


async def test_watch_is_resumed_by_its_token(edge: RunningEdge, eks: SimulatedEks) -> None:
    update_id = eks.rollback("staging-1")
    async with edge.stream(update("staging-1", update_id)) as stream:
        token = (await read_line(stream.content))["resumeToken"]
    await edge.cancel("staging-1", update_id)
    async with edge.stream(update("staging-1", update_id) | {"resumeToken": token}) as stream:
        first = await read_line(stream.content)
        assert int(first["sequence"]) > 1
