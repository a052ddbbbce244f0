"""Pages of cancellations are those of a list that is filtered in memory, however they are found."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from eksgateway.ledger import history
from eksgateway.ledger.protocol import HistoryFilter, ReadScope
from eksgateway.ledger.sql_ledger import SqlLedger
from eksgateway.model import Cancellation, CancelRequest, ClusterRef
from support.records import caller, intent, ref

CLUSTERS = [ClusterRef("111122223333", "us-east-1", f"cluster-{number:02}") for number in range(40)]
CALLERS = ["ann", "bob", "cy"]


@pytest.fixture
async def written(ledger: SqlLedger) -> list[Cancellation]:
    """Oldest first. Later clusters have few of them."""
    source, cancellations = Random(13), []
    for number in range(150):
        where = CancelRequest(ref(cluster=CLUSTERS[min(source.randrange(40), source.randrange(40))]))
        made = intent(str(number), request=where, caller=caller(source.choice(CALLERS)))
        cancellations.append(await ledger.commit_intent(made))
    return cancellations


def select(written: list[Cancellation], which: HistoryFilter) -> list[Cancellation]:
    scope = which.scope
    return [
        each
        for each in reversed(written)
        if which.cluster in (None, each.ref.cluster)
        and which.caller_id in ("", each.intent.caller.id)
        and (scope is None or each.intent.caller.id == scope.caller_id or each.ref.cluster in scope.clusters)
    ]


async def read_pages(ledger: SqlLedger, which: HistoryFilter, limit: int) -> list[Cancellation]:
    pages = [await ledger.history(which, limit, "")]
    while pages[-1].before:
        pages.append(await ledger.history(which, limit, pages[-1].before))
    for page, following in pairwise(pages):
        assert len(page.cancellations) == limit
        assert page.following == following.cancellations[0]
    assert pages[-1].following is None
    return [each for page in pages for each in page.cancellations]


@pytest.mark.parametrize("chunk", [3, 500])
async def test_pages_are_those_of_the_filtered_list(
    ledger: SqlLedger, written: list[Cancellation], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In scopes of few, many and all clusters, by cluster, by caller and by both."""
    monkeypatch.setattr(history, "_CHUNK", chunk)
    monkeypatch.setattr(history, "_PARTS", 4)
    for clusters in (CLUSTERS[:0], CLUSTERS[39:], CLUSTERS[:3], CLUSTERS[36:], CLUSTERS[20:], CLUSTERS):
        for who in ("jwt:corp:ann", "jwt:corp:nobody"):
            scope = ReadScope(who, tuple(clusters))
            for cluster in (None, CLUSTERS[1], CLUSTERS[39]):
                for caller_id in ("", "jwt:corp:bob"):
                    which = HistoryFilter(cluster, caller_id, scope)
                    if cluster is not None:
                        which = HistoryFilter(
                            cluster, caller_id, ReadScope(who, (cluster,) if cluster in clusters else ())
                        )
                    assert await read_pages(ledger, which, 7) == select(written, which)


async def test_clusters_are_found_once_each_and_new_ones_later(
    ledger: SqlLedger, written: list[Cancellation], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await ledger.clusters("")
    assert sorted(map(str, found)) == sorted({str(each.ref.cluster) for each in written})
    assert await ledger.clusters("") == found
    new = ClusterRef("222233334444", "eu-west-1", "new")
    await ledger.commit_intent(intent("new", request=CancelRequest(ref(cluster=new))))
    assert await ledger.clusters("") == (*found, new)
    monkeypatch.setattr(history, "_CHUNK", 2)
    for name in ("newer", "newest", "last"):
        where = CancelRequest(ref(cluster=ClusterRef("222233334444", "eu-west-1", name)))
        await ledger.commit_intent(intent(name, request=where))
    assert {each.name for each in (await ledger.clusters(""))[len(found) :]} == {
        "new",
        "newer",
        "newest",
        "last",
    }
