"""Files, sets, anchors, merge keys and JSON are forms of the same content."""

from __future__ import annotations

from pathlib import Path
from random import Random

from eksgateway.policy.source import load_content
from support.policy_generated import Content, contents
from support.policy_writing import write_sources


def test_content_in_every_form_is_read_alike(tmp_path: Path) -> None:
    """The order of entries is that of the files."""
    random = Random(20261129)
    for number, content in enumerate(contents(random, 80)):
        source = write_sources(random, content, tmp_path / str(number))
        assert _sort(load_content(source)) == _sort(content)


def _sort(content: Content) -> Content:
    return {kind: sorted(entries, key=lambda entry: str(entry["id"])) for kind, entries in content.items()}
