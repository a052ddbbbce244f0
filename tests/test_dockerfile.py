"""The image cannot be built wherever the tests run; what its recipe names can be looked at."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer.main

from eksgateway.cli.main import app

ROOT = Path(__file__).parent.parent
CONFIG = "/etc/eksgateway/config.yaml"


def steps() -> list[tuple[str, str]]:
    """Every instruction and what follows it, comments left out and continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


def of(name: str) -> list[str]:
    return [rest for step, rest in steps() if step == name]


def final() -> list[tuple[str, str]]:
    """The instructions of the image that is left."""
    every = steps()
    return every[max(number for number, (name, _) in enumerate(every) if name == "FROM") :]


def test_what_is_copied_exists() -> None:
    """From the repository, or from the stage that installs."""
    for rest in of("COPY"):
        *sources, _ = [word for word in rest.split() if not word.startswith("--")]
        if not rest.startswith("--from="):
            assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [rest for rest in of("COPY") if rest.startswith("--from=")] == [
        "--from=build /opt/eksgateway /opt/eksgateway"
    ]


@pytest.mark.parametrize("which", ["CMD", "HEALTHCHECK"])
def test_what_it_runs_are_commands_of_the_package(which: str) -> None:
    """With options that they have, on the one settings file."""
    (rest,) = of(which)
    words = json.loads(rest[rest.index("[") :])
    if which == "CMD":
        words = [*json.loads(*of("ENTRYPOINT")), *words]
    program, command, *arguments = words
    assert program == "eksgateway"
    context = typer.main.get_command(app).commands[command].make_context(command, arguments)  # type: ignore[attr-defined]  # it is a group
    assert str(context.params["config"]) == CONFIG


def test_nothing_is_compiled_and_no_compiler_is_left() -> None:
    """Wheels alone, locked; the final image gets the environment and runs as nobody."""
    runs = " ".join(of("RUN"))
    assert not re.search(r"\b(apt(-get)?|apk|gcc|g\+\+|clang|build-essential|make)\b", runs)
    assert "--require-hashes --only-binary=:all: -r requirements/runtime.lock" in runs
    assert {name for name, _ in final()} == {
        *("FROM", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD")
    }
    assert dict(final())["USER"] == "10001:10001"
