"""Kept machine code is loaded only from where no other user can write, and only if it is whole.

The tests plant code of another module under the right name: if it is loaded, its export shows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import wasmtime

from eksgateway.policy import machine_code
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.machine_code import label_of, load_module, name_of, pack
from eksgateway.policy.wasm_module import PolicyModule
from eksgateway.policy.wasm_runtime import WasmRuntime

OWN = bytes(wasmtime.wat2wasm('(module (func (export "own")))'))
OTHER = bytes(wasmtime.wat2wasm('(module (func (export "planted")))'))
STRANGER = 12345


@pytest.fixture
def runtime() -> Iterator[WasmRuntime]:
    with closing(WasmRuntime()) as runtime:
        yield runtime


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "eksgateway"


@pytest.fixture
def load(runtime: WasmRuntime) -> Callable[[], str]:
    """Loads OWN; returns the export of what was loaded."""
    return lambda: load_module(runtime.engine, runtime.settings, OWN).exports[0].name


@pytest.fixture
def planted(runtime: WasmRuntime, folder: Path) -> Path:
    """The file of OWN, with the code of OTHER."""
    load_module(runtime.engine, runtime.settings, OWN)
    (file,) = folder.iterdir()
    code = bytes(wasmtime.Module(runtime.engine, OTHER).serialize())
    file.write_bytes(pack(label_of(runtime.settings, OWN), code))
    return file


def test_machine_code_is_kept_for_the_next_load(planted: Path, load: Callable[[], str]) -> None:
    assert planted.stat().st_mode & 0o777 == 0o600
    assert load() == "planted"


def test_missing_folders_are_made_safe_with_any_umask(folder: Path, load: Callable[[], str]) -> None:
    before = os.umask(0o002)
    try:
        load()
    finally:
        os.umask(before)
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert len([*folder.iterdir()]) == 1


def test_a_read_only_folder_of_root_is_read(planted: Path, load: Callable[[], str]) -> None:
    """As in an image."""
    planted.chmod(0o444)
    planted.parent.chmod(0o555)
    assert load() == "planted"
    planted.parent.chmod(0o755)


def chown(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, STRANGER, -1)


def replace_by_link(path: Path) -> None:
    beside = path.with_name("beside")
    path.rename(beside)
    path.symlink_to(beside)


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def take_name_of_another(path: Path) -> None:
    """Whole, but for another label."""
    path.write_bytes(pack(b"other", path.read_bytes()[32:]))


UNSAFE_FILES: dict[str, Callable[[Path], None]] = {
    "its group can write it": lambda file: file.chmod(0o620),
    "all can write it": lambda file: file.chmod(0o602),
    "another user's": chown,
    "a symbolic link": replace_by_link,
    "a FIFO": replace_by_fifo,
    "damaged": damage,
    "cut off": lambda file: os.truncate(file, file.stat().st_size - 1),
    "empty": lambda file: os.truncate(file, 0),
    "another module's": take_name_of_another,
}


@pytest.mark.parametrize("spoil", UNSAFE_FILES.values(), ids=UNSAFE_FILES)
def test_an_unsafe_file_is_replaced(
    spoil: Callable[[Path], None], planted: Path, load: Callable[[], str]
) -> None:
    spoil(planted)
    assert load() == "own"
    assert not planted.is_symlink()
    assert planted.stat().st_mode & 0o777 == 0o600
    assert planted.stat().st_uid == os.geteuid()
    assert load() == "own"


def give_away_sticky(path: Path) -> None:
    path.chmod(0o1777)
    chown(path)


UNSAFE_FOLDERS: dict[str, tuple[int, Callable[[Path], None]]] = {
    "its group can write it": (0, lambda path: path.chmod(0o770)),
    "all can write it": (0, lambda path: path.chmod(0o707)),
    "all can write it, and it is sticky": (0, lambda path: path.chmod(0o1777)),
    "another user's": (0, chown),
    "all can write its parent": (1, lambda path: path.chmod(0o777)),
    "its parent is another user's": (1, chown),
    "its parent is sticky and another user's": (1, give_away_sticky),
}


@pytest.mark.parametrize(("above", "spoil"), UNSAFE_FOLDERS.values(), ids=UNSAFE_FOLDERS)
def test_nothing_is_read_from_or_kept_in_an_unsafe_folder(
    above: int, spoil: Callable[[Path], None], planted: Path, load: Callable[[], str]
) -> None:
    content = planted.read_bytes()
    spoil([planted.parent, planted.parent.parent][above])
    assert load() == "own"
    assert planted.read_bytes() == content


def test_a_folder_in_a_sticky_one_is_safe(planted: Path, load: Callable[[], str]) -> None:
    """Others cannot replace it."""
    planted.parent.parent.chmod(0o1777)
    assert load() == "planted"


def test_the_folder_that_a_link_leads_to_must_be_safe(
    planted: Path, load: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(planted.parent.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "link"))
    assert load() == "planted"
    planted.parent.parent.chmod(0o777)
    assert load() == "own"


def test_a_service_uses_its_own_folder(
    folder: Path, load: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", f"{tmp_path}/service:{tmp_path}/second")
    load()
    assert len(list((tmp_path / "service").iterdir())) == 1
    assert not folder.exists()


@pytest.mark.parametrize("path", ["relative", "/proc/none", "/dev/null/x"])
def test_a_policy_loads_without_a_folder(
    path: str, load: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", path)
    monkeypatch.chdir(tmp_path)
    assert load() == "own"
    assert not list(tmp_path.iterdir())


def test_code_for_other_settings_is_not_loaded(
    planted: Path, runtime: WasmRuntime, load: Callable[[], str]
) -> None:
    """Without interruptions, a policy could run for ever."""
    code = bytes(wasmtime.Module(wasmtime.Engine(), OTHER).serialize())
    planted.write_bytes(pack(label_of(runtime.settings, OWN), code))
    assert load() == "own"
    assert label_of("other", OWN) != label_of(runtime.settings, OWN)


def test_the_number_of_files_is_bounded(folder: Path, runtime: WasmRuntime) -> None:
    """The oldest is removed, and other files are left alone."""
    folder.mkdir(parents=True, mode=0o700)
    other = folder / "other"
    other.touch()
    modules = [bytes(wasmtime.wat2wasm(f'(module (func (export "f{number}")))')) for number in range(10)]
    for number, wasm in enumerate(modules):
        load_module(runtime.engine, runtime.settings, wasm)
        os.utime(folder / name_of(label_of(runtime.settings, wasm)), (number, number))
    names = {name_of(label_of(runtime.settings, wasm)) for wasm in modules[2:]}
    assert {path.name for path in folder.iterdir()} == names | {"other"}
    assert len(names) == machine_code._MAX_FILES  # noqa: SLF001


def test_what_is_not_a_module_is_not_kept(folder: Path, runtime: WasmRuntime) -> None:
    with pytest.raises(PolicyLoadError):
        PolicyModule(runtime, b"garbage")
    assert not list(folder.iterdir())
