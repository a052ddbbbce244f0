"""The gateway's nouns as protos, and back; nothing is lost either way."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from eksgateway import model
from eksgateway.v1 import cancellation_pb2, update_pb2
from eksgateway.v1.cancellation_pb2 import CancellationPhase


def timestamp(time: datetime | None) -> Timestamp | None:
    """Absent stays absent; microseconds are kept."""
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time.astimezone(UTC))
    return stamp


def duration(time: timedelta) -> Duration:
    """Nothing in the place of a negative one, which a clock that was set back makes."""
    made = Duration()
    made.FromTimedelta(max(timedelta(), time))
    return made


def phase(value: model.Phase | None) -> CancellationPhase.ValueType:
    """The enum value of the same name; None is UNSPECIFIED."""
    return CancellationPhase.Value(f"CANCELLATION_PHASE_{value.value if value else 'UNSPECIFIED'}")


def cluster_ref(ref: model.ClusterRef) -> update_pb2.ClusterRef:
    return update_pb2.ClusterRef(account_id=ref.account_id, region=ref.region, name=ref.name)


def update(value: model.Update) -> update_pb2.Update:
    """EKS's update as this API tells it."""
    cancellation = value.cancellation
    return update_pb2.Update(
        id=value.id,
        status=value.status,
        type=value.type,
        params=[update_pb2.UpdateParam(type=p.type, value=p.value) for p in value.params],
        created_at=timestamp(value.created_at),
        errors=[
            update_pb2.UpdateError(
                error_code=e.error_code, error_message=e.error_message, resource_ids=e.resource_ids
            )
            for e in value.errors
        ],
        cancellation=update_pb2.UpdateCancellation(status=cancellation.status, reason=cancellation.reason)
        if cancellation
        else None,
    )


def update_from(proto: update_pb2.Update) -> model.Update:
    """The reverse of ``update``."""
    created = proto.created_at.ToDatetime(UTC) if proto.HasField("created_at") else None
    cancellation = proto.cancellation
    return model.Update(
        id=proto.id,
        status=proto.status,
        type=proto.type,
        params=tuple(model.UpdateParam(p.type, p.value) for p in proto.params),
        created_at=created,
        errors=tuple(
            model.UpdateError(e.error_code, e.error_message, tuple(e.resource_ids)) for e in proto.errors
        ),
        cancellation=model.UpdateCancellation(cancellation.status, cancellation.reason)
        if proto.HasField("cancellation")
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
    """The record as its caller sees it; the clientRequestToken and AWS's facts stay inside."""
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
