"""The policy follows its files: files that load are in force as a whole, others change nothing."""

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

from eksgateway.file_reader import HUNG
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.factory import open_policy_engine
from eksgateway.policy.files import read_module
from eksgateway.policy.wasm import WasmEngine
from eksgateway.settings import WasmPolicySettings
from support import reloading
from support.clock import FakeClock
from support.hanging_file import hang_reads
from support.logs import capture_logs
from support.policies import compile_data
from support.policy_cases import CONTENT
from support.reloading import ALICE, EVERYBODY, NOBODY, Reloading, write

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
    """A module that returns this result for every input and any data."""
    results = json.dumps([{"result": result}]).replace('"', r"\22")
    return bytes(wasmtime.wat2wasm(_MODULE.replace("RESULTS", results)))


OWN = always({"allow": True})


Open = Callable[..., Awaitable[Reloading]]


@pytest.fixture
async def follow(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens engines with a data file that allows alice; they are closed at the end."""
    async with AsyncExitStack() as stack:

        async def open_(module: Path | None = None) -> Reloading:
            data = tmp_path / "data.yaml"
            if not data.is_symlink():
                write(data, EVERYBODY)
            return await stack.enter_async_context(reloading.follow(data, module))

        yield open_


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
async def test_a_changed_file_is_loaded(follow: Open, change: Callable[..., None]) -> None:
    """However it is replaced."""
    here = await follow()
    before = here.engine.revision
    assert await here.allows()
    change(here.data, NOBODY)
    await here.poll()
    assert not await here.allows()
    decision = await here.engine.decide(ALICE)
    assert decision.policy_revision == here.engine.revision != before
    change(here.data, EVERYBODY)
    await here.poll()
    assert here.engine.revision == before
    assert here.engine.reloads.loaded == 3
    assert not here.engine.reloads.failing


async def test_a_config_map_that_swaps_its_links_is_loaded(follow: Open, tmp_path: Path) -> None:
    """Kubernetes points ``..data`` to another folder; the path of the file stays."""
    for name, data in (("..v1", EVERYBODY), ("..v2", NOBODY)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "data.yaml", data)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "data.yaml").symlink_to("..data/data.yaml")
    here = await follow()
    assert await here.allows()
    (tmp_path / "..tmp").symlink_to("..v2")
    (tmp_path / "..tmp").replace(tmp_path / "..data")
    await here.poll()
    assert not await here.allows()


async def test_a_file_that_still_changes_is_not_loaded(follow: Open) -> None:
    """A half-written file may be valid and allow what the rest denies."""
    here = await follow()
    before = here.engine.revision
    grants: list[Any]
    for grants in (CONTENT["grants"][:1], CONTENT["grants"][:2], []):
        write(here.data, {"eksgateway": {"grants": grants}})
        await here.poll(1)
        assert here.engine.revision == before
    await here.poll(1)
    assert not await here.allows()
    assert here.engine.reloads.loaded == 2


BAD: dict[str, tuple[str, str]] = {
    "misspelt": ("eksgateway: {grants: [], freezs: []}", "eksgateway.freezs: is not known here"),
    "two faults": ("eksgateway: {grants: [{id: 1}, {id: 2}]}", "eksgateway.grants[1].id: 2 without quotes"),
    "no YAML": ("eksgateway: [", "is not YAML"),
    "empty": ("", "must be a mapping"),
}


@pytest.mark.parametrize(("text", "fault"), BAD.values(), ids=BAD)
async def test_invalid_data_leaves_the_old_in_force(follow: Open, text: str, fault: str) -> None:
    """It is logged once with every fault, and the engine stays ready. Corrected data is loaded."""
    here = await follow()
    before = here.engine.revision
    with capture_logs() as logs:
        here.data.write_text(text)
        await here.poll(5)
    assert here.engine.revision == before
    assert await here.allows()
    await here.engine.check()
    assert here.engine.reloads.failing
    (event,) = logs
    assert (event["event"], event["log_level"], event["data"]) == (
        "policy.refused",
        "error",
        str(here.data),
    )
    assert any(fault in each for each in event["faults"])
    write(here.data, NOBODY)
    await here.poll()
    assert not await here.allows()
    assert not here.engine.reloads.failing
    assert (here.engine.reloads.loaded, here.engine.reloads.refused) == (2, 1)


async def test_a_missing_file_leaves_the_old_in_force(follow: Open) -> None:
    here = await follow()
    here.data.unlink()
    with capture_logs() as logs:
        await here.poll(3)
    assert await here.allows()
    assert [each["faults"] for each in logs] == [["cannot be read: No such file or directory"]]


async def test_a_load_logs_the_changed_ids_and_the_revision(follow: Open) -> None:
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
        await here.poll()
    (event,) = logs
    assert (event["event"], event["revision"]) == ("policy.loaded", here.engine.revision)
    changed = {name: event[name] for name in event if name.startswith(("grants_", "freezes_", "module_"))}
    assert changed == {
        "grants_added": ["another"],
        "grants_removed": [second["id"]],
        "grants_changed": [first["id"]],
        "freezes_added": ["now"],
    }


async def test_a_load_logs_a_limited_number_of_ids(follow: Open) -> None:
    here = await follow()
    grant = CONTENT["grants"][1]
    with capture_logs() as logs:
        write(here.data, {"eksgateway": {"grants": [{**grant, "id": f"g-{n}"} for n in range(150)]}})
        await here.poll()
    assert len(logs[0]["grants_added"]) == 101
    assert logs[0]["grants_added"][-1] == "and 50 more"


async def test_reload_loads_at_once_and_logs(follow: Open) -> None:
    """Also if nothing has changed."""
    here = await follow()
    await here.sleeping()
    with capture_logs() as logs:
        write(here.data, NOBODY)
        here.engine.reload()
        assert await here.engine.revision_after(here.engine.revision) == here.engine.revision
        assert not await here.allows()
        await here.sleeping()
        here.engine.reload()
        async with asyncio.timeout(60):
            while here.engine.reloads.loaded < 3:  # noqa: ASYNC110 - it works on a thread
                await asyncio.sleep(0.002)
    assert [each["event"] for each in logs] == ["policy.loaded", "policy.loaded"]


async def test_a_custom_module_is_reloaded_too(follow: Open, tmp_path: Path) -> None:
    """A module that does not load or decide changes nothing."""
    module = tmp_path / "policy.wasm"
    module.write_bytes(read_module(None))
    here = await follow(module=module)
    write(here.data, NOBODY)
    await here.poll()
    assert not await here.allows()
    for bad in (b"garbage", always({"alow": True})):
        module.write_bytes(bad)
        await here.poll()
        assert here.engine.reloads.failing
        assert not await here.allows()
    with capture_logs() as logs:
        module.write_bytes(OWN)
        await here.poll()
    assert await here.allows()
    assert logs[0]["module_changed"]


async def test_revision_after_wakes_all_waiters(follow: Open) -> None:
    """It returns at once for an older revision."""
    here = await follow()
    before = here.engine.revision
    waiting = [asyncio.create_task(here.engine.revision_after(before)) for _ in range(3)]
    await here.poll()
    assert not any(each.done() for each in waiting)
    write(here.data, NOBODY)
    await here.poll()
    assert set(await asyncio.gather(*waiting)) == {here.engine.revision}
    assert await here.engine.revision_after(before) == here.engine.revision


async def test_next_change_is_when_a_freeze_begins_or_ends(follow: Open) -> None:
    """The time itself has passed."""
    here = await follow()
    window = {"clusters": ["*"], "from": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z"}
    later = {**window, "until": "2026-03-05T12:30:00Z"}
    freezes = [{"id": "long", **later}, {"id": "short", **window}]
    write(here.data, {"eksgateway": {"grants": [], "freezes": freezes}})
    await here.poll()
    found = [datetime(2026, 2, 1, tzinfo=UTC)]
    while (edge := here.engine.next_change(found[-1])) is not None:
        found.append(edge)
    assert [each.strftime("%m-%d %H:%M") for each in found[1:]] == [
        "03-01 00:00",
        "03-02 00:00",
        "03-05 12:30",
    ]
    write(here.data, NOBODY)
    await here.poll()
    assert here.engine.next_change(found[0]) is None


async def test_windows_are_refused_when_the_rules_of_zones_end(follow: Open) -> None:
    """At a reload and at the start."""
    here = await follow()
    here.clock.jump((datetime(2040, 9, 1, tzinfo=UTC) - here.clock.now()).total_seconds())
    nights = {
        "id": "nights",
        "clusters": ["*"],
        "windows": [{"from": "18:00", "until": "06:00", "zone": "UTC"}],
    }
    write(here.data, {"eksgateway": {**CONTENT, "freezes": [nights]}})
    with capture_logs() as logs:
        await here.poll()
    [refused] = [line for line in logs if line["event"] == "policy.refused"]
    assert "install a newer version" in refused["faults"][0]
    assert await here.allows()
    with pytest.raises(PolicyLoadError, match="install a newer version"):
        await open_policy_engine(WasmPolicySettings(data=here.data), here.clock)


async def test_a_replaced_policy_is_freed() -> None:
    """Each one holds megabytes."""
    engine = await WasmEngine.load(read_module(None), compile_data(EVERYBODY), timeout_s=2)
    try:
        gone = []
        for data in (NOBODY, EVERYBODY, NOBODY):
            gone.append(weakref.ref(engine._policy._idle[0]))  # noqa: SLF001 - not visible otherwise
            await engine.replace(read_module(None), compile_data(data))
        gc.collect()
        assert [each() for each in gone] == [None] * 3
    finally:
        await engine.close()


async def test_old_policy_keeps_one_instance_while_another_is_loaded() -> None:
    """Each one holds megabytes; busy threads may have made four."""
    engine = await WasmEngine.load(read_module(None), compile_data(EVERYBODY), timeout_s=2)
    policy = engine._policy  # noqa: SLF001 - not visible otherwise
    try:
        for _ in range(3):
            policy._give_back(policy._new_instance())  # noqa: SLF001 - as the end of an evaluation does
        with pytest.raises(PolicyLoadError):
            await engine.replace(b"garbage", compile_data(NOBODY))
        assert len(policy._idle) == 1  # noqa: SLF001 - as above
        assert (await engine.decide(ALICE)).allowed
    finally:
        await engine.close()


async def test_a_hanging_file_system_leaves_the_old_in_force(follow: Open) -> None:
    """The file is loaded once it can be read again."""
    here = await follow()
    await here.sleeping()
    with hang_reads(here.data), capture_logs() as logs:
        here.engine.reload()
        async with asyncio.timeout(60):
            while not here.engine.reloads.failing:  # noqa: ASYNC110 - real time
                await asyncio.sleep(0.01)
        assert HUNG in logs[0]["faults"][0]
        assert await here.allows()
    write(here.data, NOBODY)
    await here.poll(3)
    assert not await here.allows()


async def test_an_engine_does_not_open_on_a_hanging_file_system(tmp_path: Path) -> None:
    with hang_reads(tmp_path / "data.yaml"), pytest.raises(PolicyLoadError, match=HUNG):
        await open_policy_engine(WasmPolicySettings(data=tmp_path / "data.yaml"), FakeClock())


async def test_close_does_not_wait_for_a_hanging_file_system(tmp_path: Path) -> None:
    """The thread of the read does not keep the process alive."""
    write(tmp_path / "data.yaml", EVERYBODY)
    engine = await open_policy_engine(WasmPolicySettings(data=tmp_path / "data.yaml"), FakeClock())
    with hang_reads(tmp_path / "data.yaml"):
        engine.reload()
        async with asyncio.timeout(60):
            while not (reading := [each for each in threading.enumerate() if each.name == "repeated-read"]):  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        async with asyncio.timeout(30):
            await engine.close()
        assert [each.daemon for each in reading if each.is_alive()] == [True]
    assert not {task for task in asyncio.all_tasks() if task.get_name() == "policy-files"}


async def test_close_waits_for_a_running_load(tmp_path: Path) -> None:
    """Its thread cannot be stopped."""
    write(tmp_path / "data.yaml", EVERYBODY)
    engine = await open_policy_engine(WasmPolicySettings(data=tmp_path / "data.yaml"), FakeClock())
    engine.reload()
    await asyncio.sleep(0)  # the reload begins
    await engine.close()
    assert not {task for task in asyncio.all_tasks() if task.get_name() == "policy-files"}


async def test_a_policy_that_allows_the_samples_under_obligations_does_not_load() -> None:
    engine = await WasmEngine.load(OWN, compile_data(NOBODY), timeout_s=2)
    try:
        with pytest.raises(PolicyLoadError, match="does not answer"):
            await engine.replace(always({"allow": True, "obligations": ["mfa"]}), compile_data(NOBODY))
        assert (await engine.decide(ALICE)).allowed
    finally:
        await engine.close()
