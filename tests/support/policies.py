"""Policy data in the form in which engines load it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from eksgateway.policy.compiled_policy import CompiledPolicy, build_policy


def compile_data(data: dict[str, Any]) -> CompiledPolicy:
    """Policy data without sets, compiled. Other data is left as it is, for custom modules."""
    policy = build_policy({"grants": [], "denials": [], "freezes": []} | data.get("eksgateway", {}))
    return policy if "eksgateway" in data else replace(policy, data=json.dumps(data).encode())
