"""Ids of calls."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from eksgateway.rpc.call_ids import new_id


def test_ids_are_distinct_uuids_of_version_4() -> None:
    ids = [new_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    uuids = [UUID(each) for each in ids]
    assert {(each.version, each.variant) for each in uuids} == {(4, RFC_4122)}
    assert [str(each) for each in uuids] == ids
    for place in set(range(36)) - {8, 13, 14, 18, 19, 23}:
        assert {each[place] for each in ids} == set("0123456789abcdef")
