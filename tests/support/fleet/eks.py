"""The simulated EKS of several replicas: it takes its time, and keeps who called and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from eksgateway.model import ClusterRef, Target, UpdateRef
from eksgateway.simulator.call_log import CallRecord, FaultQueue
from eksgateway.simulator.specs import FaultSpec
from support.fleet.history import EksCall, Stay
from support.fleet.timeline import list_stays
from support.simulator import SimulatedEks

LATENCY_S: Final = 0.05


class FleetEks(SimulatedEks):
    """Every answer takes ``LATENCY_S``. Each replica has an access key of its own, by which it is known."""

    def __init__(self) -> None:
        self._log = _CallLog()
        super().__init__(on_call=self._log.record)
        self.simulator.control = replace(self.simulator.control, faults=self._log)

    def add_replica(self, name: str, account_id: str) -> str:
        """Returns its access key."""
        key = f"AKIA{name.upper()}"
        self.simulator.control.register({"access_key": key, "account_id": account_id})
        self._log.replicas[key] = name
        return key

    @property
    def eks_calls(self) -> tuple[EksCall, ...]:
        return tuple(self._log.calls)

    def count(self, operation: str, token: str | None = None) -> int:
        """The calls of an operation so far, with this token if given."""
        return sum(call.operation == operation and token in (None, call.token) for call in self._log.calls)

    def list_stays(self) -> dict[UpdateRef, tuple[Stay, ...]]:
        """The states of each update, past and to come."""
        store, found = self.simulator.control.store, {}
        for target in {call.target for call in self._log.calls}:
            for name in store.cluster_names(target):
                cluster = ClusterRef(target.account_id, target.region, name)
                for update in store.get(target, name).updates.values():
                    found[UpdateRef(cluster, update.id)] = list_stays(update, store.clock)
        return found


class _CallLog(FaultQueue):
    """The server takes the fault of a call right after it recorded the call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[EksCall] = []
        self.replicas: dict[str, str] = {}

    def record(self, call: CallRecord) -> None:
        began = call.time.timestamp()
        target = Target(call.account_id, call.region)
        ref = None
        if call.cluster and call.update_id:
            ref = UpdateRef(ClusterRef(target.account_id, target.region, call.cluster), call.update_id)
        replica = self.replicas.get(call.access_key, call.access_key)
        self.calls.append(EksCall(call.operation, replica, target, began, began, ref, call.token or ""))

    def take(self, operation: str) -> FaultSpec | None:
        fault = super().take(operation) or FaultSpec(operation=operation, delay_s=LATENCY_S)
        call = self.calls[-1]
        acted = fault.effect or not (fault.fails or fault.drop == "before")
        self.calls[-1] = replace(call, ended=call.began + fault.delay_s, acted=acted)
        return fault
