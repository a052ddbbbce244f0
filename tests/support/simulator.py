"""A simulated EKS for tests: started in the running loop, seeded and commanded in one line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import boto3
from botocore.config import Config

from eksgateway.model import ClusterRef, UpdateRef
from eksgateway.simulator import CallRecord, Simulator
from eksgateway.simulator.specs import DEFAULT_ACCOUNT, DEFAULT_REGION

UPDATE_FIELDS = (
    "node_phase_s",
    "control_plane_phase_s",
    "timeout_minutes",
    "node_replacing_s",
    "cancel_delay_s",
    "on_cancel",
    "on_timeout",
    "cancel_reason",
    "refusal",
    "ends",
    "errors",
    "cancellation",
    "created_at",
)


class SimulatedEks:
    """``async with SimulatedEks() as eks:`` gives a running one; ``eks.url`` is its address."""

    def __init__(self, *, speed: float = 1.0, on_call: Callable[[CallRecord], None] | None = None) -> None:
        self.simulator = Simulator(speed=speed, on_call=on_call)
        self.url = ""

    async def __aenter__(self) -> Self:
        self.url = await self.simulator.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.simulator.stop()

    def cluster(self, name: str, **spec: Any) -> list[str]:
        """A cluster from a spec as POST /_simulator/clusters takes it; the ids of its updates."""
        return self.simulator.add_cluster({"name": name, **spec})

    def rollback(self, name: str, **overrides: Any) -> str:
        """An Auto Mode cluster with a VersionRollback in its node phase; the update's id.

        Overrides named in UPDATE_FIELDS, and ``update_id``, ``update_type``, ``update_status`` and
        ``params``, go to the update; all others (tags, account_id, auto_mode, …) to the cluster.
        """
        update = {key: overrides.pop(key) for key in UPDATE_FIELDS if key in overrides}
        update["params"] = overrides.pop("params", [{"type": "Version", "value": "1.33"}])
        for key in ("id", "type", "status"):
            if f"update_{key}" in overrides:
                update[key] = overrides.pop(f"update_{key}")
        return self.cluster(name, updates=[update], **overrides)[0]

    def ref(
        self, name: str, update_id: str, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION
    ) -> UpdateRef:
        """The update as the gateway's model names it."""
        return UpdateRef(ClusterRef(account_id, region, name), update_id)

    def set_update(self, name: str, update_id: str, **change: Any) -> None:
        """Change an update by hand, as POST /_simulator/updates does (status, cancellation, type, errors)."""
        self.simulator.control.change_update({"cluster": name, "update_id": update_id, **change})

    def calls(self, operation: str | None = None) -> tuple[CallRecord, ...]:
        """What was called, in order."""
        return self.simulator.calls(operation)

    def fault(self, operation: str = "*", **fault: Any) -> None:
        """What is to go wrong next, as POST /_simulator/faults takes it."""
        self.simulator.control.add_fault({"operation": operation, **fault})

    def clear_faults(self) -> None:
        self.simulator.control.faults.clear()

    def clear_calls(self) -> None:
        self.simulator.control.calls.clear()

    def advance(self, seconds: float) -> None:
        """Let simulated time pass at once."""
        self.simulator.control.advance({"advance_s": seconds})

    def client(self, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION, **config: Any) -> Any:
        """An unmodified boto3 client of this account and region; it blocks: call it in a thread."""
        options: dict[str, Any] = {
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "connect_timeout": 2,
            "read_timeout": 10,
            **config,
        }
        session = boto3.Session(
            aws_access_key_id=f"AKIA{account_id}", aws_secret_access_key="simulated", region_name=region
        )
        return session.client("eks", endpoint_url=self.url, config=Config(**options))
