"""The policy follows its files: what loads is in force as a whole, what does not changes nothing."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import wasmtime
import yaml

from eksgateway.file_reader import HUNG
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.factory import open_engine
from eksgateway.policy.files import read_module
from eksgateway.policy.reloader import POLL_S
from eksgateway.policy.wasm import WasmEngine
from eksgateway.settings import WasmPolicySettings
from support.clock import FakeClock
from support.hanging import hanging
from support.logs import capture_logs
from support.policy_cases import CONTENT
from support.questions import at_request, caller

NOBODY: dict[str, Any] = {"eksgateway": {"grants": []}}
EVERYBODY: dict[str, Any] = {"eksgateway": CONTENT}
ALICE = at_request(caller("jwt:corp:alice", "corp:platform"))

_MODULE = r"""
(module
  (import "env" "memory" (memory 2))
  (data (i32.const 16) "{}\00")
  (data (i32.const 32) "RESULTS\00")
  (func (export "builtins") (result i32) i32.const 0)
  (func (export "opa_json_dump") (param i32) (result i32) i32.const 16)
  (func (export "opa_json_parse") (param i32 i32) (result i32) i32.const 1)
  (func (export "opa_malloc") (param i32) (result i32) i32.const 1024)
  (func (export "opa_heap_ptr_get") (result i32) i32.const 65536)
  (func (export "opa_eval") (param i32 i32 i32 i32 i32 i32 i32) (result i32) i32.const 32))
"""


def always(result: dict[str, Any]) -> bytes:
    """A policy of an operator's own, which says the same to every question and any data."""
    results = json.dumps([{"result": result}]).replace('"', r"\22")
    return bytes(wasmtime.wat2wasm(_MODULE.replace("RESULTS", results)))


OWN = always({"allow": True})


class Followed:
    """An engine that follows files in ``path``, and the clock by which it looks at them."""

    def __init__(self, engine: WasmEngine, clock: FakeClock, data: Path) -> None:
        self.engine = engine
        self.clock = clock
        self.data = data

    async def looks(self, times: int = 2) -> None:
        """Let it look so many times, and finish what comes of that."""
        for _ in range(times):
            await self.resting()
            await self.clock.advance(POLL_S)
        await self.resting()

    async def resting(self) -> None:
        async with asyncio.timeout(60):
            while not self.clock.sleepers:  # noqa: ASYNC110 - it works on a thread meanwhile
                await asyncio.sleep(0.002)

    async def allows(self) -> bool:
        return (await self.engine.decide(ALICE)).allowed


Open = Callable[..., Awaitable[Followed]]


@pytest.fixture
async def follow(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens engines on a data file that allows alice, until the end of the test."""
    async with AsyncExitStack() as stack:

        async def opened(module: Path | None = None) -> Followed:
            data = tmp_path / "data.yaml"
            if not data.is_symlink():
                write(data, EVERYBODY)
            clock = FakeClock()
            engine = await open_engine(WasmPolicySettings(data=data, module=module), clock)
            assert isinstance(engine, WasmEngine)
            stack.push_async_callback(engine.close)
            return Followed(engine, clock, data)

        yield opened


def write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(data))


def in_place(path: Path, data: dict[str, Any]) -> None:
    write(path, data)


def by_rename(path: Path, data: dict[str, Any]) -> None:
    beside = path.with_suffix(".new")
    write(beside, data)
    beside.replace(path)


def away_and_back(path: Path, data: dict[str, Any]) -> None:
    path.unlink()
    write(path, data)


@pytest.mark.parametrize("change", [in_place, by_rename, away_and_back])
async def test_a_changed_file_is_in_force_soon(follow: Open, change: Callable[..., None]) -> None:
    """However an editor replaces it, and whatever time it bears."""
    here = await follow()
    before = here.engine.revision
    assert await here.allows()
    change(here.data, NOBODY)
    await here.looks()
    assert not await here.allows()
    decision = await here.engine.decide(ALICE)
    assert decision.policy_revision == here.engine.revision != before
    change(here.data, EVERYBODY)
    await here.looks()
    assert here.engine.revision == before
    assert here.engine.reloads.loaded == 3
    assert not here.engine.reloads.failing


async def test_a_config_map_that_swaps_its_links_is_in_force_soon(follow: Open, tmp_path: Path) -> None:
    """Kubernetes points ``..data`` at another folder; the file's own path never changes."""
    for name, data in (("..v1", EVERYBODY), ("..v2", NOBODY)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "data.yaml", data)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "data.yaml").symlink_to("..data/data.yaml")
    here = await follow()
    assert await here.allows()
    (tmp_path / "..tmp").symlink_to("..v2")
    (tmp_path / "..tmp").replace(tmp_path / "..data")
    await here.looks()
    assert not await here.allows()


async def test_a_file_that_is_still_being_written_is_waited_for(follow: Open) -> None:
    """Cut off before its end it may be right, and allow what the rest forbids."""
    here = await follow()
    before = here.engine.revision
    grants: list[Any]
    for grants in (CONTENT["grants"][:1], CONTENT["grants"][:2], []):
        write(here.data, {"eksgateway": {"grants": grants}})
        await here.looks(1)
        assert here.engine.revision == before
    await here.looks(1)
    assert not await here.allows()
    assert here.engine.reloads.loaded == 2


BAD: dict[str, tuple[str, str]] = {
    "misspelt": ("eksgateway: {grants: [], freezs: []}", "eksgateway.freezs: is not known here"),
    "two faults": ("eksgateway: {grants: [{id: 1}, {id: 2}]}", "eksgateway.grants[1].id: 2 without quotes"),
    "no YAML": ("eksgateway: [", "is not YAML"),
    "empty": ("", "must be a mapping"),
}


@pytest.mark.parametrize(("text", "fault"), BAD.values(), ids=BAD)
async def test_data_that_does_not_load_leaves_the_old_in_force(follow: Open, text: str, fault: str) -> None:
    """It is told once, with the path of every fault, and the engine stays ready; mended, it is in force."""
    here = await follow()
    before = here.engine.revision
    with capture_logs() as logs:
        here.data.write_text(text)
        await here.looks(5)
    assert here.engine.revision == before
    assert await here.allows()
    await here.engine.check()
    assert here.engine.reloads.failing
    (told,) = logs
    assert (told["event"], told["log_level"], told["data"]) == ("policy.refused", "error", str(here.data))
    assert any(fault in each for each in told["faults"])
    write(here.data, NOBODY)
    await here.looks()
    assert not await here.allows()
    assert not here.engine.reloads.failing
    assert (here.engine.reloads.loaded, here.engine.reloads.refused) == (2, 1)


async def test_a_file_that_is_gone_leaves_the_old_in_force(follow: Open) -> None:
    """A volume that is not there for a while takes nobody's rights, and gives none."""
    here = await follow()
    here.data.unlink()
    with capture_logs() as logs:
        await here.looks(3)
    assert await here.allows()
    assert [each["faults"] for each in logs] == [["cannot be read: No such file or directory"]]


async def test_what_changed_is_told(follow: Open) -> None:
    """The grants and freezes by id, with the revision that is in force from now on."""
    here = await follow()
    first, second, *others = CONTENT["grants"]
    freeze = {
        "id": "now",
        "clusters": ["*"],
        "from": "2026-01-01T00:00:00Z",
        "until": "2026-01-02T00:00:00Z",
    }
    grants = [{**first, "regions": ["eu-central-1"]}, *others, {**second, "id": "another"}]
    with capture_logs() as logs:
        write(here.data, {"eksgateway": {"grants": grants, "freezes": [*CONTENT["freezes"], freeze]}})
        await here.looks()
    (told,) = logs
    assert (told["event"], told["revision"]) == ("policy.loaded", here.engine.revision)
    changed = {name: told[name] for name in told if name.startswith(("grants_", "freezes_", "module_"))}
    assert changed == {
        "grants_added": ["another"],
        "grants_removed": [second["id"]],
        "grants_changed": [first["id"]],
        "freezes_added": ["now"],
    }


async def test_a_line_of_the_log_stays_one_line(follow: Open) -> None:
    """However much has changed at once."""
    here = await follow()
    grant = CONTENT["grants"][1]
    with capture_logs() as logs:
        write(here.data, {"eksgateway": {"grants": [{**grant, "id": f"g-{n}"} for n in range(150)]}})
        await here.looks()
    assert len(logs[0]["grants_added"]) == 101
    assert logs[0]["grants_added"][-1] == "and 50 more"


async def test_a_reload_that_is_asked_for_is_done_at_once_and_answered(follow: Open) -> None:
    """Without a second look, and also when nothing has changed: who asks wants to know."""
    here = await follow()
    await here.resting()
    with capture_logs() as logs:
        write(here.data, NOBODY)
        here.engine.reload()
        assert await here.engine.revision_after(here.engine.revision) == here.engine.revision
        assert not await here.allows()
        await here.resting()
        here.engine.reload()
        async with asyncio.timeout(60):
            while here.engine.reloads.loaded < 3:  # noqa: ASYNC110 - it works on a thread meanwhile
                await asyncio.sleep(0.002)
    assert [each["event"] for each in logs] == ["policy.loaded", "policy.loaded"]


async def test_an_operators_own_module_is_followed_too(follow: Open, tmp_path: Path) -> None:
    """It takes the place of the package's; one that does not load or answer changes nothing."""
    module = tmp_path / "policy.wasm"
    module.write_bytes(read_module(None))
    here = await follow(module=module)
    write(here.data, NOBODY)
    await here.looks()
    assert not await here.allows()
    for bad in (b"garbage", always({"alow": True})):
        module.write_bytes(bad)
        await here.looks()
        assert here.engine.reloads.failing
        assert not await here.allows()
    with capture_logs() as logs:
        module.write_bytes(OWN)
        await here.looks()
    assert await here.allows()
    assert logs[0]["module_changed"]


async def test_everybody_who_waits_is_told_of_another_revision(follow: Open) -> None:
    """Once it is in force; who knows an older one is told at once."""
    here = await follow()
    before = here.engine.revision
    waiting = [asyncio.create_task(here.engine.revision_after(before)) for _ in range(3)]
    await here.looks()
    assert not any(each.done() for each in waiting)
    write(here.data, NOBODY)
    await here.looks()
    assert set(await asyncio.gather(*waiting)) == {here.engine.revision}
    assert await here.engine.revision_after(before) == here.engine.revision


async def test_the_next_edge_is_when_a_freeze_begins_or_ends(follow: Open) -> None:
    """Of the data in force; the instant itself is past the edge."""
    here = await follow()
    window = {"clusters": ["*"], "from": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z"}
    later = {**window, "until": "2026-03-05T12:30:00Z"}
    freezes = [{"id": "long", **later}, {"id": "short", **window}]
    write(here.data, {"eksgateway": {"grants": [], "freezes": freezes}})
    await here.looks()
    found = [datetime(2026, 2, 1, tzinfo=UTC)]
    while (edge := here.engine.next_freeze_change(found[-1])) is not None:
        found.append(edge)
    assert [each.strftime("%m-%d %H:%M") for each in found[1:]] == [
        "03-01 00:00",
        "03-02 00:00",
        "03-05 12:30",
    ]
    write(here.data, NOBODY)
    await here.looks()
    assert here.engine.next_freeze_change(found[0]) is None


async def test_a_replaced_policy_leaves_no_memory_behind() -> None:
    """Each holds megabytes of a guest's memory; a gateway is reloaded for years."""
    engine = await WasmEngine.load(read_module(None), EVERYBODY)
    try:
        gone = []
        for data in (NOBODY, EVERYBODY, NOBODY):
            gone.append(weakref.ref(engine._policy._idle[0]))  # noqa: SLF001 - nothing else tells
            await engine.replace(read_module(None), data)
        gc.collect()
        assert [each() for each in gone] == [None] * 3
    finally:
        await engine.close()


async def test_a_file_system_that_hangs_is_told_and_leaves_the_old_in_force(follow: Open) -> None:
    """As data that does not load; when it answers again, what it holds is in force."""
    here = await follow()
    await here.resting()
    with hanging(here.data), capture_logs() as logs:
        here.engine.reload()
        async with asyncio.timeout(60):
            while not here.engine.reloads.failing:  # noqa: ASYNC110 - it is waited for in real time
                await asyncio.sleep(0.01)
        assert HUNG in logs[0]["faults"][0]
        assert await here.allows()
    write(here.data, NOBODY)
    await here.looks(3)
    assert not await here.allows()


async def test_a_gateway_does_not_start_on_a_file_system_that_hangs(tmp_path: Path) -> None:
    """It says so instead of waiting."""
    with hanging(tmp_path / "data.yaml"), pytest.raises(PolicyLoadError, match=HUNG):
        await open_engine(WasmPolicySettings(data=tmp_path / "data.yaml"), FakeClock())


async def test_closing_does_not_wait_for_a_file_system_that_hangs(tmp_path: Path) -> None:
    """The process ends though a read does not; no thread of it has to be waited for."""
    write(tmp_path / "data.yaml", EVERYBODY)
    engine = await open_engine(WasmPolicySettings(data=tmp_path / "data.yaml"), FakeClock())
    with hanging(tmp_path / "data.yaml"):
        engine.reload()
        async with asyncio.timeout(60):
            while not (reading := [each for each in threading.enumerate() if each.name == "repeated-read"]):  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        async with asyncio.timeout(30):
            await engine.close()
        assert [each.daemon for each in reading if each.is_alive()] == [True]
    assert not {task for task in asyncio.all_tasks() if task.get_name() == "policy-files"}


async def test_closing_waits_for_what_is_being_loaded(tmp_path: Path) -> None:
    """A thread that loads cannot be stopped; nothing is left running."""
    write(tmp_path / "data.yaml", EVERYBODY)
    engine = await open_engine(WasmPolicySettings(data=tmp_path / "data.yaml"), FakeClock())
    engine.reload()
    await asyncio.sleep(0)  # it has begun
    await engine.close()
    assert not {task for task in asyncio.all_tasks() if task.get_name() == "policy-files"}


async def test_a_policy_that_would_allow_under_an_obligation_does_not_load() -> None:
    """What raises when it is asked is no policy to put in force, whatever it raises."""
    engine = await WasmEngine.load(OWN, NOBODY)
    try:
        with pytest.raises(PolicyLoadError, match="does not answer"):
            await engine.replace(always({"allow": True, "obligations": ["mfa"]}), NOBODY)
        assert (await engine.decide(ALICE)).allowed
    finally:
        await engine.close()
