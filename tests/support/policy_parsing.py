"""Policy data from texts and documents, as from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eksgateway.policy.source import Content, PolicyDataError, SourceFile, parse_sources


def parse_texts(**texts: str) -> Content:
    """The content of files in a folder; ``a_yaml`` names a.yaml. Raises PolicyDataError."""
    names = {name.replace("_", "."): text for name, text in texts.items()}
    return parse_sources([SourceFile(Path("folder") / name, text.encode()) for name, text in names.items()])


def parse_content(**content: Any) -> Content:
    """The content of one file with these parts. Raises PolicyDataError."""
    return parse_sources([SourceFile(Path("data.json"), json.dumps({"eksgateway": content}).encode())])


def find_faults(document: Any) -> tuple[str, ...]:
    """The lines about a file with the document, empty if it is good."""
    return find_file_faults("data.json", json.dumps(document))


def find_file_faults(name: str, text: str | bytes) -> tuple[str, ...]:
    raw = text if isinstance(text, bytes) else text.encode()
    try:
        parse_sources([SourceFile(Path(name), raw)])
    except PolicyDataError as exc:
        return exc.faults
    return ()
