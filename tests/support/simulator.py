"""A simulated EKS in the test's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
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
    """``async with SimulatedEks() as eks:`` runs one. ``eks.url`` is its address."""

    def __init__(self, *, speed: float = 1.0, on_call: Callable[[CallRecord], None] | None = None) -> None:
        self.simulator = Simulator(speed=speed, on_call=on_call)
        self.url = ""
        self._clients: list[Any] = []
        self._default: Any = None

    async def __aenter__(self) -> Self:
        self.url = await self.simulator.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        await self.simulator.stop()

    def cluster(self, name: str, **spec: Any) -> list[str]:
        """Add a cluster, as POST /_simulator/clusters does; returns the ids of its updates."""
        return self.simulator.add_cluster({"name": name, **spec})

    def rollback(self, name: str, **overrides: Any) -> str:
        """Add an Auto Mode cluster with a VersionRollback in its node phase; returns the update's id.

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
        """The update's reference in the gateway's model."""
        return UpdateRef(ClusterRef(account_id, region, name), update_id)

    def set_update(self, name: str, update_id: str, **change: Any) -> None:
        """Change an update, as POST /_simulator/updates does (status, cancellation, type, errors)."""
        self.simulator.control.change_update({"cluster": name, "update_id": update_id, **change})

    def calls(self, operation: str | None = None) -> tuple[CallRecord, ...]:
        """The calls, in order."""
        return self.simulator.calls(operation)

    def fault(self, operation: str = "*", **fault: Any) -> None:
        """Add a fault, as POST /_simulator/faults does."""
        self.simulator.control.add_fault({"operation": operation, **fault})

    def clear_faults(self) -> None:
        self.simulator.control.faults.clear()

    def clear_calls(self) -> None:
        self.simulator.control.calls.clear()

    def advance(self, seconds: float) -> None:
        """Advance simulated time."""
        self.simulator.control.advance({"advance_s": seconds})

    def client(self, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION, **config: Any) -> Any:
        """An unmodified boto3 client of this account and region. ``config`` is botocore's.

        It blocks: use ``call`` or a thread. It is closed with the simulator.
        """
        options: dict[str, Any] = {"retries": {"total_max_attempts": 1}, "read_timeout": 10, **config}
        client: Any = _session().client(
            "eks",
            region_name=region,
            endpoint_url=self.url,
            aws_access_key_id=f"AKIA{account_id}",
            aws_secret_access_key="simulated",
            config=Config(**options),
        )
        self._clients.append(client)
        return client

    async def call(self, operation: str, *, client: Any = None, **params: Any) -> dict[str, Any]:
        """One call of a boto3 client, e.g. ``cancel_update``. By default of the default account."""
        client = client or self._default_client()
        answer: dict[str, Any] = await asyncio.to_thread(getattr(client, operation), **params)
        return answer

    def _default_client(self) -> Any:
        if self._default is None:
            self._default = self.client()
        return self._default


@cache
def _session() -> boto3.Session:
    return boto3.Session()
