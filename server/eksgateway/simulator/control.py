"""The control API under ``/_simulator/``: JSON in, JSON out, for whoever runs the simulation.

No AWS client ever calls it; it needs no credentials.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import Any

from aiohttp import web

from eksgateway.model import Target
from eksgateway.simulator import wire
from eksgateway.simulator.calls import CallRecord, Calls, Faults
from eksgateway.simulator.credentials import Accounts
from eksgateway.simulator.machine import Update
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
from eksgateway.simulator.state import Cluster, Refusal, State, set_by_hand


class Control:
    """What the control API does; the same in-process and over HTTP. Raises SpecError, with the reason."""

    def __init__(self, state: State, calls: Calls, faults: Faults, accounts: Accounts) -> None:
        self.state = state
        self.calls = calls
        self.faults = faults
        self.accounts = accounts

    def add_cluster(self, given: Any) -> list[str]:
        """A cluster from a ClusterSpec, in place of one of the same name; the ids of its updates."""
        spec = parse(ClusterSpec, given)
        updates = [self._update(update, auto_mode=spec.auto_mode) for update in spec.updates]
        cluster = Cluster(
            target=Target(spec.account_id or self.accounts.default, spec.region),
            name=spec.name,
            version=spec.version,
            tags=spec.tags,
            auto_mode=spec.auto_mode,
            created_at=self.state.wall(),
            set_status=spec.status,
            updates={update.id: update for update in updates},
        )
        own = [update for update in updates if update.resource is None]
        if sum(self.state.view(update).running for update in own) > 1:
            raise SpecError(
                "updates: EKS runs one update of a cluster at a time; give the others a final status"
            )
        _check(cluster, self.state)
        self.state.put(cluster)
        return [update.id for update in updates]

    def change_update(self, given: Any) -> dict[str, Any]:
        """Change one update by hand, as an UpdateChange says; what was left out stays."""
        change = parse(UpdateChange, given)
        target = Target(change.account_id or self.accounts.default, change.region)
        try:
            update = self.state.get(target, change.cluster).updates.get(change.update_id)
        except Refusal as exc:
            raise SpecError(f"cluster: {exc}") from exc
        if update is None:
            raise SpecError(f"update_id: {change.cluster} has no update {change.update_id}")
        changed = set_by_hand(
            replace(update, type=change.type or update.type),
            status=change.status or update.set_status,
            cancellation=change.cancellation.build() if change.cancellation else update.set_cancellation,
            errors=update.errors if change.errors is None else build_all(change.errors),
        )
        self.state.change(target, change.cluster, changed)
        return {"update_id": update.id, "status": self.state.view(changed).status}

    def add_fault(self, given: Any) -> None:
        self.faults.add(parse(FaultSpec, given))

    def advance(self, given: Any) -> float:
        """Push the clock ahead; simulated seconds since the start."""
        self.state.clock.advance(parse(ClockSpec, given).advance_s)
        return self.state.clock.now()

    def register(self, given: Any) -> None:
        spec = parse(AccessKeySpec, given)
        self.accounts.register(spec.access_key, spec.account_id)

    def _update(self, spec: UpdateSpec, *, auto_mode: bool) -> Update:
        update = Update(
            id=spec.id or self.state.new_id(),
            type=spec.type,
            params=tuple(param.build() for param in spec.params),
            errors=(),
            created_at=spec.created_at or self.state.wall(),
            started=self.state.clock.now(),
            plan=spec.plan(auto_mode=auto_mode),
            resource=spec.resource,
        )
        return set_by_hand(
            update,
            status=spec.status,
            cancellation=spec.cancellation.build() if spec.cancellation else None,
            errors=build_all(spec.errors),
        )


def routes(control: Control) -> list[web.RouteDef]:
    """The control API's routes."""

    def clusters(given: Any) -> dict[str, Any]:
        return {"update_ids": control.add_cluster(given)}

    def faults(given: Any) -> dict[str, Any]:
        control.add_fault(given)
        return {}

    def clock(given: Any) -> dict[str, Any]:
        return {"now_s": control.advance(given)}

    def access_keys(given: Any) -> dict[str, Any]:
        control.register(given)
        return {}

    async def calls(_: web.Request) -> web.Response:
        return web.json_response({"calls": [_call(call) for call in control.calls.all()]})

    async def forget_calls(_: web.Request) -> web.Response:
        control.calls.clear()
        return web.json_response({})

    async def forget_faults(_: web.Request) -> web.Response:
        control.faults.clear()
        return web.json_response({})

    return [
        web.post("/_simulator/clusters", _posted(clusters)),
        web.post("/_simulator/updates", _posted(control.change_update)),
        web.post("/_simulator/faults", _posted(faults)),
        web.delete("/_simulator/faults", forget_faults),
        web.get("/_simulator/calls", calls),
        web.delete("/_simulator/calls", forget_calls),
        web.post("/_simulator/clock", _posted(clock)),
        web.post("/_simulator/access-keys", _posted(access_keys)),
    ]


def _posted(effect: Callable[[Any], dict[str, Any]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            given = json.loads(await request.read())
        except ValueError:
            return web.json_response({"error": "the body is not JSON"}, status=400)
        try:
            return web.json_response(effect(given))
        except SpecError as exc:
            return web.json_response({"error": str(exc)}, status=400)

    return handle


def _check(cluster: Cluster, state: State) -> None:
    """Refuse at once what DescribeCluster could not say later (tags beyond EKS's limits)."""
    try:
        operation = wire.service().operation_model("DescribeCluster")
        wire.answer(operation, {"cluster": state.describe(cluster)})
    except wire.ModelMismatch as exc:
        raise SpecError(str(exc)) from exc


def _call(call: CallRecord) -> dict[str, Any]:
    return {**asdict(call), "time": call.time.isoformat()}
