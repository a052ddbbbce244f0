"""docs/opa.md shows the configuration that is tested, and the causes as they are logged."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "opa.md").read_text()


def test_the_page_has_opas_configuration() -> None:
    assert f"```yaml\n{(ROOT / 'deploy/opa/opa.yaml').read_text()}```" in PAGE


def test_the_page_has_causes_that_exist() -> None:
    sources = [
        *(ROOT / "server/eksgateway/policy").glob("opa*.py"),
        ROOT / "policies/eksgateway/revision.rego",
    ]
    logged = re.sub(r"\{[^}]*\}", "URL", " ".join(each.read_text() for each in sources))
    causes = re.findall(r"^\| `([^`]+)` \|", PAGE.partition("`detail` begins with")[2], re.MULTILINE)
    assert len(causes) == 9
    assert [cause for cause in causes if cause not in logged] == []
