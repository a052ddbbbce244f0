"""The states of an update that the simulated EKS showed, and when."""

from __future__ import annotations

import time
from dataclasses import replace

from eksgateway.simulator.clock import SimulatedClock
from eksgateway.simulator.lifecycle import SimulatedUpdate, take_snapshot
from support.fleet.history import State, Stay

_STEP = 1e-6


def list_stays(update: SimulatedUpdate, clock: SimulatedClock) -> tuple[Stay, ...]:
    """The states of an update that follows its plan and was cancelled once at most, in wall time."""
    wall, simulated = time.time(), clock.now()
    stays: list[Stay] = []
    for moment in _turning_points(update):
        seen = _state_at(update, moment)
        if not stays or stays[-1].state != seen:
            began = wall + (moment - simulated) / clock.speed
            if stays:
                stays[-1] = replace(stays[-1], until=began)
            stays.append(Stay(seen, began))
    return tuple(stays)


def _turning_points(update: SimulatedUpdate) -> list[float]:
    plan, start = update.plan, update.started
    points = [start, start + plan.node_phase_s, start + plan.node_phase_s + plan.control_plane_phase_s]
    points.append(start + plan.timeout_s)
    if (cancel := update.cancel_requested) is not None:
        points += [cancel, cancel + plan.cancel_delay_s]
        points.append(cancel + plan.cancel_delay_s + plan.node_replacing_s)
    return sorted(point for point in points if point >= start)


def _state_at(update: SimulatedUpdate, moment: float) -> State:
    cancel = update.cancel_requested
    if cancel is not None and moment < cancel:
        update = replace(update, cancel_requested=None)
    snapshot = take_snapshot(update, moment + _STEP)
    return snapshot.status, snapshot.cancellation.status if snapshot.cancellation else ""
