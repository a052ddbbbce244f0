"""The issuers of docs/identity.md, with tokens as these issuers write them."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from eksgateway.identity.claims import read_claims
from eksgateway.settings import IssuerSettings
from support.clock import FakeClock
from support.tokens import Idp

PAGE = Path(__file__).parents[2] / "docs" / "identity.md"
BLOCKS = re.findall(r"```yaml\n(- name:.*?)```", PAGE.read_text(), re.DOTALL)
ISSUERS = {each["name"]: IssuerSettings(**each) for block in BLOCKS for each in yaml.safe_load(block)}
WORKFLOW = "corp/ci/.github/workflows/deploy.yml@refs/heads/main"
# Shortened from docs.github.com ("OpenID Connect reference"), docs.gitlab.com ("ID token payload") and
# kubernetes.io ("Managing Service Accounts", bound tokens).
TOKENS: dict[str, tuple[dict[str, Any], dict[str, tuple[str, ...]]]] = {
    "github": (
        {
            "sub": "repo:corp/app:environment:prod",
            "environment": "prod",
            "ref": "refs/heads/main",
            "repository": "corp/app",
            "repository_id": "74",
            "run_attempt": "2",
            "head_ref": "",
            "base_ref": "",
            "job_workflow_ref": WORKFLOW,
        },
        {
            "environment": ("prod",),
            "ref": ("refs/heads/main",),
            "repository": ("corp/app",),
            "workflow": (WORKFLOW,),
        },
    ),
    "gitlab": (
        {
            "sub": "project_path:corp/app:ref_type:branch:ref:main",
            "project_path": "corp/app",
            "ref": "main",
            "ref_type": "branch",
            "ref_protected": "true",
            "groups_direct": ["corp"],
        },
        {"project": ("corp/app",), "protected": ("true",), "ref": ("main",)},
    ),
    "cluster": (
        {
            "sub": "system:serviceaccount:payments:robot",
            "kubernetes.io": {
                "namespace": "payments",
                "pod": {"name": "robot-7", "uid": "5d6f"},
                "serviceaccount": {"name": "robot", "uid": "9a2b"},
                "warnafter": 1_700_001_607,
            },
        },
        {"account": ("robot",), "namespace": ("payments",)},
    ),
}


@pytest.mark.parametrize(("name", "payload", "expected"), [(name, *each) for name, each in TOKENS.items()])
def test_the_documented_claims_are_those_of_the_issuers_tokens(
    name: str, payload: dict[str, Any], expected: dict[str, tuple[str, ...]]
) -> None:
    issuer = ISSUERS[name]
    idp = Idp(name=name, issuer=issuer.issuer)
    read = read_claims(idp.claims(FakeClock().now(), **payload), issuer, timedelta())
    assert {claim.name: claim.values for claim in read.caller.claims} == expected
    assert read.unusable_claims == ()
    assert read.caller.id == f"jwt:{name}:{payload['sub']}"
