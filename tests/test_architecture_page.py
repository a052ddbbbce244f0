"""docs/architecture.md names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_architecture_page_names_existing_files() -> None:
    """A renamed file has to be renamed there too."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([\w./]+(?:\.py|\.proto|/))`", page))
    folders = (ROOT, ROOT / "server" / "eksgateway", ROOT / "protos" / "eksgateway" / "v1")
    assert named
    assert [name for name in sorted(named) if not any((each / name).exists() for each in folders)] == []
