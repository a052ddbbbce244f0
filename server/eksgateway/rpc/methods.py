"""Every method this server answers, and what the interceptors need to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from eksgateway.model import Action


class Access(Enum):
    """Who may reach a method's handler."""

    OPEN = "open"  # anybody: health
    REFLECTION = "reflection"  # by the setting `reflection`
    CALLER = "caller"  # who proved who they are; the servicer decides row by row
    POLICY = "policy"  # and whom the policy admits to the cluster, at stage request


class Place(Enum):
    """What a call holds one of while it lasts. Each kind is counted apart, so that none starves another."""

    CALL = "call"
    WATCH = "watch"  # a stream about an update
    OPEN = "open"  # a stream about the gateway, which may need no credentials: health and reflection


@dataclass(frozen=True, slots=True)
class Method:
    """One method. ``actions`` are decided at stage request; ``place`` is what it begins with.

    ``own_deadline``: the handler keeps the whole call's time limit itself, because what it tells
    then depends on how far it came.
    """

    access: Access
    actions: tuple[Action, ...] = ()
    place: Place = Place.CALL
    own_deadline: bool = False


UPDATES = "eksgateway.v1.UpdateService"
CANCELLATIONS = "eksgateway.v1.CancellationService"
HEALTH = "grpc.health.v1.Health"
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

METHODS: dict[str, Method] = {
    f"/{UPDATES}/CancelUpdate": Method(Access.POLICY, (Action.CANCEL,), own_deadline=True),
    f"/{UPDATES}/CheckCancelUpdate": Method(Access.POLICY, (Action.CHECK,)),
    f"/{UPDATES}/GetUpdate": Method(Access.POLICY, (Action.GET,)),
    f"/{UPDATES}/ListUpdates": Method(Access.POLICY, (Action.LIST,)),
    f"/{UPDATES}/ListCancellableUpdates": Method(Access.CALLER),
    f"/{UPDATES}/WatchUpdate": Method(Access.POLICY, (Action.WATCH,), Place.WATCH),
    f"/{UPDATES}/CancelUpdateAndWatch": Method(
        Access.POLICY, (Action.CANCEL, Action.WATCH), own_deadline=True
    ),
    f"/{CANCELLATIONS}/GetCancellation": Method(Access.CALLER),
    f"/{CANCELLATIONS}/ListCancellations": Method(Access.CALLER),
    f"/{HEALTH}/Check": Method(Access.OPEN),
    f"/{HEALTH}/List": Method(Access.OPEN),
    f"/{HEALTH}/Watch": Method(Access.OPEN, place=Place.OPEN),
    **{
        f"/{service}/ServerReflectionInfo": Method(Access.REFLECTION, place=Place.OPEN)
        for service in REFLECTION
    },
}
