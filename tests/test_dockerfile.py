"""The Dockerfile, read without building the image."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer.main

from eksgateway.cli.main import app

ROOT = Path(__file__).parent.parent
CONFIG = "/etc/eksgateway/config.yaml"


def read_steps() -> list[tuple[str, str]]:
    """Each instruction and its arguments, without comments and with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


def read_arguments(name: str) -> list[str]:
    return [rest for step, rest in read_steps() if step == name]


def read_final_stage() -> list[tuple[str, str]]:
    """The instructions of the last stage."""
    every = read_steps()
    return every[max(number for number, (name, _) in enumerate(every) if name == "FROM") :]


def test_copied_files_exist() -> None:
    """In the repository, or in the build stage."""
    for rest in read_arguments("COPY"):
        *sources, _ = [word for word in rest.split() if not word.startswith("--")]
        if not rest.startswith("--from="):
            assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [rest for rest in read_arguments("COPY") if rest.startswith("--from=")] == [
        "--from=build /opt/eksgateway /opt/eksgateway"
    ]


@pytest.mark.parametrize("which", ["CMD", "HEALTHCHECK"])
def test_image_runs_commands_of_the_package(which: str) -> None:
    """With valid options and one settings file."""
    (rest,) = read_arguments(which)
    words = json.loads(rest[rest.index("[") :])
    if which == "CMD":
        words = [*json.loads(*read_arguments("ENTRYPOINT")), *words]
    program, command, *arguments = words
    assert program == "eksgateway"
    context = typer.main.get_command(app).commands[command].make_context(command, arguments)  # type: ignore[attr-defined]  # it is a group
    assert str(context.params["config"]) == CONFIG


def test_image_compiles_nothing_and_has_no_compiler() -> None:
    """Locked wheels only. The image runs without root."""
    runs = " ".join(read_arguments("RUN"))
    assert not re.search(r"\b(apt(-get)?|apk|gcc|g\+\+|clang|build-essential|make)\b", runs)
    assert "--require-hashes --only-binary=:all: -r requirements/image.lock" in runs
    assert {name for name, _ in read_final_stage()} == {
        *("FROM", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD")
    }
    assert dict(read_final_stage())["USER"] == "10001:10001"
