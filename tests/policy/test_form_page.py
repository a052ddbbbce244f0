"""docs/policy-form.md shows what the compiler makes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from eksgateway.policy.compiler import compile_content

PAGE = (Path(__file__).parents[2] / "docs" / "policy-form.md").read_text(encoding="utf-8")
REST = "…"  # parts that the page leaves out


def index_of(content: dict[str, Any]) -> dict[str, Any]:
    index: dict[str, Any] = compile_content({"denials": [], **content})["eksgateway"]["index"]
    return index


def find_differences(shown: Any, made: Any, path: str = "index") -> list[str]:
    if isinstance(shown, dict) and isinstance(made, dict):
        keys = shown.keys() - {REST} if REST in shown else shown.keys() | (made.keys() - {""})
        return [
            line for key in keys for line in find_differences(shown.get(key), made.get(key), f"{path}.{key}")
        ]
    return [] if shown == made else [f"{path}: {shown!r} is {made!r}"]


def test_the_example_compiles_to_what_the_page_shows() -> None:
    content, shown = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    assert not find_differences(shown | {REST: None}, index_of(content))


def test_every_part_is_in_the_table() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE.partition("## Parts")[2], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert index_of({"grants": [], "freezes": []}).keys() <= named
