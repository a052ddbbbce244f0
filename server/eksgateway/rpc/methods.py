"""Every method that the gateway serves. Others are answered METHOD_UNKNOWN."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from eksgateway.model import Action


class Access(Enum):
    """Which calls reach a method's handler."""

    OPEN = "open"  # all: health needs no credentials
    REFLECTION = "reflection"  # by the setting `reflection`
    CALLER = "caller"  # those of a verified caller; the handler authorizes each row
    POLICY = "policy"  # those that the policy allows on the request's cluster


class Quota(StrEnum):  # an Enum's hash is Python code: 4 µs of each call
    """A kind of call. Each is bounded apart, so that none starves another."""

    CALL = "call"
    WATCH = "watch"
    OPEN = "open"  # a health watch or a reflection stream, which may need no credentials


@dataclass(frozen=True, slots=True)
class Method:
    """The policy must allow each of ``actions`` at stage request. ``quota`` is that of a call's start.

    With ``own_deadline`` the handler enforces the call timeout, because its error depends on how far the
    cancel has come.
    """

    access: Access
    actions: tuple[Action, ...] = ()
    quota: Quota = Quota.CALL
    own_deadline: bool = False


UPDATES: Final = "eksgateway.v1.UpdateService"
CANCELLATIONS: Final = "eksgateway.v1.CancellationService"
HEALTH: Final = "grpc.health.v1.Health"
REFLECTION: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

METHODS: Final[dict[str, Method]] = {
    f"/{UPDATES}/CancelUpdate": Method(Access.POLICY, (Action.CANCEL,), own_deadline=True),
    f"/{UPDATES}/CheckCancelUpdate": Method(Access.POLICY, (Action.CHECK,)),
    f"/{UPDATES}/GetUpdate": Method(Access.POLICY, (Action.GET,)),
    f"/{UPDATES}/ListUpdates": Method(Access.POLICY, (Action.LIST,)),
    f"/{UPDATES}/ListCancellableUpdates": Method(Access.CALLER),
    f"/{UPDATES}/WatchUpdate": Method(Access.POLICY, (Action.WATCH,), Quota.WATCH),
    f"/{UPDATES}/CancelUpdateAndWatch": Method(
        Access.POLICY, (Action.CANCEL, Action.WATCH), own_deadline=True
    ),
    f"/{CANCELLATIONS}/GetCancellation": Method(Access.CALLER),
    f"/{CANCELLATIONS}/ListCancellations": Method(Access.CALLER),
    f"/{HEALTH}/Check": Method(Access.OPEN),
    f"/{HEALTH}/List": Method(Access.OPEN),
    f"/{HEALTH}/Watch": Method(Access.OPEN, quota=Quota.OPEN),
    **{
        f"/{service}/ServerReflectionInfo": Method(Access.REFLECTION, quota=Quota.OPEN)
        for service in REFLECTION
    },
}
