"""Reads, and behaviour of every call: unmodified boto3 over HTTP against the simulated EKS."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest

from eksgateway.eks.adapter import BotoEks
from eksgateway.errors import (
    EksError,
    EksInvalidParameter,
    EksInvalidRequest,
    EksNotFound,
    EksNotReached,
    EksThrottled,
    EksUnavailable,
    TargetNotConfigured,
    UpstreamCredentials,
)
from eksgateway.model import ClusterRef, Update, UpdateCancellation, UpdateError, UpdateParam, UpdateRef
from support.boto_eks import ACCOUNT, CALLER, REGION, MakeEks, session
from support.clock import NEVER
from support.simulator import SimulatedEks

BLUE = ClusterRef(ACCOUNT, REGION, "blue")


async def test_describe_update_returns_every_member(simulated_eks: SimulatedEks, eks: BotoEks) -> None:
    """Values that no model lists pass unchanged."""
    created = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    update_id = simulated_eks.rollback(
        "blue",
        update_type="TypeOfTomorrow",
        update_status="StatusOfTomorrow",
        params=[{"type": "ParamOfTomorrow", "value": "ünï"}],
        errors=[{"errorCode": "CodeOfTomorrow", "errorMessage": "m", "resourceIds": ["r-1", "r-2"]}],
        cancellation={"status": "Wondering", "reason": "why"},
        created_at=created.isoformat(),
    )
    assert await eks.describe_update(simulated_eks.ref("blue", update_id)) == Update(
        id=update_id,
        status="StatusOfTomorrow",
        type="TypeOfTomorrow",
        params=(UpdateParam("ParamOfTomorrow", "ünï"),),
        created_at=created,
        errors=(UpdateError("CodeOfTomorrow", "m", ("r-1", "r-2")),),
        cancellation=UpdateCancellation("Wondering", "why"),
    )


async def test_describe_cluster_returns_the_facts_of_decisions(
    simulated_eks: SimulatedEks, eks: BotoEks
) -> None:
    """ARN, status, version and tags."""
    simulated_eks.cluster("blue", tags={"env": "prod"}, version="1.34", status="UPDATING")
    facts = await eks.describe_cluster(BLUE)
    assert facts.arn == f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/blue"
    assert (facts.name, facts.status, facts.version) == ("blue", "UPDATING", "1.34")
    assert facts.tags == {"env": "prod"}


async def test_list_clusters_returns_pages_of_one_target(simulated_eks: SimulatedEks, eks: BotoEks) -> None:
    for name in ("blue", "green", "red"):
        simulated_eks.cluster(name)
    simulated_eks.cluster("abroad", region="eu-central-1")
    first, token = await eks.list_clusters(BLUE.target, 2, "")
    rest, end = await eks.list_clusters(BLUE.target, 2, token)
    assert (sorted(first + rest), len(rest), end) == (["blue", "green", "red"], 1, "")


async def test_list_updates_returns_pages_until_the_token_is_empty(
    simulated_eks: SimulatedEks, eks: BotoEks
) -> None:
    """Pages have the requested size."""
    expected = simulated_eks.cluster("blue", updates=[{"status": "Successful"} for _ in range(5)])
    found: list[str] = []
    token = ""
    for size in (2, 2, 1):
        ids, token = await eks.list_updates(BLUE, 2, token)
        assert len(ids) == size
        found += ids
    assert (found, token) == (expected, "")


async def test_list_updates_passes_a_foreign_page_token_to_eks(
    simulated_eks: SimulatedEks, eks: BotoEks
) -> None:
    """EKS refuses it."""
    simulated_eks.cluster("blue")
    with pytest.raises(EksInvalidParameter) as refused:
        await eks.list_updates(BLUE, 2, "forged")
    assert refused.value.metadata == {"eks_code": "InvalidParameterException"}


async def test_a_missing_cluster_is_not_found_with_the_message_of_eks(
    simulated_eks: SimulatedEks, eks: BotoEks
) -> None:
    with pytest.raises(EksNotFound, match="No cluster found for name: blue") as missing:
        await eks.describe_cluster(BLUE)
    assert missing.value.metadata == {"eks_code": "ResourceNotFoundException"}
    assert len(simulated_eks.calls()) == 1


async def test_credentials_of_another_account_return_its_arn(
    simulated_eks: SimulatedEks, make_eks: MakeEks
) -> None:
    """The caller of the adapter can see that it is not the requested cluster."""
    simulated_eks.cluster("blue", account_id="444455556666")
    facts = await make_eks(session("444455556666")).describe_cluster(BLUE)
    assert facts.arn == f"arn:aws:eks:{REGION}:444455556666:cluster/blue"


@pytest.mark.parametrize(
    "cluster",
    [ClusterRef("444455556666", REGION, "blue"), ClusterRef(ACCOUNT, "eu-west-1", "blue")],
    ids=["account", "region"],
)
async def test_a_target_that_is_not_configured_is_refused_without_a_request(
    simulated_eks: SimulatedEks, eks: BotoEks, cluster: ClusterRef
) -> None:
    assert eks.serves(BLUE)
    assert not eks.serves(cluster)
    with pytest.raises(TargetNotConfigured):
        await eks.list_clusters(cluster.target, 10, "")
    for call in make_calls(eks, cluster, "u-1"):
        with pytest.raises(TargetNotConfigured):
            await call()
    assert not simulated_eks.calls()


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "a b", "blue\n", "%2e%2e", "blüe", "x" * 101])
async def test_names_that_are_no_path_segment_are_refused_without_a_request(
    simulated_eks: SimulatedEks, eks: BotoEks, bad: str
) -> None:
    for call in (*make_calls(eks, ClusterRef(ACCOUNT, REGION, bad), "u-1"), *make_calls(eks, BLUE, bad)[2:]):
        with pytest.raises(EksInvalidParameter):
            await call()
    assert not simulated_eks.calls()


def make_calls(eks: BotoEks, cluster: ClusterRef, update_id: str) -> list[Callable[[], Awaitable[object]]]:
    """Every operation; those that name an update come last."""
    ref = UpdateRef(cluster, update_id)
    return [
        lambda: eks.describe_cluster(cluster),
        lambda: eks.list_updates(cluster, 10, ""),
        lambda: eks.describe_update(ref),
        lambda: eks.cancel_update(ref, on_behalf_of=CALLER, token="t", send_before=NEVER),
    ]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 500, "code": "ServerException"}, EksUnavailable),
        ({"status": 502}, EksUnavailable),
        ({"status": 429, "code": "TooManyRequestsException"}, EksThrottled),
        (
            {"status": 400, "code": "InvalidRequestException", "message": "Request limit exceeded"},
            EksThrottled,
        ),
        ({"status": 400, "code": "InvalidRequestException", "message": "No."}, EksInvalidRequest),
        ({"status": 403, "code": "AccessDeniedException"}, UpstreamCredentials),
        ({"status": 403, "code": "ExpiredTokenException"}, UpstreamCredentials),
        ({"drop": "before"}, EksUnavailable),
        ({"drop": "after"}, EksUnavailable),
        ({"delay_s": 1.5}, EksUnavailable),
    ],
    ids=lambda value: "-".join(str(item) for item in value.values()) if isinstance(value, dict) else None,
)
async def test_a_failed_read_raises_the_error_of_the_table_after_one_try(
    simulated_eks: SimulatedEks,
    make_eks: MakeEks,
    fault: dict[str, object],
    expected: type[EksError],
) -> None:
    """The budget makes the second try."""
    simulated_eks.cluster("blue")
    simulated_eks.fault("DescribeCluster", **fault)
    with pytest.raises(EksError) as raised:
        await make_eks(read_timeout_s=0.3 if "delay_s" in fault else 30).describe_cluster(BLUE)
    assert type(raised.value) is expected
    assert len(simulated_eks.calls()) == 1


async def test_a_refused_connection_is_not_reached(make_eks: MakeEks) -> None:
    """The error has no address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        eks = make_eks(endpoint_url=f"http://127.0.0.1:{port}")
        with pytest.raises(EksNotReached) as raised:
            await eks.describe_cluster(BLUE)
    assert str(port) not in f"{raised.value.message}{raised.value.metadata}{raised.value.detail}"


async def test_warm_without_credentials_raises_and_later_calls_look_again(
    simulated_eks: SimulatedEks, make_eks: MakeEks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client made without credentials would never have any."""
    shared = tmp_path / "credentials"
    shared.write_text("")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    simulated_eks.cluster("blue")
    eks = make_eks(credentials=boto3.Session())
    with pytest.raises(UpstreamCredentials):
        await eks.warm()
    shared.write_text(f"[default]\naws_access_key_id = AKIA{ACCOUNT}\naws_secret_access_key = x\n")
    assert (await eks.describe_cluster(ClusterRef(ACCOUNT, REGION, "blue"))).arn


async def test_close_does_not_wait_for_a_credential_process_that_hangs(
    make_eks: MakeEks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, config = tmp_path / "never", tmp_path / "config"
    os.mkfifo(pipe)
    config.write_text(f"[profile hangs]\ncredential_process = cat {pipe}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    eks = make_eks(credentials=boto3.Session(profile_name="hangs"))
    warming = asyncio.create_task(eks.warm())
    writing = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)  # opens once the process reads
    ended = threading.Event()

    def end() -> None:
        ended.set()
        os.close(writing)

    timer = threading.Timer(10, end)  # otherwise a close that waits for it never ends
    timer.start()
    await eks.close()
    assert not ended.is_set()
    timer.cancel()
    end()
    with pytest.raises((UpstreamCredentials, asyncio.CancelledError, EksUnavailable)):
        await warming


async def test_warm_sends_nothing_to_eks(make_eks: MakeEks, simulated_eks: SimulatedEks) -> None:
    await make_eks().warm()
    assert not simulated_eks.calls()


async def test_no_credentials_are_logged_at_debug_level(
    simulated_eks: SimulatedEks, make_eks: MakeEks, caplog: pytest.LogCaptureFixture
) -> None:
    """botocore's debug lines hold signed headers."""
    caplog.set_level(logging.DEBUG)
    simulated_eks.cluster("blue")
    await make_eks(session(token="canary-token")).describe_cluster(BLUE)
    assert "canary-token" not in caplog.text
    assert "Signature=" not in caplog.text


def test_importing_the_adapter_does_not_import_boto3() -> None:
    program = "import sys, eksgateway.eks.adapter; sys.exit('boto3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
