"""Converts the gateway's objects to protos."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from eksgateway import model
from eksgateway.cancellability import Advice
from eksgateway.cancellable_updates import CancellableUpdate
from eksgateway.errors import GatewayError
from eksgateway.v1 import cancellation_pb2, update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.cancellation_pb2 import CancellationPhase
from eksgateway.v1.error_reason_pb2 import ErrorReason
from eksgateway.watch import resume
from eksgateway.watch.events import WatchEvent


def timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time.astimezone(UTC))
    return stamp


def duration(time: timedelta) -> Duration:
    """Zero for a negative one: a clock may be set back."""
    proto = Duration()
    proto.FromTimedelta(max(timedelta(), time))
    return proto


def phase(value: model.Phase | None) -> CancellationPhase.ValueType:
    """UNSPECIFIED for None."""
    return CancellationPhase.Value(f"CANCELLATION_PHASE_{value.value if value else 'UNSPECIFIED'}")


def cluster_ref(ref: model.ClusterRef) -> update_pb2.ClusterRef:
    return update_pb2.ClusterRef(**asdict(ref))


def update(value: model.Update) -> update_pb2.Update:
    cancellation = value.cancellation
    return update_pb2.Update(
        id=value.id,
        status=value.status,
        type=value.type,
        # Not by ``asdict``, whose deep copies take 10 µs and more: each watch's message has an update.
        params=[update_pb2.UpdateParam(type=each.type, value=each.value) for each in value.params],
        created_at=timestamp(value.created_at),
        errors=[update_pb2.UpdateError(**asdict(each)) for each in value.errors],
        cancellation=update_pb2.UpdateCancellation(status=cancellation.status, reason=cancellation.reason)
        if cancellation
        else None,
    )


def decision(value: model.Decision) -> cancellation_pb2.Decision:
    return cancellation_pb2.Decision(
        decision_id=value.decision_id,
        allowed=value.allowed,
        rule_ids=value.rule_ids,
        reasons=value.reasons,
        policy_revision=value.policy_revision,
    )


def cancellation(value: model.Cancellation) -> cancellation_pb2.Cancellation:
    """Without the clientRequestToken, the recorded cluster and the recorded error."""
    intent = value.intent
    return cancellation_pb2.Cancellation(
        cancellation_id=value.id,
        request_id=intent.request_id,
        caller=intent.caller.id,
        cluster=cluster_ref(value.ref.cluster),
        update_id=value.ref.update_id,
        update_type=intent.update.type,
        **asdict(intent.request.justification),
        decision=decision(intent.decision),
        phase=phase(value.phase),
        phase_reason=value.phase_reason,
        update=update(value.update),
        create_time=timestamp(intent.time),
        forward_time=timestamp(value.forward_time),
        update_time=timestamp(value.update_time),
    )


def cancellability(advice: Advice) -> pb.Cancellability:
    return pb.Cancellability(**asdict(advice))


def cancellable_update(value: CancellableUpdate) -> pb.CancellableUpdate:
    return pb.CancellableUpdate(
        cluster=cluster_ref(value.ref.cluster), update=update(value.update), explanation=value.explanation
    )


def unreachable_target(target: model.Target, error: GatewayError) -> pb.UnreachableTarget:
    return pb.UnreachableTarget(
        account_id=target.account_id,
        region=target.region,
        reason=ErrorReason.Value(f"ERROR_REASON_{error.reason}"),
        message=error.message,
    )


def watch_response(ref: model.UpdateRef, event: WatchEvent, now: datetime) -> pb.WatchUpdateResponse:
    return pb.WatchUpdateResponse(
        kind=pb.WatchKind.Value(f"WATCH_KIND_{event.kind.value}"),
        update=update(event.update),
        phase=phase(event.phase),
        phase_reason=event.state.reason,
        sequence=event.sequence,
        observe_time=timestamp(event.observe_time),
        resume_token=resume.encode(ref, event.position),
        age=duration(now - event.observe_time),
    )
