"""The policy follows a folder of files, as Kubernetes mounts one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from support.logs import capture_logs
from support.policy_cases import CONTENT
from support.reloading import EVERYBODY, NOBODY, Reloading, follow, write

OTHER: dict[str, Any] = {"eksgateway": {"grants": [{**CONTENT["grants"][1], "id": "other"}]}}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Reloading]:
    """Follows a folder of two files."""
    folder = tmp_path / "policy"
    folder.mkdir()
    write(folder / "a.yaml", EVERYBODY)
    write(folder / "b.yaml", OTHER)
    async with follow(folder) as reloading:
        yield reloading


def change(folder: Path) -> None:
    write(folder / "a.yaml", NOBODY)


def remove(folder: Path) -> None:
    (folder / "a.yaml").unlink()


def replace_folder(folder: Path) -> None:
    folder.rename(folder.with_name("old"))
    folder.mkdir()
    write(folder / "c.yaml", NOBODY)


@pytest.mark.parametrize("act", [change, remove, replace_folder])
async def test_any_change_in_the_folder_is_loaded(here: Reloading, act: Callable[[Path], None]) -> None:
    assert await here.allows()
    act(here.data)
    await here.poll()
    assert not await here.allows()
    assert here.engine.reloads.loaded == 2


async def test_added_file_is_loaded(here: Reloading) -> None:
    denial = {"id": "stop", "groups": ["corp:platform"], "reason": "Compromised."}
    with capture_logs() as logs:
        write(here.data / "denials.yaml", {"eksgateway": {"denials": [denial]}})
        await here.poll()
    assert not await here.allows()
    assert (logs[0]["event"], logs[0]["denials_added"]) == ("policy.loaded", ["stop"])


async def test_renamed_file_with_equal_content_has_the_same_revision(here: Reloading) -> None:
    before = here.engine.revision
    (here.data / "b.yaml").rename(here.data / "c.yaml")
    await here.poll()
    assert here.engine.reloads.loaded == 2
    assert here.engine.revision == before


async def test_fault_in_one_file_leaves_all_in_force(here: Reloading) -> None:
    before = here.engine.revision
    write(here.data / "a.yaml", NOBODY)
    with capture_logs() as logs:
        write(here.data / "b.yaml", {"eksgateway": {"grant": []}})
        await here.poll()
    assert (here.engine.revision, await here.allows()) == (before, True)
    assert "b.yaml: eksgateway.grant: is not known here" in logs[0]["faults"][0]


async def test_file_that_still_changes_is_not_loaded(here: Reloading) -> None:
    """Even if the others do not."""
    for number in range(3):
        write(
            here.data / "a.yaml", {"eksgateway": {"grants": [{**CONTENT["grants"][1], "id": f"g-{number}"}]}}
        )
        await here.poll(1)
        assert here.engine.reloads.loaded == 1
    await here.poll(1)
    assert here.engine.reloads.loaded == 2


async def test_config_map_that_swaps_its_links_is_loaded(tmp_path: Path) -> None:
    """Kubernetes links each file to ``..data/FILE``, and points ``..data`` to another folder."""
    for name, data in (("..v1", EVERYBODY), ("..v2", NOBODY)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.yaml", data)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    async with follow(tmp_path) as here:
        assert await here.allows()
        (tmp_path / "..tmp").symlink_to("..v2")
        (tmp_path / "..tmp").replace(tmp_path / "..data")
        await here.poll()
        assert not await here.allows()
