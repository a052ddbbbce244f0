"""A file of the first form, with grants and freezes alone, keeps its meaning."""

from __future__ import annotations

from pathlib import Path

import yaml

from eksgateway.policy.source import load_content

FIRST_FORM = Path(__file__).parent / "first-form.yaml"


def test_its_content_is_what_it_says() -> None:
    """Nothing is added, left out or changed."""
    written = yaml.safe_load(FIRST_FORM.read_text())["eksgateway"]
    assert load_content(FIRST_FORM) == written | {"denials": []}
