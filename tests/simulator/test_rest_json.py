"""Answers and errors are built from botocore's model."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.model import OperationModel, Shape
from botocore.parsers import create_parser
from botocore.validate import ParamValidator

from eksgateway.simulator import rest_json
from eksgateway.simulator.operations import BY_NAME

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
UPDATE = {
    "id": "u-1",
    "status": "Cancelling",
    "type": "VersionRollback",
    "params": [{"type": "Version", "value": "1.33"}],
    "createdAt": NOW,
    "errors": [{"errorCode": "Unknown", "errorMessage": "no", "resourceIds": ["a", "b"]}],
    "cancellation": {"status": "InProgress", "reason": "asked"},
}
CLUSTER = {
    "name": "c",
    "arn": "arn:aws:eks:us-east-1:111122223333:cluster/c",
    "createdAt": NOW,
    "version": "1.34",
    "status": "ACTIVE",
    "tags": {"environment": "production"},
    "computeConfig": {"enabled": True},
}
RESULTS: dict[str, dict[str, Any]] = {
    "CancelUpdate": {"update": UPDATE},
    "DescribeCluster": {"cluster": CLUSTER},
    "DescribeUpdate": {"update": UPDATE},
    "ListClusters": {"clusters": ["a", "b"], "nextToken": "t"},
    "ListUpdates": {"updateIds": ["a"], "nextToken": "t"},
    "UpdateClusterVersion": {"update": UPDATE},
}


def output(operation: str) -> Shape:
    shape = model(operation).output_shape
    assert shape is not None
    return shape


def model(operation: str) -> OperationModel:
    return rest_json.service_model().operation_model(operation)


@pytest.mark.parametrize("operation", BY_NAME)
def test_botocore_validates_and_parses_every_answer(operation: str) -> None:
    shape = output(operation)
    reply = rest_json.build_answer(model(operation), RESULTS[operation])
    assert not ParamValidator().validate(RESULTS[operation], shape).has_errors()
    assert reply.status == 200
    parsed = create_parser("rest-json").parse(_http(reply), shape)
    assert {key: value for key, value in parsed.items() if key != "ResponseMetadata"} == RESULTS[operation]


@pytest.mark.parametrize("operation", BY_NAME)
def test_build_answer_raises_for_an_unknown_member(operation: str) -> None:
    with pytest.raises(rest_json.ModelMismatch, match="surprise"):
        rest_json.build_answer(model(operation), {**RESULTS[operation], "surprise": 1})


@pytest.mark.parametrize(
    ("operation", "code"),
    [(name, shape.name) for name in BY_NAME for shape in model(name).error_shapes],
)
def test_build_error_has_the_status_and_members_of_the_model(operation: str, code: str) -> None:
    reply = rest_json.build_error(
        model(operation), code, {"message": "why", "clusterName": "c", "other": "dropped"}
    )
    shape = next(shape for shape in model(operation).error_shapes if shape.name == code)
    assert reply.status == shape.metadata["error"]["httpStatusCode"]
    assert "other" not in reply.body
    parsed = create_parser("rest-json").parse(_http(reply), output(operation))
    assert (parsed["Error"]["Code"], parsed["Error"]["Message"]) == (code, "why")


def test_build_error_raises_for_a_code_that_is_not_modeled() -> None:
    with pytest.raises(rest_json.ModelMismatch, match="ThrottlingException"):
        rest_json.build_error(model("DescribeUpdate"), "ThrottlingException", {"message": ""})


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("ThrottlingException", None, 429),
        ("ServerException", None, 500),
        ("ThrottlingException", 400, 400),
        ("TooManyRequestsException", None, 400),
        ("TooManyRequestsException", 429, 429),
        (None, 502, 502),
        ("Update", None, 400),
    ],
)
def test_build_any_error_accepts_every_code(code: str | None, status: int | None, expected: int) -> None:
    """A modeled code has the status of the model by default."""
    reply = rest_json.build_any_error(code, "why", status)
    assert (reply.status, reply.error, reply.body["message"]) == (expected, code or "", "why")


@pytest.mark.parametrize(
    ("shape", "value", "place"),
    [
        pytest.param("Update", {"id": 7}, "id: must be text", id="text"),
        pytest.param("Update", {"createdAt": "now"}, "createdAt: must be an aware datetime", id="timestamp"),
        pytest.param("Update", {"createdAt": datetime(2026, 1, 1)}, "aware", id="naive"),  # noqa: DTZ001 the point
        pytest.param("Update", {"params": {}}, "params: must be a list", id="list"),
        pytest.param(
            "Update", {"params": [{"type": "Version"}, []]}, r"params\[1\]: must be a structure", id="item"
        ),
        pytest.param("Update", {"errors": [{"code": 1}]}, r"errors\[0\]: unknown \['code'\]", id="nested"),
        pytest.param("Cluster", {"tags": ["a"]}, "tags: must be a map", id="map"),
        pytest.param("TagMap", {"": "v"}, "must be text of 1 to 128", id="short"),
        pytest.param("TagMap", {"k": "v" * 257}, "must be text of 0 to 256", id="long"),
        pytest.param("TagMap", {str(n): "" for n in range(51)}, "must be a map", id="large"),
        pytest.param("ComputeConfigResponse", {"enabled": 1}, "true or false", id="boolean"),
        pytest.param("ListUpdatesRequestMaxResults", 101, "from 1 to 100", id="high"),
        pytest.param("ListUpdatesRequestMaxResults", True, "a number", id="bool as number"),
        pytest.param("DescribeUpdateRequest", {"name": "c"}, r"missing \['updateId'\]", id="required"),
    ],
)
def test_to_wire_raises_with_the_path_of_an_invalid_value(shape: str, value: Any, place: str) -> None:
    with pytest.raises(rest_json.ModelMismatch, match=place):
        rest_json.to_wire(rest_json.service_model().shape_for(shape), value)


@pytest.mark.parametrize(
    ("query", "body", "wrong"),
    [
        ({"maxResults": "many"}, b"", "maxResults"),
        ({"maxResults": "0"}, b"", "maxResults"),
        ({"maxResults": "101"}, b"", "maxResults"),
        ({}, b"{", "not JSON"),
        ({}, b"[]", "not a JSON object"),
        ({}, b"\xff", "not JSON"),
    ],
)
def test_read_request_raises_with_the_reason(query: dict[str, str], body: bytes, wrong: str) -> None:
    with pytest.raises(rest_json.BadRequest, match=wrong):
        rest_json.read_request(model("ListUpdates"), {"name": "c"}, query, body)


def _http(reply: rest_json.HttpReply) -> dict[str, Any]:
    headers = {"x-amzn-errortype": reply.error} if reply.error else {}
    return {"status_code": reply.status, "headers": headers, "body": json.dumps(reply.body).encode()}
