"""The control API under ``/_simulator/``, for tests and demonstrations. It needs no credentials."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiohttp import web

from eksgateway.model import Target
from eksgateway.simulator import rest_json
from eksgateway.simulator.call_log import CallRecord, FaultQueue
from eksgateway.simulator.cluster_store import ClusterStore, ServiceError, SimulatedCluster, hold_at
from eksgateway.simulator.lifecycle import SimulatedUpdate
from eksgateway.simulator.signatures import Accounts
from eksgateway.simulator.specs import (
    AccessKeySpec,
    ClockSpec,
    ClusterSpec,
    FaultSpec,
    SpecError,
    UpdateChange,
    UpdateSpec,
    build_all,
    parse,
)

Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Control:
    """The operations of the control API. Each raises SpecError for bad input."""

    store: ClusterStore
    calls: deque[CallRecord]  # oldest first
    faults: FaultQueue
    accounts: Accounts

    def add_cluster(self, given: Any) -> list[str]:
        """Add or replace a cluster (ClusterSpec). Returns the ids of its updates."""
        spec = parse(ClusterSpec, given)
        updates = [self._update(update, auto_mode=spec.auto_mode) for update in spec.updates]
        cluster = SimulatedCluster(
            target=Target(spec.account_id or self.accounts.default, spec.region),
            name=spec.name,
            version=spec.version,
            tags=spec.tags,
            auto_mode=spec.auto_mode,
            created_at=datetime.now(UTC),
            set_status=spec.status,
            updates={update.id: update for update in updates},
        )
        own = [update for update in updates if update.resource is None]
        if sum(self.store.snapshot(update).running for update in own) > 1:
            raise SpecError(
                "updates: EKS runs one update of a cluster at a time; give the others a final status"
            )
        _check_describable(cluster, self.store)
        self.store.put(cluster)
        return [update.id for update in updates]

    def change_update(self, given: Any) -> dict[str, Any]:
        change = parse(UpdateChange, given)
        target = Target(change.account_id or self.accounts.default, change.region)
        try:
            update = self.store.get(target, change.cluster).updates.get(change.update_id)
        except ServiceError as exc:
            raise SpecError(f"cluster: {exc}") from exc
        if update is None:
            raise SpecError(f"update_id: {change.cluster} has no update {change.update_id}")
        changed = hold_at(
            replace(update, type=change.type or update.type),
            status=change.status or update.set_status,
            cancellation=change.cancellation.build() if change.cancellation else update.set_cancellation,
            errors=update.errors if change.errors is None else build_all(change.errors),
        )
        self.store.change(target, change.cluster, changed)
        return {"update_id": update.id, "status": self.store.snapshot(changed).status}

    def add_fault(self, given: Any) -> None:
        self.faults.add(parse(FaultSpec, given))

    def advance(self, given: Any) -> float:
        self.store.clock.advance(parse(ClockSpec, given).advance_s)
        return self.store.clock.now()

    def register(self, given: Any) -> None:
        spec = parse(AccessKeySpec, given)
        self.accounts.register(spec.access_key, spec.account_id)

    def _update(self, spec: UpdateSpec, *, auto_mode: bool) -> SimulatedUpdate:
        update = SimulatedUpdate(
            id=spec.id or str(uuid4()),
            type=spec.type,
            params=spec.params,
            errors=(),
            created_at=spec.created_at or datetime.now(UTC),
            started=self.store.clock.now(),
            plan=spec.plan(auto_mode=auto_mode),
            resource=spec.resource,
        )
        return hold_at(
            update,
            status=spec.status,
            cancellation=spec.cancellation.build() if spec.cancellation else None,
            errors=build_all(spec.errors),
        )


def routes(control: Control) -> list[web.RouteDef]:
    async def calls(_: web.Request) -> web.Response:
        return web.json_response({"calls": [_to_json(call) for call in control.calls]})

    async def forget_calls(_: web.Request) -> web.Response:
        control.calls.clear()
        return web.json_response({})

    async def forget_faults(_: web.Request) -> web.Response:
        control.faults.clear()
        return web.json_response({})

    return [
        web.post(
            "/_simulator/clusters", _json_handler(lambda given: {"update_ids": control.add_cluster(given)})
        ),
        web.post("/_simulator/updates", _json_handler(control.change_update)),
        web.post("/_simulator/faults", _json_handler(control.add_fault)),
        web.delete("/_simulator/faults", forget_faults),
        web.get("/_simulator/calls", calls),
        web.delete("/_simulator/calls", forget_calls),
        web.post("/_simulator/clock", _json_handler(lambda given: {"now_s": control.advance(given)})),
        web.post("/_simulator/access-keys", _json_handler(control.register)),
    ]


def _json_handler(effect: Callable[[Any], dict[str, Any] | None]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            given = json.loads(await request.read())
        except ValueError:
            return web.json_response({"error": "the body is not JSON"}, status=400)
        try:
            return web.json_response(effect(given) or {})
        except SpecError as exc:
            return web.json_response({"error": str(exc)}, status=400)

    return handle


def _check_describable(cluster: SimulatedCluster, store: ClusterStore) -> None:
    """Raise SpecError if DescribeCluster cannot return the cluster, as with tags beyond EKS's limits."""
    try:
        operation = rest_json.service_model().operation_model("DescribeCluster")
        rest_json.build_answer(operation, {"cluster": store.describe(cluster)})
    except rest_json.ModelMismatch as exc:
        raise SpecError(str(exc)) from exc


def _to_json(call: CallRecord) -> dict[str, Any]:
    return {**asdict(call), "time": call.time.isoformat()}
