"""Each command's results in each format, against a gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.gateway import RunningGateway, run_gateway
from support.processes import RunningProgram, eksgateway_command, run_program
from support.shell_user import user_of
from support.simulator import SimulatedEks
from support.waiting import wait_until

WHY = ("--reason", "bad AMI", "--ticket", "OPS-1")


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks) as here:
        yield here


async def run(gateway: RunningGateway, *words: str, code: int = 0) -> RunningProgram:
    """As the on-call engineer."""
    command = eksgateway_command(*words)
    async with run_program(*command, env=user_of(gateway, "oncall", "oncall")) as shown:
        assert await shown.end() == code, shown.out + shown.err
        return shown


async def run_json(gateway: RunningGateway, *words: str, code: int = 0) -> Any:
    return json.loads((await run(gateway, *words, "-o", "json", code=code)).out)


def rollback(gateway: RunningGateway, name: str, **fields: Any) -> str:
    """The id of a new update on a cluster that the on-call engineer's grants cover."""
    tags = {"environment": "production"} if name.startswith("prod-") else {}
    return gateway.eks.rollback(name, tags=tags, **fields)


def table(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


async def test_json_is_the_apis_own(gateway: RunningGateway) -> None:
    """With its names in camelCase, for each command."""
    update_id = rollback(gateway, "prod-1")
    where = ("prod-1", update_id)
    assert (await run_json(gateway, "get", *where))["update"]["createdAt"]
    assert [each["id"] for each in (await run_json(gateway, "list", "prod-1"))["updates"]] == [update_id]
    (cancellable,) = (await run_json(gateway, "cancellable"))["updates"]
    assert cancellable["cluster"] == {"accountId": "111122223333", "region": "us-east-1", "name": "prod-1"}
    check = await run_json(gateway, "check", *where, *WHY)
    assert check["cancellability"]["cancellableNow"] is True
    done = (await run_json(gateway, "cancel", *where, *WHY))["cancellation"]
    assert done["phase"] == "CANCELLATION_PHASE_CANCELLING"
    (listed,) = (await run_json(gateway, "history"))["cancellations"]
    assert listed["cancellationId"] == done["cancellationId"]
    for key in ((done["cancellationId"],), ("--request-id", done["requestId"])):
        shown = (await run_json(gateway, "show", *key))["cancellation"]
        assert (shown["caller"], shown["decision"]["ruleIds"]) == ("jwt:test:oncall", ["oncall"])


async def test_yaml_has_what_json_has(gateway: RunningGateway) -> None:
    update_id = rollback(gateway, "prod-1")
    shown = await run(gateway, "get", "prod-1", update_id, "-o", "yaml")
    assert yaml.safe_load(shown.out) == await run_json(gateway, "get", "prod-1", update_id)


async def test_names_are_the_arguments_of_other_commands(gateway: RunningGateway) -> None:
    update_id = rollback(gateway, "prod-1")
    names = (await run(gateway, "cancellable", "-o", "name")).out
    assert names == f"111122223333/us-east-1/prod-1 {update_id}\n"
    cancellation_id = (await run(gateway, "cancel", *names.split(), *WHY, "-o", "name")).out.strip()
    assert (await run(gateway, "history", "-o", "name")).out == f"{cancellation_id}\n"
    assert (await run(gateway, "show", cancellation_id, "-o", "name")).out == f"{cancellation_id}\n"
    assert (await run(gateway, "list", "prod-1", "-o", "name")).out == f"{update_id}\n"


async def test_tables_in_a_pipe_have_one_line_for_each_row(gateway: RunningGateway) -> None:
    """However long; what is no result is on standard error."""
    ids = [rollback(gateway, "prod-1"), rollback(gateway, "staging-1")]
    shown = await run(gateway, "cancellable")
    header, *rows = table(shown.out)
    assert header == ["CLUSTER", "UPDATE", "TYPE", "AGE", "TARGET"]
    assert [row[:3] for row in rows] == [
        ["prod-1", ids[0], "VersionRollback"],
        ["staging-1", ids[1], "VersionRollback"],
    ]
    cancelled = await run(gateway, "cancel", "prod-1", ids[0], *WHY)
    assert cancelled.out.count("\n") == 1
    assert "eksgateway: request " in cancelled.err
    header, row = table((await run(gateway, "history", "prod-1")).out)
    assert header == ["AGE", "PHASE", "CLUSTER", "UPDATE", "CALLER", "TICKET", "CANCELLATION"]
    assert row[1:6] == ["CANCELLING", "prod-1", ids[0], "jwt:test:oncall", "OPS-1"]
    empty = await run(gateway, "history", "staging-1")
    assert (empty.out, empty.err) == ("", "no cancellations that you may see\n")


async def test_history_is_cut_at_its_limit(gateway: RunningGateway) -> None:
    """The newest stay, and a note says so."""
    newest = ""
    for name in ("prod-1", "prod-2", "prod-3"):
        words = ("cancel", name, rollback(gateway, name), *WHY, "-o", "name")
        newest = (await run(gateway, *words)).out
    shown = await run(gateway, "history", "--limit", "1", "-o", "name")
    assert (shown.out, shown.err) == (newest, "older ones are left out after 1: --limit 0 lists all\n")
    assert len((await run(gateway, "history", "--limit", "0", "-o", "name")).out.split()) == 3


async def test_lists_have_all_pages(gateway: RunningGateway) -> None:
    """More updates than the API gives at once."""
    updates = [{"id": f"u-{number}", "type": "VersionRollback", "status": "Failed"} for number in range(23)]
    ids = set(gateway.eks.cluster("prod-1", tags={"environment": "production"}, updates=updates))
    assert set((await run(gateway, "list", "prod-1", "-o", "name")).out.split()) == ids


async def test_check_exits_with_its_answer(gateway: RunningGateway) -> None:
    """0 if a cancel is allowed and could succeed now, else 1, with what would help."""
    update_id = rollback(gateway, "prod-1")
    allowed = await run(gateway, "check", "prod-1", update_id, *WHY)
    assert ["cancellable", "now", "yes"] in table(allowed.out)
    denied = await run(gateway, "check", "prod-1", update_id, "--reason", "bad AMI", code=1)
    assert ["allowed", "no"] in table(denied.out)
    assert denied.err == "needs a ticket: --ticket TICKET\n"
    gateway.eks.set_update("prod-1", update_id, status="Successful")
    ended = await run(gateway, "check", "prod-1", update_id, *WHY, "-o", "name", code=1)
    assert ended.out == ""


async def test_a_denied_cancel_shows_what_would_help(gateway: RunningGateway) -> None:
    """With its decision and rules."""
    shown = await run(gateway, "cancel", "prod-1", rollback(gateway, "prod-1"), code=1)
    assert shown.out == ""
    assert ", rules oncall\n" in shown.err
    assert "needs a reason: --reason TEXT\nneeds a ticket: --ticket TICKET\n" in shown.err
    assert not gateway.eks.calls("CancelUpdate")


async def test_cancel_and_watch_prints_a_line_of_json_for_each_message(gateway: RunningGateway) -> None:
    """The cancellation first, then the states until the end."""
    update_id = rollback(gateway, "prod-1")
    command = eksgateway_command("cancel", "prod-1", update_id, *WHY, "--watch", "-o", "json")
    async with run_program(*command, env=user_of(gateway, "oncall", "oncall")) as shown:
        await wait_until(lambda: '"watch"' in shown.out)
        gateway.eks.set_update("prod-1", update_id, status="Cancelled")
        assert await shown.end() == 0, shown.err
    first, *others = map(json.loads, shown.out.splitlines())
    assert first["cancellation"]["updateId"] == update_id
    kinds = [each["watch"]["kind"] for each in others]
    assert kinds == ["WATCH_KIND_SNAPSHOT", "WATCH_KIND_FINAL"]
    assert others[-1]["watch"]["update"]["status"] == "Cancelled"


async def test_watch_prints_messages_for_programs(gateway: RunningGateway) -> None:
    update_id = rollback(gateway, "prod-1")
    gateway.eks.set_update("prod-1", update_id, status="Successful")
    shown = await run(gateway, "watch", "prod-1", update_id, "-o", "json")
    assert json.loads(shown.out.splitlines()[-1])["kind"] == "WATCH_KIND_FINAL"
    shown = await run(gateway, "watch", "prod-1", update_id, "-o", "yaml")
    assert list(yaml.safe_load_all(shown.out))[-1]["kind"] == "WATCH_KIND_FINAL"


@pytest.mark.parametrize(
    "words",
    [
        ("get", "a/prod-1", "u"),
        ("get", "1/2/3", "u", "--account", "1"),
        ("show",),
        ("show", "c", "--request-id", "r"),
    ],
    ids=" ".join,
)
async def test_arguments_that_contradict_are_a_usage_error(words: Sequence[str]) -> None:
    async with run_program(*eksgateway_command(*words)) as shown:
        assert await shown.end() == 2
        assert shown.err.count("\n") == 1


async def test_names_from_the_gateway_cannot_control_the_terminal(gateway: RunningGateway) -> None:
    """The reason of a cancellation is another caller's text, and the API refuses control characters; EKS's
    errors are not checked."""
    update_id = rollback(gateway, "prod-1")
    hostile = "\x1b]0;title\x07\x9b2J\u202e"
    gateway.eks.set_update(
        "prod-1",
        update_id,
        status="Failed",
        errors=[{"errorCode": "E", "errorMessage": hostile, "resourceIds": []}],
    )
    for form in ("table", "json", "yaml"):
        shown = await run(gateway, "get", "prod-1", update_id, "-o", form)
        assert not set(shown.out) & set("\x1b\x07\x9b\u202e"), form
        assert "title" in shown.out
