"""The gateway's nouns as protos and back: nothing is lost."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from eksgateway.model import Phase, Update, UpdateCancellation, UpdateError, UpdateParam
from eksgateway.rpc import to_proto
from eksgateway.v1 import update_pb2

# What a proto's string can hold: any text but lone surrogates.
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


@given(_updates)
def test_an_update_over_the_wire_is_the_same_update(update: Update) -> None:
    """Any value EKS may send comes out as it went in; absent stays absent."""
    sent = to_proto.update(update).SerializeToString()
    assert to_proto.update_from(update_pb2.Update.FromString(sent)) == update


def test_every_phase_has_a_value_of_its_own() -> None:
    """One enum value for each phase, and UNSPECIFIED for none."""
    values = [to_proto.phase(phase) for phase in (None, *Phase)]
    assert len(set(values)) == len(Phase) + 1
    assert values[0] == 0
