"""The input of the control API: clusters, changes of updates, faults."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from eksgateway.model import (
    ACCOUNT_ID_PATTERN,
    CLUSTER_NAME_PATTERN,
    REGION_PATTERN,
    UpdateCancellation,
    UpdateError,
    UpdateParam,
)
from eksgateway.simulator.lifecycle import (
    CANCEL_REASON,
    NODE_PHASE_S,
    ROLLBACK,
    OnCancel,
    OnTimeout,
    Plan,
    Resource,
)
from eksgateway.simulator.operations import BY_NAME

DEFAULT_ACCOUNT: Final = "111122223333"
DEFAULT_REGION: Final = "us-east-1"

Account = Annotated[str, Field(pattern=f"^{ACCOUNT_ID_PATTERN}$")]
Region = Annotated[str, Field(pattern=f"^{REGION_PATTERN}$")]
Name = Annotated[str, Field(pattern=f"^{CLUSTER_NAME_PATTERN}$")]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SpecError(Exception):
    """The text has the path and the reason of each error."""


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=BaseModel)


def parse(spec: type[S], given: Any) -> S:
    """Raises SpecError."""
    try:
        return spec.model_validate(given)
    except ValidationError as exc:
        lines = []
        for error in exc.errors():
            path = ".".join(str(part) for part in error["loc"]) or "body"
            lines.append(f"{path}: {error['msg'].removeprefix('Value error, ')}")
        raise SpecError("; ".join(lines)) from exc


class ErrorSpec(_Spec):
    """One of an update's ``errors``, spelt as EKS spells it."""

    error_code: Annotated[str, Field(alias="errorCode")]
    error_message: Annotated[str, Field(alias="errorMessage")] = ""
    resource_ids: Annotated[tuple[str, ...], Field(alias="resourceIds")] = ()

    def build(self) -> UpdateError:
        return UpdateError(self.error_code, self.error_message, self.resource_ids)


def build_all(errors: tuple[ErrorSpec, ...]) -> tuple[UpdateError, ...]:
    return tuple(error.build() for error in errors)


class CancellationSpec(_Spec):
    status: str
    reason: str = ""

    def build(self) -> UpdateCancellation:
        return UpdateCancellation(self.status, self.reason)


class UpdateSpec(_Spec):
    """An update of a cluster. Durations are simulated seconds."""

    id: Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{1,64}$")] | None = None
    type: str = ROLLBACK
    status: str = "InProgress"  # another value, known to EKS or not, holds the update there
    params: tuple[UpdateParam, ...] = ()
    errors: tuple[ErrorSpec, ...] = ()
    cancellation: CancellationSpec | None = None
    created_at: datetime | None = None
    nodegroup: str | None = None
    addon: str | None = None
    capability: str | None = None
    node_phase_s: Seconds | None = None  # by default NODE_PHASE_S where there is such a phase
    control_plane_phase_s: Seconds = 600
    timeout_minutes: Annotated[float, Field(ge=120, le=10080)] = 720
    node_replacing_s: Seconds = 120
    cancel_delay_s: Seconds = 0
    on_cancel: OnCancel = OnCancel.CANCELS
    on_timeout: OnTimeout = OnTimeout.FAILED
    cancel_reason: str = CANCEL_REASON
    refusal: Literal["InvalidStateException", "InvalidRequestException"] = "InvalidStateException"
    ends: Literal["Successful", "Failed"] = "Successful"

    @field_validator("created_at")
    @classmethod
    def _aware(cls, value: datetime | None) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value

    @model_validator(mode="after")
    def _one_resource(self) -> Self:
        if sum(name is not None for name in (self.nodegroup, self.addon, self.capability)) > 1:
            raise ValueError("an update belongs to one of nodegroup, addon, capability, or to none")
        return self

    @property
    def resource(self) -> Resource | None:
        named = {"nodegroup": self.nodegroup, "addon": self.addon, "capability": self.capability}
        return next((Resource(kind, name) for kind, name in named.items() if name), None)

    def plan(self, *, auto_mode: bool) -> Plan:
        rolls_nodes = auto_mode and self.type == ROLLBACK
        phase = self.node_phase_s if self.node_phase_s is not None else NODE_PHASE_S
        return Plan(
            node_phase_s=phase if rolls_nodes else 0,
            control_plane_phase_s=self.control_plane_phase_s,
            timeout_s=self.timeout_minutes * 60,
            node_replacing_s=self.node_replacing_s,
            cancel_delay_s=self.cancel_delay_s,
            on_cancel=self.on_cancel,
            on_timeout=self.on_timeout,
            cancel_reason=self.cancel_reason,
            refusal=self.refusal,
            ends=self.ends,
        )


class ClusterSpec(_Spec):
    name: Name
    account_id: Account | None = None  # the default account
    region: Region = DEFAULT_REGION
    version: Annotated[str, Field(pattern=r"^1\.[0-9]+$")] = "1.34"
    tags: dict[str, str] = {}
    auto_mode: bool = True
    status: str | None = None
    updates: tuple[UpdateSpec, ...] = ()  # oldest first

    @model_validator(mode="after")
    def _possible(self) -> Self:
        ids = [update.id for update in self.updates if update.id]
        if len(set(ids)) != len(ids):
            raise ValueError("two updates have the same id")
        for update in self.updates:
            if update.node_phase_s and not (self.auto_mode and update.type == ROLLBACK):
                raise ValueError(
                    "node_phase_s: only a VersionRollback on an Auto Mode cluster rolls nodes back"
                )
        return self


class UpdateChange(_Spec):
    """A change of one update. Members left out stay. Status InProgress returns the update to its plan."""

    cluster: Name
    update_id: str
    account_id: Account | None = None  # the default account
    region: Region = DEFAULT_REGION
    status: str | None = None
    type: str | None = None
    cancellation: CancellationSpec | None = None
    errors: tuple[ErrorSpec, ...] | None = None


class FaultSpec(_Spec):
    """A fault in the next ``times`` calls of an operation (``*``: of any operation).

    With a ``code`` or an HTTP ``status`` the call gets that error, without an effect unless ``effect`` is
    set. ``body`` replaces the answer as a proxy does, with any ``status`` (by default 403). ``drop`` closes
    the connection before or after the effect. ``delay_s`` passes between effect and answer. The answer is
    sent over ``drip_s`` and followed by ``pad_bytes`` spaces. Seconds are real.
    """

    operation: str = "*"
    times: Annotated[int, Field(ge=1)] = 1
    code: str | None = None
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    body: str | None = None
    content_type: str = "text/html"
    message: str = "A fault set at the simulated EKS."
    delay_s: Seconds = 0
    drop: Literal["before", "after"] | None = None
    effect: bool = False
    drip_s: Seconds = 0
    pad_bytes: Annotated[int, Field(ge=0, le=1 << 30)] = 0

    @property
    def fails(self) -> bool:
        return self.code is not None or self.status is not None or self.body is not None

    @field_validator("operation")
    @classmethod
    def _operation(cls, value: str) -> str:
        if value != "*" and value not in BY_NAME:
            raise ValueError(f"is none of {', '.join(BY_NAME)} or *")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.drop and self.fails:
            raise ValueError("a fault is an error (code, status, body) or a drop, not both")
        if self.body is not None and self.code is not None:
            raise ValueError("a fault is a code of AWS or a body of another server, not both")
        if self.body is None and self.status is not None and self.status < 400:
            raise ValueError("a status below 400 needs a body: without one it is no fault")
        if self.effect and not self.fails:
            raise ValueError(
                "effect needs a code, a status or a body: other faults have their effect, except drop before"
            )
        if not (self.fails or self.drop or self.delay_s or self.drip_s or self.pad_bytes):
            raise ValueError("a fault needs a code, a status, a body, a drop, a delay_s, drip_s or pad_bytes")
        return self


class ClockSpec(_Spec):
    advance_s: Seconds


class AccessKeySpec(_Spec):
    access_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,128}$")]
    account_id: Account
