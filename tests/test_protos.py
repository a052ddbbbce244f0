"""The protos for clients in other languages: compatible with the last release, and in both packages."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ERROR_DETAILS = "google/rpc/error_details.proto"
OURS = sorted(str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos").rglob("*.proto"))


def find_breaks(folder: Path) -> list[str]:
    """What ``buf breaking`` reports for the protos in the folder, as `make check` runs it."""
    makefile = (ROOT / "Makefile").read_text()
    (command,) = re.findall(r"^\t(buf breaking .+)$", makefile, re.MULTILINE)
    done = subprocess.run(
        command.split(), cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode == 0) == (done.stdout == ""), done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """What ``buf breaking`` reads, to be edited."""
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    for name in ("buf.yaml", "buf.released.binpb"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / "protos" / "eksgateway" / "v1" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


BREAKING = {
    "renamed field": ("update_service.proto", "string resume_token = 6;", "string token = 6;"),
    "other number": ("update.proto", "string region = 2;", "string region = 9;"),
    "other type": ("update_service.proto", "int64 sequence = 4;", "int32 sequence = 4;"),
    "removed enum value": ("error_reason.proto", "  ERROR_REASON_OVERLOADED = 30;\n", ""),
    "renamed method": ("cancellation_service.proto", "rpc GetCancellation(", "rpc ReadCancellation("),
    "other package of a language": ("update.proto", '"io.eksgateway.v1"', '"com.eksgateway.v1"'),
}


@pytest.mark.parametrize(("name", "old", "new"), BREAKING.values(), ids=BREAKING)
def test_breaking_changes_since_the_last_release_are_reported(
    copied: Path, name: str, old: str, new: str
) -> None:
    edit(copied, name, old, new)
    assert any(name in line for line in find_breaks(copied))


def test_a_moved_message_is_reported(copied: Path) -> None:
    """Level FILE: Go and C++ include by file."""
    message = "message GetUpdateResponse {\n  Update update = 1;\n}\n"
    edit(copied, "update_service.proto", message, "")
    edit(copied, "update.proto", "message ClusterRef {", message + "message ClusterRef {")
    assert find_breaks(copied)


def test_an_added_field_and_a_changed_comment_are_not_breaking(copied: Path) -> None:
    assert find_breaks(copied) == []
    edit(
        copied,
        "update.proto",
        "message ClusterRef {\n",
        "// Another.\nmessage ClusterRef {\n  bool more = 99;\n",
    )
    assert find_breaks(copied) == []


def test_generation_uses_no_remote_plugin() -> None:
    plugins = yaml.safe_load((ROOT / "buf.gen.yaml").read_text())["plugins"]
    assert plugins
    assert [plugin for plugin in plugins if "local" not in plugin] == []


def test_error_details_are_those_of_the_installed_package() -> None:
    """googleapis-common-protos has the Python code of the same file."""
    installed = files("google.rpc") / "error_details.proto"
    assert (ROOT / "third_party" / ERROR_DETAILS).read_bytes() == installed.read_bytes()


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source archive, and a wheel built from it, as pip does."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t"]
    subprocess.run([*build, "sdist"], cwd=ROOT, check=True, timeout=120)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # since Python 3.11.4
        archive.extractall(folder / "source")
    (source,) = (folder / "source").iterdir()
    subprocess.run([*build, "wheel"], cwd=source, check=True, timeout=120)
    return folder


def test_the_source_archive_has_the_protos_and_the_error_details(dist: Path) -> None:
    (source,) = (dist / "source").iterdir()
    for name in OURS:
        assert (source / "protos" / name).read_bytes() == (ROOT / "protos" / name).read_bytes()
    assert (source / "third_party" / ERROR_DETAILS).exists()


def test_the_wheel_has_one_folder_from_which_any_client_is_generated(dist: Path, tmp_path: Path) -> None:
    """It is enough for protoc together with protobuf's own files."""
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path)
    protos = tmp_path / "eksgateway" / "protos"
    names = sorted(str(path.relative_to(protos)) for path in protos.rglob("*") if path.is_file())
    assert names == sorted([*OURS, ERROR_DETAILS])
    include = files("grpc_tools") / "_proto"
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{protos}",
        f"-I{include}",
        f"-o{tmp_path / 'all'}",
    ]
    subprocess.run([*command, *names], check=True, timeout=60)
    assert (tmp_path / "all").stat().st_size
