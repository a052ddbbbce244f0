"""The files of the policy data: one, or those of a folder."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from eksgateway.policy.source import MAX_BYTES, PolicyDataError, count_entries, load_content, read_sources
from support.policy_parsing import find_file_faults

GRANT = "{id: %s, groups: ['corp:a'], actions: [get], accounts: ['*'], regions: ['*'], clusters: ['*']}"


def write_grants(file: Path, *names: str) -> None:
    file.write_text(f"eksgateway: {{grants: [{', '.join(GRANT % name for name in names)}]}}\n")


def list_ids(path: Path) -> list[str]:
    return [grant["id"] for grant in load_content(path)["grants"]]


def fault_of(path: Path) -> str:
    with pytest.raises(PolicyDataError) as caught:
        load_content(path)
    assert str(path) in str(caught.value)
    (fault,) = caught.value.faults
    return fault


UNREADABLE: dict[str, tuple[str, bytes, str]] = {
    "twice": ("a.json", b'{"eksgateway": {"grants": [], "grants": []}}', "the key 'grants' stands twice"),
    "number": ("a.json", b'{"eksgateway": {"grants": 5}}', "eksgateway.grants: must be a list, and is 5"),
    "cut off": ("a.json", b"{", "line 1, column 2: is not JSON"),
    "deep JSON": ("a.json", b"[" * 100_000, "is nested too deep"),
    "half a character": (
        "a.json",
        b'{"eksgateway": {"grants": ["\\ud83d"]}}',
        "has an escape that is no character",
    ),
    "mark in JSON": ("a.json", b"\xef\xbb\xbf{}", "is not JSON"),
    "not UTF-8": ("a.yaml", b"a: \xff\xfe", "is not UTF-8 (byte 4)"),
    "UTF-16": ("a.yaml", "a: b".encode("utf-16"), "is not UTF-8 (byte 1)"),
    "NUL": ("a.yaml", b"a: \x00", "is not YAML"),
    "deep YAML": ("a.yaml", b"a: [" * 5000, "is nested deeper than 100 levels"),
    "itself": (
        "a.yaml",
        b"eksgateway: {grants: &a [*a]}",
        "line 1, column 26: the alias *a stands inside its own",
    ),
    "empty": ("a.yaml", b"", "the document: must be a mapping, and is empty"),
    "two documents": (
        "a.yaml",
        b"eksgateway: {grants: []}\n---\na: b",
        "line 2, column 1: a second document",
    ),
    "number in YAML": (
        "a.yaml",
        b"eksgateway:\n  grants:\n    - id: 012\n",
        'eksgateway.grants[0].id: 012 without quotes is a number; write it as text: "012" (line 3)',
    ),
}


@pytest.mark.parametrize(("name", "raw", "expected"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_unreadable_file_is_refused(name: str, raw: bytes, expected: str) -> None:
    assert expected in find_file_faults(name, raw)[0]


def test_a_missing_file_is_refused_with_the_system_error(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "none.yaml") == "cannot be read: No such file or directory"


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    assert fault_of(tmp_path / "a.yaml") == f"cannot be read: is larger than {MAX_BYTES} bytes"


def test_the_files_of_a_folder_are_joined_in_order_of_their_names(tmp_path: Path) -> None:
    write_grants(tmp_path / "20-b.yml", "b")
    (tmp_path / "10-a.json").write_text('{"eksgateway": {"grants": [], "freezes": []}}')
    write_grants(tmp_path / "10-a.yaml", "a2", "a1")
    for other in ("README.md", ".hidden.yaml", "a.yaml.bak", "ayaml"):
        (tmp_path / other).write_text("- no data")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "c.md").write_text("no data")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "d.yaml").write_text("- no data")
    assert list_ids(tmp_path) == ["a2", "a1", "b"]


@pytest.mark.parametrize("below", ["teams", "teams/payments"])
def test_files_in_folders_below_are_refused(below: str, tmp_path: Path) -> None:
    """Their freezes would be missing."""
    write_grants(tmp_path / "a.yaml", "a")
    (tmp_path / below).mkdir(parents=True)
    write_grants(tmp_path / below / "b.yml", "b")
    assert fault_of(tmp_path) == "teams: its files are not read: move them up into the folder"


def test_no_file_is_left_out_for_the_case_of_its_suffix(tmp_path: Path) -> None:
    """Its freezes would be missing."""
    write_grants(tmp_path / "a.yaml", "a")
    write_grants(tmp_path / "b.YAML", "b")
    (tmp_path / "c.Json").write_text('{"eksgateway": {"freezes": 5}}')
    assert fault_of(tmp_path) == "c.Json: eksgateway.freezes: must be a list, and is 5"
    (tmp_path / "c.Json").unlink()
    assert list_ids(tmp_path) == ["a", "b"]


def test_a_file_in_a_folder_may_have_freezes_alone(tmp_path: Path) -> None:
    write_grants(tmp_path / "a.yaml", "a")
    (tmp_path / "b.yaml").write_text(
        "eksgateway: {freezes: [{id: f, clusters: ['*'], windows: [{zone: UTC, days: [sat]}]}]}"
    )
    assert count_entries(load_content(tmp_path)) == "1 grant, 1 freeze"
    (tmp_path / "a.yaml").unlink()
    assert fault_of(tmp_path) == "eksgateway.grants: is missing"


def test_faults_in_a_folder_have_the_file(tmp_path: Path) -> None:
    write_grants(tmp_path / "a.yaml", "a")
    (tmp_path / "b.yaml").write_text("eksgateway: {grants: 5}")
    assert fault_of(tmp_path) == "b.yaml: eksgateway.grants: must be a list, and is 5 (line 1)"
    (tmp_path / "b.yaml").write_text("eksgateway: [")
    assert fault_of(tmp_path).startswith("b.yaml: line 2, column 1: is not YAML")


def test_names_of_sets_are_not_faults_if_a_file_cannot_be_read(tmp_path: Path) -> None:
    """It may have the sets."""
    write_grants(tmp_path / "a.yaml", "a")
    text = (tmp_path / "a.yaml").read_text()
    (tmp_path / "a.yaml").write_text(text.replace("corp:a", "$leads"))
    (tmp_path / "b.yaml").write_text("eksgateway: [")
    assert fault_of(tmp_path).startswith("b.yaml: line 2, column 1: is not YAML")


def test_an_id_in_two_files_is_refused_with_both_places(tmp_path: Path) -> None:
    write_grants(tmp_path / "a.yaml", "x", "same")
    write_grants(tmp_path / "b.yaml", "same")
    expected = "b.yaml: eksgateway.grants[0].id: 'same' is the id of a.yaml: eksgateway.grants[1] already"
    assert fault_of(tmp_path) == expected


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("none")
    assert fault_of(tmp_path) == "has no file named *.yaml, *.yml or *.json"


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / f"{number}.yaml").touch()
    assert fault_of(tmp_path) == "has 1,001 files, and may have 1,000"


def test_files_that_are_too_large_together_are_refused(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_bytes(b"#" * (MAX_BYTES // 2 + 1))
    assert fault_of(tmp_path) == f"has files of more than {MAX_BYTES} bytes together"


def test_entries_that_are_no_files_are_refused_at_once(tmp_path: Path) -> None:
    """Reading a pipe would wait for a writer."""
    write_grants(tmp_path / "a.yaml", "a")
    os.mkfifo(tmp_path / "b.yaml")
    assert fault_of(tmp_path) == "b.yaml: is not a regular file"
    (tmp_path / "b.yaml").unlink()
    (tmp_path / "c.yaml").symlink_to("nowhere")
    assert fault_of(tmp_path) == "c.yaml: cannot be read: No such file or directory"


def test_a_name_that_is_no_text_is_shown_on_one_line(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/a\n\xff.yaml")).write_text("- a")
    write_grants(tmp_path / "b.yaml", "b")
    fault = fault_of(tmp_path)
    assert fault.startswith(r"'a\n\udcff.yaml': the document: must be a mapping")


def mount(folder: Path, state: str, *names: str) -> None:
    """Mount files as Kubernetes does a ConfigMap: all links change at once. Ids end in the state."""
    hidden = folder / f"..{state}"
    hidden.mkdir()
    for name in names:
        write_grants(hidden / f"{name}.yaml", f"{name}-{state}")
    (folder / "..data_tmp").symlink_to(hidden.name)
    (folder / "..data_tmp").replace(folder / "..data")
    for name in names:
        if not (link := folder / f"{name}.yaml").is_symlink():
            link.symlink_to(f"..data/{name}.yaml")


def test_a_mounted_config_map_is_followed(tmp_path: Path) -> None:
    mount(tmp_path, "1", "a", "b")
    assert list_ids(tmp_path) == ["a-1", "b-1"]
    mount(tmp_path, "2", "a", "b")
    assert list_ids(tmp_path) == ["a-2", "b-2"]


def test_all_files_are_of_one_state_of_the_folder(tmp_path: Path) -> None:
    """Else freezes could be missing that both states of a mount have."""
    names = [f"{number:02}" for number in range(20)]
    mount(tmp_path, "0", *names)

    def mount_states() -> None:
        for state in range(1, 40):
            mount(tmp_path, str(state), *names)

    with ThreadPoolExecutor(1) as pool:
        mounting = pool.submit(mount_states)
        states = []
        while not mounting.done():
            with suppress(PolicyDataError):  # it changed at each try
                states.append({source.raw.split(b"-")[1].split(b",")[0] for source in read_sources(tmp_path)})
    mounting.result()
    assert len({tuple(state) for state in states}) > 3
    assert [state for state in states if len(state) > 1] == []
