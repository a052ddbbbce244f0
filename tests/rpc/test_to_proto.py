"""Conversion to protos loses nothing."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from eksgateway.model import Phase, Update, UpdateCancellation, UpdateError, UpdateParam
from eksgateway.rpc import to_proto
from eksgateway.v1 import update_pb2

# A proto's string can hold any text but lone surrogates.
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_times = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - by rule
_updates = st.builds(
    Update,
    id=_text,
    status=_text,
    type=_text,
    params=st.lists(st.builds(UpdateParam, _text, _text), max_size=3).map(tuple),
    created_at=st.none() | _times,
    errors=st.lists(
        st.builds(UpdateError, _text, _text, st.lists(_text, max_size=3).map(tuple)), max_size=3
    ).map(tuple),
    cancellation=st.none() | st.builds(UpdateCancellation, _text, _text),
)


def from_proto(proto: update_pb2.Update) -> Update:
    cancellation = proto.cancellation
    return Update(
        id=proto.id,
        status=proto.status,
        type=proto.type,
        params=tuple(UpdateParam(each.type, each.value) for each in proto.params),
        created_at=proto.created_at.ToDatetime(UTC) if proto.HasField("created_at") else None,
        errors=tuple(
            UpdateError(each.error_code, each.error_message, tuple(each.resource_ids))
            for each in proto.errors
        ),
        cancellation=UpdateCancellation(cancellation.status, cancellation.reason)
        if proto.HasField("cancellation")
        else None,
    )


@given(_updates)
def test_update_keeps_every_value(update: Update) -> None:
    """Any value that EKS may send arrives unchanged, and absent members stay absent."""
    sent = to_proto.update(update).SerializeToString()
    assert from_proto(update_pb2.Update.FromString(sent)) == update


def test_phase_has_a_value_for_each_phase() -> None:
    """UNSPECIFIED is for none."""
    values = [to_proto.phase(phase) for phase in (None, *Phase)]
    assert len(set(values)) == len(Phase) + 1
    assert values[0] == 0
