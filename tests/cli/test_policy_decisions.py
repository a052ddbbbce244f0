"""`eksgateway policy test` and `diff`: decisions on inputs, and on recorded cancels by other data."""

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
from eksgateway.ledger.inspection import read_denials, read_events
from eksgateway.ledger.postgres.import_file import import_file
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.settings import LedgerSettings, PostgresLocation
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.changing_policy import build_module, write_custom_rego
from support.gateway import POLICY_DATA, RunningGateway, run_gateway
from support.postgres import LedgerDatabase
from support.questions import at_request, at_update, caller
from support.records import intent
from support.settings_files import write_settings
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


def test_the_example_input_is_decided_by_the_example_data(tmp_path: Path) -> None:
    """Allowed, and denied during the freeze."""
    policies = Path(__file__).parents[2] / "policies"
    text = (policies / "input.example.yaml").read_text()
    for day, output in (("12-01", "allowed by platform-oncall"), ("12-24", "denied by year-end")):
        file = tmp_path / "input.yaml"
        file.write_text(text.replace("2026-12-01", f"2026-{day}"))
        code, out, err = run("test", file, "--data", policies / "data.example.yaml")
        assert (code, err) == (0, "")
        assert output in out


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
   Denials and freezes that hold: 1
     freeze year-end: clusters prod-*; until 2027-01-01T00:00:00Z
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
   Denials and freezes that hold: none
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
   Denials and freezes that hold: none
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
   Denials and freezes that hold: 1
     freeze year-end: clusters prod-*; until 2027-01-01T00:00:00Z
   Grants that cover this caller and cluster: none
""",
    ),
}


@pytest.mark.parametrize(("document", "output"), EXPLAINED.values(), ids=EXPLAINED)
def test_an_input_is_decided_and_explained(tmp_path: Path, data: Path, document: Data, output: str) -> None:
    """Prints the decision with rules and reasons, and the decision of each covering grant alone."""
    file = write(tmp_path / "input.yaml", document)
    assert run("test", file, "--data", data) == (0, output, "")


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
def test_inputs_are_read_in_every_format(
    tmp_path: Path, data: Path, form: Callable[[list[Data]], str]
) -> None:
    """They are numbered in order."""
    file = tmp_path / "inputs"
    file.write_text(form([FROZEN.to_input(), STRANGER.to_input(), THAWED.to_input()]))
    code, output, _ = run("test", file, "--data", data)
    assert code == 0
    assert re.findall(r"^([0-9])\..*\n   (denied|allowed)", output, re.MULTILINE) == [
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


def test_a_handwritten_input_needs_no_quotes_time_or_ids(tmp_path: Path, data: Path) -> None:
    """Unquoted accounts and times are text."""
    file = tmp_path / "input.yaml"
    file.write_text(BY_HAND)
    assert "denied by year-end" in run("test", file, "--data", data)[1]
    file.write_text(BY_HAND.replace(", time: 2026-11-22T10:00:00Z", ""))
    now = datetime.now(UTC).strftime("%Y-%m-%dT")
    assert f"stage request, at {now}" in run("test", file, "--data", data)[1]


def test_covering_grants_are_found_among_many(tmp_path: Path) -> None:
    staging = POLICY_DATA["eksgateway"]["grants"][1]
    grants = [{**staging, "id": f"g-{n}", "groups": [f"test:{n}"]} for n in range(300)]
    grants[17]["groups"] = grants[299]["groups"] = ["test:oncall"]
    data = write(tmp_path / "data.yaml", {"eksgateway": {"grants": grants}})
    file = write(tmp_path / "input.yaml", at_request(ALICE, cluster="staging-1").to_input())
    code, output, _ = run("test", file, "--data", data)
    assert code == 0
    assert re.findall(r"^     (g-[0-9]+): allows this", output, re.MULTILINE) == ["g-17", "g-299"]


UNUSABLE: dict[str, tuple[str, str]] = {
    "missing": ("", "cannot be read: No such file"),
    "no input": ("[]", "holds no inputs"),
    "no object": ("- 5\n- x", "input 2: $: 'x' is not of type 'object'"),
    "misspelt": (BY_HAND.replace("stage: request", "stage: reqest"), "input 1: context.stage: 'reqest'"),
    "no YAML": ("a: [", "is not YAML"),
}


@pytest.mark.parametrize(("text", "fault"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_file_without_usable_inputs_is_refused_with_its_faults(
    tmp_path: Path, data: Path, text: str, fault: str
) -> None:
    """Exit 2, without a decision or a traceback."""
    file = tmp_path / "input.yaml"
    if text:
        file.write_text(text)
    code, output, error = run("test", file, "--data", data)
    assert (code, output) == (2, "")
    assert str(file) in error
    assert fault in error


def test_config_names_data_and_module(tmp_path: Path, data: Path) -> None:
    """Without --config and --data the error names both."""
    file = write(tmp_path / "input.yaml", FROZEN.to_input())
    settings = write_settings(tmp_path / "config.yaml", data=data.name)
    assert "denied by year-end" in run("test", file, "--config", settings)[1]
    write_settings(settings, data=data.name, module="missing.wasm")
    code, _, error = run("test", file, "--config", settings)
    assert code == 2
    assert "missing.wasm: cannot be read" in error
    code, _, error = run("test", file)
    assert code == 2
    assert "--data PATH" in error


# -- diff -----------------------------------------------------------------------------------------


@pytest.fixture
async def ledger(tmp_path: Path) -> Path:
    """The ledger of a gateway after two cancels and three denied ones, of which one at stage update."""
    home = tmp_path / "gateway"
    home.mkdir()
    async with SimulatedEks() as eks, run_gateway(home, eks) as gateway:
        production = eks.rollback("prod-1", tags={"environment": "production"})
        staging = eks.rollback("staging-1")
        odd = eks.rollback("prod-2", tags={"environment": "odd"})
        await cancel_denied(gateway, "prod-1", production, ticket="")
        await cancel_denied(gateway, "staging-1", staging, who=gateway.viewer)
        await cancel_denied(gateway, "prod-2", odd)
        await gateway.cancel("prod-1", production)
        await gateway.cancel("staging-1", staging, reason="", ticket="")
    return home / "ledger.db"


async def cancel_denied(gateway: RunningGateway, *call: Any, **fields: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await gateway.cancel(*call, **fields)
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


def candidate(tmp_path: Path, change: Callable[[Data], object], name: str = "new.yaml") -> Path:
    """The data of the recorded decisions with a change."""
    content = copy.deepcopy(POLICY_DATA["eksgateway"])
    change(content)
    return write(tmp_path / name, {"eksgateway": content})


def freeze(begins: int, ends: int) -> Callable[[Data], object]:
    """Add a freeze of everything; it begins and ends so many hours from now."""
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


async def test_diff_prints_every_decision_that_changes(tmp_path: Path, ledger: Path) -> None:
    """Each is decided with its own facts and time. The exit code is 1 if any changes."""
    for name, (change, expected) in CHANGES.items():
        code, output, error = run("diff", "--data", candidate(tmp_path, change), "--ledger", ledger)
        found = re.findall(r"^(\w+ → \w+): .* on [^ ]*us-east-1/([a-z0-9-]+)", output, re.MULTILINE)
        assert [f"{each} {cluster}" for each, cluster in found] == expected, name
        assert (code, error) == (1 if expected else 0, ""), name
        denied = sum(each.startswith("allowed") for each in expected)
        assert output.splitlines()[-1] == (
            f"5 recorded decisions: {denied} would be denied that were allowed,"
            f" {len(expected) - denied} would be allowed that were denied."
        )


async def test_diff_prints_the_reasons_before_and_after(tmp_path: Path, ledger: Path) -> None:
    """An allow at stage request has a note."""
    _, output, _ = run("diff", "--data", candidate(tmp_path, both_ways), "--ledger", ledger)
    first, second = re.split(r"^(?=\w+ → )", output, flags=re.MULTILINE)[1:]
    assert re.search(r"^   cancellation [0-9a-f-]{36}$", first, re.MULTILINE)
    assert "   before: allowed by staging\n" in first
    assert "   after: denied\n   after:   You have no grant on this cluster.\n" in first
    assert "   before: denied by oncall\n   before:   A ticket is required by grant oncall.\n" in second
    assert "   after: allowed by oncall\n" in second
    assert "It was denied before EKS was asked" in second


def test_diff_reads_a_ledger_in_postgresql(
    tmp_path: Path, ledger: Path, ledger_database: LedgerDatabase
) -> None:
    """The output is that for the file."""
    import_file(ledger, PostgresLocation(ledger_database.owner_url))
    data = candidate(tmp_path, both_ways)
    found = run("diff", "--data", data, "--url", ledger_database.url)
    assert found == run("diff", "--data", data, "--ledger", ledger)
    assert found[0] == 1


async def test_diff_decides_both_actions_of_a_cancel_with_watch(tmp_path: Path) -> None:
    """With the recorded method."""
    home = tmp_path / "gateway"
    home.mkdir()
    async with SimulatedEks() as eks, run_gateway(home, eks) as gateway:
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
    under_its_method = 'allowed if {\n\tendswith(input.context.method, "/CancelUpdateAndWatch")'
    module = build_module(write_custom_rego(tmp_path, "\nallowed if {", f"\n{under_its_method}"), tmp_path)
    for change, expected in (
        (lambda _: None, []),
        (lambda content: content["grants"][1]["actions"].remove("watch"), ["watch"]),
        (lambda content: content["grants"].pop(1), ["cancel", "watch"]),
    ):
        data = candidate(tmp_path, change)
        _, output, error = run("diff", "--data", data, "--ledger", home / "ledger.db", "--module", module)
        assert error == ""
        assert re.findall(r"^allowed → denied: jwt:test:oncall, (\w+) on ", output, re.MULTILINE) == expected
        assert output.splitlines()[-1].startswith(f"2 recorded decisions: {len(expected)} would be denied")


async def test_diff_uses_the_time_of_the_decision(tmp_path: Path) -> None:
    """A freeze may begin between the decision and the record."""
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
        code, output, error = run("diff", "--data", data, "--ledger", settings.path)
        assert (code, error) == (changed, ""), output


def as_of_an_earlier_version(ledger: Path) -> None:
    """Remove from recorded inputs what earlier versions did not record, and date the updates back."""
    update = "$.policy_input.resource.properties.update"
    absent = ["$.policy_input.context.seconds", "$.policy_input.subject.properties.claims", f"{update}.age_s"]
    paths = ", ".join(f"'{path}'" for path in absent)
    with sqlite3.connect(ledger) as other:
        other.execute(f"UPDATE decisions SET body = json_remove(body, {paths})")
        other.execute(
            f"UPDATE decisions SET body = json_set(body, '{update}.created_at', '2026-01-01T00:00:00Z')"
            f" WHERE json_extract(body, '{update}.created_at') IS NOT NULL"
        )
    other.close()


async def test_diff_completes_denials_of_earlier_versions(tmp_path: Path, ledger: Path) -> None:
    """Conditions on time and age need facts that those did not record."""
    as_of_an_earlier_version(ledger)

    def by_time_and_age(content: Data) -> None:
        with_odd_tags(content)
        content["grants"][0].update(windows=[{"zone": "UTC"}], older_than="30d")

    _, output, error = run("diff", "--data", candidate(tmp_path, by_time_and_age), "--ledger", ledger)
    assert error == ""
    assert re.findall(r"^denied → allowed: .*/(prod-[0-9])/", output, re.MULTILINE) == ["prod-2"]


async def test_diff_compares_with_old_data(tmp_path: Path, ledger: Path) -> None:
    """The recorded decisions are not used."""
    old = candidate(tmp_path, without_tickets, "old.yaml")
    same = run("diff", "--data", candidate(tmp_path, without_tickets), "--data-old", old, "--ledger", ledger)
    assert same[0] == 0
    back = run("diff", "--data", candidate(tmp_path, lambda _: None), "--data-old", old, "--ledger", ledger)
    assert back[0] == 1
    assert re.findall(r"^\w+ → \w+", back[1], re.MULTILINE) == ["allowed → denied"]


async def test_diff_reports_unreadable_files(tmp_path: Path, ledger: Path) -> None:
    """Exit 2 for data, a ledger and a denial log."""
    good = candidate(tmp_path, lambda _: None)
    bad = write(tmp_path / "bad.yaml", {"eksgateway": {"grants": [{"id": "x"}]}})
    for data, path, fault in (
        (bad, ledger, "eksgateway.grants[0].actions: is missing"),
        (good, tmp_path / "none.db", "there is no such file"),
        (good, good, "not a database"),
    ):
        code, output, error = run("diff", "--data", data, "--ledger", path)
        assert (code, output) == (2, "")
        assert fault in error
    with sqlite3.connect(ledger) as other:
        other.execute("""UPDATE decisions SET body = json_set(body, '$.policy_input', json('{}'))""")
    other.close()
    code, output, error = run("diff", "--data", good, "--ledger", ledger)
    assert (code, output) == (2, "")
    assert "in the log of denied cancels holds no input" in error


async def test_recorded_inputs_can_be_decided_by_policy_test(tmp_path: Path, ledger: Path) -> None:
    """They are the bodies of the denial log, one per line."""
    with sqlite3.connect(ledger) as other:
        bodies = [body for (body,) in other.execute("SELECT body FROM decisions ORDER BY id")]
    other.close()
    assert len(bodies) == len(list(read_denials(ledger))) == 3
    (tmp_path / "log").write_text("\n".join(bodies))
    code, output, _ = run("test", tmp_path / "log", "--data", candidate(tmp_path, lambda _: None))
    assert code == 0
    assert re.findall(r"^   denied(.*)$", output, re.MULTILINE) == [
        " by oncall",
        " by viewers",
        " by oncall",
    ]
