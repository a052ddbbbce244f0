"""The sandbox's clusters, each with one update.

Durations are simulated seconds: at the sandbox's default speed a simulated minute is a real second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from eksgateway.model import Target

HOME: Final = Target("111122223333", "us-east-1")

_DAY_S: Final = 24 * 3600.0
_MAX_NODES_MIN: Final = 7 * 24 * 60  # EKS: nodes may take up to 7 days

# The nodes roll back for as long as EKS allows. After a cancel, the update is InProgress for two simulated
# minutes, then Cancelling for ten, until the node being replaced is finished.
_NODES: Final[dict[str, Any]] = {
    "timeout_minutes": _MAX_NODES_MIN,
    "node_phase_s": 7 * _DAY_S,
    "cancel_delay_s": 120,
    "node_replacing_s": 600,
    "params": [{"type": "Version", "value": "1.33"}],
}


@dataclass(frozen=True, slots=True)
class SandboxCluster:
    """``about`` is for users. ``spec`` is the update, as in POST /_simulator/clusters."""

    name: str
    about: str
    spec: dict[str, Any]

    @property
    def update_id(self) -> str:
        return f"{'upgrade' if self.spec.get('type') == 'VersionUpdate' else 'rollback'}-{self.name}"

    def to_spec(self) -> dict[str, Any]:
        """The body for POST /_simulator/clusters."""
        return {
            "name": self.name,
            "account_id": HOME.account_id,
            "region": HOME.region,
            "tags": {"environment": "production" if self.name.startswith("prod-") else "staging"},
            "updates": [{"id": self.update_id, **self.spec}],
        }


CLUSTERS: Final = (
    SandboxCluster(
        "prod-1",
        "A rollback whose nodes roll back for days: oncall cancels it with a reason and a ticket.",
        _NODES,
    ),
    SandboxCluster(
        "prod-2",
        "A rollback whose control plane has begun: a cancel comes too late.",
        {"node_phase_s": 0, "control_plane_phase_s": 365 * _DAY_S, "params": _NODES["params"]},
    ),
    SandboxCluster(
        "prod-3",
        "A VersionUpdate: the policy allows no cancel of one on production.",
        {"type": "VersionUpdate", "control_plane_phase_s": 365 * _DAY_S},
    ),
    SandboxCluster(
        "staging-1",
        "A rollback as on prod-1: here oncall needs neither reason nor ticket.",
        _NODES,
    ),
    SandboxCluster(
        "staging-2",
        "A rollback whose cancellation fails: advance the clock by two days, and it has completed anyway.",
        _NODES | {"node_phase_s": 2 * _DAY_S - 7200, "control_plane_phase_s": 3600, "on_cancel": "fails"},
    ),
    SandboxCluster(
        "staging-3",
        "A rollback that has ended Successful: there is nothing to cancel.",
        {"status": "Successful", "params": _NODES["params"]},
    ),
    SandboxCluster(
        "staging-4",
        "A VersionUpdate: the policy allows oncall to cancel, and EKS refuses.",
        {"type": "VersionUpdate", "control_plane_phase_s": 365 * _DAY_S},
    ),
)
