"""`eksgateway policy test` and `diff`: what is said to inputs, and to recorded cancels by other data."""

from __future__ import annotations

import copy
import json
import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from typer.testing import CliRunner

from eksgateway import model
from eksgateway.cli.main import app
from eksgateway.clock import SystemClock
from eksgateway.ledger.codec import decode
from eksgateway.ledger.listing import read_denials, read_events
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.settings import LedgerSettings
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.changing_policy import compiled, own_rego
from support.gateway import ACCOUNT, POLICY_DATA, REGION, Running, running
from support.questions import at_request, at_update, caller
from support.records import intent
from support.simulator import SimulatedEks

Data = dict[str, Any]
ALICE = caller("jwt:test:alice", "test:oncall", "test:viewers")
YEAR_END = {
    "id": "year-end",
    "clusters": ["prod-*"],
    "from": "2026-11-01T00:00:00Z",
    "until": "2027-01-01T00:00:00Z",
}


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["policy", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def write(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_example_of_an_input_is_decided(tmp_path: Path) -> None:
    """By the example of data: allowed, and held back while its freeze lasts."""
    policies = Path(__file__).parents[2] / "policies"
    text = (policies / "input.example.yaml").read_text()
    for day, told in (("12-01", "allowed by platform-oncall"), ("12-24", "denied by year-end")):
        file = tmp_path / "input.yaml"
        file.write_text(text.replace("2026-12-01", f"2026-{day}"))
        code, out, err = run("test", file, "--data", policies / "data.example.yaml")
        assert (code, err) == (0, "")
        assert told in out


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The grants of the wire tests, and a freeze."""
    content = copy.deepcopy(POLICY_DATA)
    content["eksgateway"]["freezes"] = [YEAR_END]
    return write(tmp_path / "data.yaml", content)


FROZEN = at_request(ALICE)
THAWED = at_request(ALICE, time=datetime(2027, 1, 1, tzinfo=UTC))
STAGING = at_update(at_request(ALICE, cluster="staging-1", ticket=""), "AddonUpdate")
STRANGER = at_request(caller("jwt:test:bob"))

EXPLAINED: dict[str, tuple[Data, str]] = {
    "frozen": (
        FROZEN.to_input(),
        """\
1. jwt:test:alice, cancel on 111122223333/us-east-1/prod-1, stage request, at 2026-11-22T10:00:00Z
   denied by year-end
     Freeze year-end forbids cancel on this cluster until 2027-01-01T00:00:00Z.
   Grants that cover this caller and cluster: 2
     oncall: allows this
     viewers: Grant viewers does not allow cancel.
""",
    ),
    "past the freeze": (
        THAWED.to_input(),
        """\
1. jwt:test:alice, cancel on 111122223333/us-east-1/prod-1, stage request, at 2027-01-01T00:00:00Z
   allowed by oncall
     Grant oncall allows this.
   Grants that cover this caller and cluster: 2
     oncall: allows this
     viewers: Grant viewers does not allow cancel.
""",
    ),
    "wrong type": (
        STAGING.to_input(),
        """\
1. jwt:test:alice, cancel on 111122223333/us-east-1/staging-1/u-1, stage update, at 2026-11-22T10:00:00Z
   denied by staging
     Grant staging allows cancel for updates of type VersionRollback or VersionUpdate only.
   Grants that cover this caller and cluster: 2
     staging: Grant staging allows cancel for updates of type VersionRollback or VersionUpdate only.
     viewers: Grant viewers does not allow cancel.
""",
    ),
    "nobody's": (
        STRANGER.to_input(),
        """\
1. jwt:test:bob, cancel on 111122223333/us-east-1/prod-1, stage request, at 2026-11-22T10:00:00Z
   denied
     You have no grant on this cluster.
   Grants that cover this caller and cluster: none
""",
    ),
}


@pytest.mark.parametrize(("document", "told"), EXPLAINED.values(), ids=EXPLAINED)
def test_an_input_is_decided_and_explained(tmp_path: Path, data: Path, document: Data, told: str) -> None:
    """The decision with its rules and reasons, and what each grant that covers it would say by itself."""
    file = write(tmp_path / "input.yaml", document)
    assert run("test", file, "--data", data) == (0, told, "")


def lines(documents: list[Data]) -> str:
    return "".join(json.dumps(each) + "\n" for each in documents)


FORMS: dict[str, Callable[[list[Data]], str]] = {
    "yaml": yaml.safe_dump,
    "json": json.dumps,
    "json lines": lines,
    "opa's decision log": lambda documents: lines([{"req_id": 7, "input": each} for each in documents]),
    "the ledger's decision log": lambda documents: lines([{"policy_input": each} for each in documents]),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_inputs_come_in_every_form_that_logs_and_people_write(
    tmp_path: Path, data: Path, form: Callable[[list[Data]], str]
) -> None:
    """One after the other, numbered."""
    file = tmp_path / "inputs"
    file.write_text(form([FROZEN.to_input(), STRANGER.to_input(), THAWED.to_input()]))
    code, told, _ = run("test", file, "--data", data)
    assert code == 0
    assert re.findall(r"^([0-9])\..*\n   (denied|allowed)", told, re.MULTILINE) == [
        ("1", "denied"),
        ("2", "denied"),
        ("3", "allowed"),
    ]


BY_HAND = """\
subject: {type: jwt, id: jwt:test:alice, properties: {issuer: x, groups: [test:oncall], via: null}}
action: {name: cancel, properties: {reason: bad AMI, ticket: OPS-12}}
resource:
  type: eks_cluster
  id: here
  properties: {account_id: 111122223333, region: us-east-1, cluster: prod-1}
context: {stage: request, time: 2026-11-22T10:00:00Z}
"""


def test_an_input_written_by_hand_needs_no_quotes_and_no_ids(tmp_path: Path, data: Path) -> None:
    """An account and a time are text whatever YAML makes of them."""
    file = tmp_path / "input.yaml"
    file.write_text(BY_HAND)
    assert "denied by year-end" in run("test", file, "--data", data)[1]
    file.write_text(BY_HAND.replace(", time: 2026-11-22T10:00:00Z", ""))
    now = datetime.now(UTC).strftime("%Y-%m-%dT")
    assert f"stage request, at {now}" in run("test", file, "--data", data)[1]


def test_the_grants_of_a_large_file_are_searched_by_halves(tmp_path: Path) -> None:
    """Those that cover the caller are found among many, and no other."""
    staging = POLICY_DATA["eksgateway"]["grants"][1]
    grants = [{**staging, "id": f"g-{n}", "groups": [f"test:{n}"]} for n in range(300)]
    grants[17]["groups"] = grants[299]["groups"] = ["test:oncall"]
    data = write(tmp_path / "data.yaml", {"eksgateway": {"grants": grants}})
    file = write(tmp_path / "input.yaml", at_request(ALICE, cluster="staging-1").to_input())
    code, told, _ = run("test", file, "--data", data)
    assert code == 0
    assert re.findall(r"^     (g-[0-9]+): allows this", told, re.MULTILINE) == ["g-17", "g-299"]


UNUSABLE: dict[str, tuple[str, str]] = {
    "missing": ("", "cannot be read: No such file"),
    "no input": ("[]", "holds no inputs"),
    "no object": ("- 5\n- x", "input 2: $: 'x' is not of type 'object'"),
    "misspelt": (BY_HAND.replace("stage: request", "stage: reqest"), "input 1: context.stage: 'reqest'"),
    "no YAML": ("a: [", "is not YAML"),
}


@pytest.mark.parametrize(("text", "fault"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_file_without_inputs_is_told_with_its_faults(
    tmp_path: Path, data: Path, text: str, fault: str
) -> None:
    """Exit 2, nothing decided, no traceback."""
    file = tmp_path / "input.yaml"
    if text:
        file.write_text(text)
    code, told, error = run("test", file, "--data", data)
    assert (code, told) == (2, "")
    assert str(file) in error
    assert fault in error


def test_the_data_may_be_that_of_a_gateways_settings(tmp_path: Path, data: Path) -> None:
    """Its own module included; without either, it is said what to give."""
    config = {
        "identity": {"jwt": {"issuers": [{"name": "n", "issuer": "i", "audience": "a", "jwks": "j.json"}]}},
        "policy": {"data": data.name},
        "ledger": {"path": "ledger.db"},
        "eks": {"targets": [{"account_id": ACCOUNT, "region": REGION}]},
    }
    file = write(tmp_path / "input.yaml", FROZEN.to_input())
    settings = write(tmp_path / "config.yaml", config)
    assert "denied by year-end" in run("test", file, "--config", settings)[1]
    config["policy"] = {"data": data.name, "module": "missing.wasm"}
    code, _, error = run("test", file, "--config", write(settings, config))
    assert code == 2
    assert "missing.wasm: cannot be read" in error
    code, _, error = run("test", file)
    assert code == 2
    assert "--data FILE" in error


# -- diff -----------------------------------------------------------------------------------------


@pytest.fixture
async def ledger(tmp_path: Path) -> Path:
    """What a gateway recorded: two cancels, and three that were denied, one of them at stage update."""
    home = tmp_path / "gateway"
    home.mkdir()
    async with SimulatedEks() as eks, running(home, eks) as gateway:
        production = eks.rollback("prod-1", tags={"environment": "production"})
        staging = eks.rollback("staging-1")
        odd = eks.rollback("prod-2", tags={"environment": "odd"})
        await denied(gateway, "prod-1", production, ticket="")
        await denied(gateway, "staging-1", staging, who=gateway.viewer)
        await denied(gateway, "prod-2", odd)
        await gateway.cancel("prod-1", production)
        await gateway.cancel("staging-1", staging, reason="", ticket="")
    return home / "ledger.db"


async def denied(gateway: Running, *call: Any, **fields: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await gateway.cancel(*call, **fields)
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


def candidate(tmp_path: Path, change: Callable[[Data], object], name: str = "new.yaml") -> Path:
    """The data that the cancels were decided by, changed."""
    content = copy.deepcopy(POLICY_DATA["eksgateway"])
    change(content)
    return write(tmp_path / name, {"eksgateway": content})


def freeze(begins: int, ends: int) -> Callable[[Data], object]:
    """Forbid everything, from so many hours to so many hours from now."""
    now = datetime.now(UTC)
    window = [(now + timedelta(hours=each)).strftime("%Y-%m-%dT%H:%M:%SZ") for each in (begins, ends)]
    entry = {"id": "f", "clusters": ["*"], "from": window[0], "until": window[1]}
    return lambda content: content.update(freezes=[entry])


def without_tickets(content: Data) -> None:
    del content["grants"][0]["require"]


def both_ways(content: Data) -> None:
    del content["grants"][1]
    without_tickets(content)


def for_viewers(content: Data) -> None:
    content["grants"][1]["groups"].append("test:viewers")


def with_odd_tags(content: Data) -> None:
    content["grants"][0]["tags"]["environment"].append("odd")


CHANGES: dict[str, tuple[Callable[[Data], object], list[str]]] = {
    "nothing": (lambda _: None, []),
    "a grant renamed": (lambda content: content["grants"][0].update(id="other"), []),
    "a grant removed": (lambda content: content["grants"].pop(1), ["allowed → denied staging-1"]),
    "a type removed": (
        lambda content: content["grants"][0].update(update_types=["VersionUpdate"]),
        ["allowed → denied prod-1"],
    ),
    "a ticket no longer asked for": (without_tickets, ["denied → allowed prod-1"]),
    "viewers let in": (for_viewers, ["denied → allowed staging-1"]),
    "another tag taken": (with_odd_tags, ["denied → allowed prod-2"]),
    "a freeze at that time": (freeze(-1, 1), ["allowed → denied prod-1", "allowed → denied staging-1"]),
    "a freeze before": (freeze(-3, -2), []),
    "a freeze after": (freeze(1, 2), []),
    "both ways": (
        both_ways,
        ["allowed → denied staging-1", "denied → allowed prod-1"],
    ),
}


async def test_every_recorded_decision_that_would_change_is_told(tmp_path: Path, ledger: Path) -> None:
    """Both ways, each judged by its own facts at its own time; the exit code says whether any did."""
    for name, (change, expected) in CHANGES.items():
        code, told, error = run("diff", "--data", candidate(tmp_path, change), "--ledger", ledger)
        found = re.findall(r"^(\w+ → \w+): .* on [^ ]*us-east-1/([a-z0-9-]+)", told, re.MULTILINE)
        assert [f"{each} {cluster}" for each, cluster in found] == expected, name
        assert (code, error) == (1 if expected else 0, ""), name
        denied = sum(each.startswith("allowed") for each in expected)
        assert told.splitlines()[-1] == (
            f"5 recorded decisions: {denied} would be denied that were allowed,"
            f" {len(expected) - denied} would be allowed that were denied."
        )


async def test_a_change_is_told_with_its_reasons(tmp_path: Path, ledger: Path) -> None:
    """Before and after; and what an allow at stage request leaves open."""
    _, told, _ = run("diff", "--data", candidate(tmp_path, both_ways), "--ledger", ledger)
    first, second = re.split(r"^(?=\w+ → )", told, flags=re.MULTILINE)[1:]
    assert re.search(r"^   cancellation [0-9a-f-]{36}$", first, re.MULTILINE)
    assert "   before: allowed by staging\n" in first
    assert "   after: denied\n   after:   You have no grant on this cluster.\n" in first
    assert "   before: denied by oncall\n   before:   A ticket is required by grant oncall.\n" in second
    assert "   after: allowed by oncall\n" in second
    assert "It was denied before EKS was asked" in second


async def test_what_a_cancel_with_a_watch_needed_is_decided_again_as_it_was_asked(tmp_path: Path) -> None:
    """Both its actions, under its own method."""
    home = tmp_path / "gateway"
    home.mkdir()
    async with SimulatedEks() as eks, running(home, eks) as gateway:
        update_id = eks.rollback("staging-1")
        request = pb.CancelUpdateAndWatchRequest(
            cluster=ClusterRef(name="staging-1"), update_id=update_id, request_id="first"
        )
        stream = gateway.updates.CancelUpdateAndWatch(request, metadata=gateway.oncall, timeout=40)
        await stream.read()
        stream.cancel()
    (kept,) = [
        decode(model.Intent, each.body) for each in read_events(home / "ledger.db") if each.kind == "intent"
    ]
    assert kept.decision_time is not None
    assert kept.decision_time <= kept.time
    asked_as_it_was = 'allowed if {\n\tendswith(input.context.method, "/CancelUpdateAndWatch")'
    module = compiled(own_rego(tmp_path, "\nallowed if {", f"\n{asked_as_it_was}"), tmp_path)
    for change, expected in (
        (lambda _: None, []),
        (lambda content: content["grants"][1]["actions"].remove("watch"), ["watch"]),
        (lambda content: content["grants"].pop(1), ["cancel", "watch"]),
    ):
        data = candidate(tmp_path, change)
        _, told, error = run("diff", "--data", data, "--ledger", home / "ledger.db", "--module", module)
        assert error == ""
        assert re.findall(r"^allowed → denied: jwt:test:oncall, (\w+) on ", told, re.MULTILINE) == expected
        assert told.splitlines()[-1].startswith(f"2 recorded decisions: {len(expected)} would be denied")


async def test_a_cancel_is_decided_again_at_the_time_of_its_decision(tmp_path: Path) -> None:
    """A freeze may begin between that and the record."""
    edge = datetime(2026, 5, 1, tzinfo=UTC)
    moment = timedelta(milliseconds=10)
    where = model.ClusterRef("111122223333", "us-east-1", "staging-1")
    recorded = intent(
        caller=caller("jwt:test:oncall", "test:oncall"),
        request=model.CancelRequest(model.UpdateRef(where, "u-1")),
        decision_time=edge - moment,
        time=edge + moment,
    )
    settings = LedgerSettings(path=tmp_path / "ledger.db")
    kept = await open_ledger(settings, SystemClock())
    await kept.commit_intent(recorded)
    await kept.close()
    for begins, changed in ((edge, 0), (edge - timedelta(seconds=1), 1)):
        times = [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (begins, begins + timedelta(hours=1))]
        entry = {"id": "f", "clusters": ["*"], "from": times[0], "until": times[1]}
        data = candidate(tmp_path, lambda content, entry=entry: content.update(freezes=[entry]))  # type: ignore[misc]  # a default argument
        code, told, error = run("diff", "--data", data, "--ledger", settings.path)
        assert (code, error) == (changed, ""), told


async def test_other_data_may_be_the_baseline(tmp_path: Path, ledger: Path) -> None:
    """For data that has changed since: what was recorded plays no part then."""
    old = candidate(tmp_path, without_tickets, "old.yaml")
    same = run("diff", "--data", candidate(tmp_path, without_tickets), "--data-old", old, "--ledger", ledger)
    assert same[0] == 0
    back = run("diff", "--data", candidate(tmp_path, lambda _: None), "--data-old", old, "--ledger", ledger)
    assert back[0] == 1
    assert re.findall(r"^\w+ → \w+", back[1], re.MULTILINE) == ["allowed → denied"]


async def test_what_cannot_be_read_is_told(tmp_path: Path, ledger: Path) -> None:
    """Exit 2, which no difference has, for data, a ledger and a log of denials alike."""
    good = candidate(tmp_path, lambda _: None)
    bad = write(tmp_path / "bad.yaml", {"eksgateway": {"grants": [{"id": "x"}]}})
    for data, path, fault in (
        (bad, ledger, "eksgateway.grants[0].actions: is missing"),
        (good, tmp_path / "none.db", "there is no such file"),
        (good, good, "not a database"),
    ):
        code, told, error = run("diff", "--data", data, "--ledger", path)
        assert (code, told) == (2, "")
        assert fault in error
    with sqlite3.connect(ledger) as other:
        other.execute("""UPDATE decisions SET body = json_set(body, '$.policy_input', json('{}'))""")
    other.close()
    code, told, error = run("diff", "--data", good, "--ledger", ledger)
    assert (code, told) == (2, "")
    assert "in the log of denied cancels holds no input" in error


async def test_a_recorded_input_can_be_tried_as_it_is(tmp_path: Path, ledger: Path) -> None:
    """The decision log's bodies, a line each."""
    with sqlite3.connect(ledger) as other:
        bodies = [body for (body,) in other.execute("SELECT body FROM decisions ORDER BY id")]
    other.close()
    assert len(bodies) == len(list(read_denials(ledger))) == 3
    (tmp_path / "log").write_text("\n".join(bodies))
    code, told, _ = run("test", tmp_path / "log", "--data", candidate(tmp_path, lambda _: None))
    assert code == 0
    assert re.findall(r"^   denied(.*)$", told, re.MULTILINE) == [" by oncall", " by viewers", " by oncall"]
