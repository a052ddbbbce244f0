"""ListCancellations remembers the clusters that a caller may read, while the policy decides the same."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eksgateway.policy.question import Question
from support.gateway import POLICY_DATA, WHERE, RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.wire import add_hooks, list_cancellations

AUDITORS = {
    "id": "auditors",
    "groups": ["test:auditors"],
    "actions": ["history"],
    "clusters": ["staging-1", "staging-3"],
    **WHERE,
}


def with_auditors(*clusters: str) -> dict[str, Any]:
    data = copy.deepcopy(POLICY_DATA)
    data["eksgateway"]["grants"].append(AUDITORS | {"clusters": list(clusters)})
    return data


@pytest.fixture
def asked() -> list[Question]:
    """The questions of the test so far."""
    return []


@pytest.fixture
async def here(tmp_path: Path, eks: SimulatedEks, asked: list[Question]) -> AsyncIterator[RunningGateway]:
    """With a cancellation of each of five clusters."""

    async def note(question: Question) -> None:
        asked.append(question)

    async with run_gateway(
        tmp_path, eks, data=with_auditors("staging-1", "staging-3"), wrap_policy=add_hooks(decide=note)
    ) as gateway:
        for number in range(5):
            await cancel(gateway, f"staging-{number}")
        yield gateway


async def cancel(here: RunningGateway, name: str) -> None:
    await here.cancel(name, here.eks.rollback(name))


async def list_clusters(here: RunningGateway, who: Any) -> list[str]:
    page = await list_cancellations(here, who)
    return [each.cluster.name for each in page.cancellations]


async def test_a_second_list_asks_about_its_rows_only(here: RunningGateway, asked: list[Question]) -> None:
    auditor = here.credentials("auditor", "auditors")
    assert await list_clusters(here, auditor) == ["staging-3", "staging-1"]
    asked.clear()
    assert await list_clusters(here, auditor) == ["staging-3", "staging-1"]
    assert [(each.cluster.name, each.stage) for each in asked] == [
        ("staging-3", "update"),
        ("staging-1", "update"),
    ]


async def test_a_caller_of_everything_is_asked_about_the_pages_clusters(
    here: RunningGateway, asked: list[Question]
) -> None:
    asked.clear()
    page = await list_cancellations(here, here.credentials("second", "oncall"), page_size=1)
    assert [each.cluster.name for each in page.cancellations] == ["staging-4"]
    assert {each.cluster.name for each in asked} == {"staging-4", "staging-3"}


async def test_new_clusters_come_into_a_remembered_scope(here: RunningGateway) -> None:
    auditor = here.credentials("auditor", "auditors")
    beside = here.path / "data.new"
    beside.write_text(yaml.safe_dump(with_auditors("staging-1", "staging-7")))
    before = here.gateway.policy.revision
    beside.replace(here.path / "data.yaml")
    here.gateway.reload()
    await here.gateway.policy.revision_after(before)
    assert await list_clusters(here, auditor) == ["staging-1"]
    await cancel(here, "staging-6")
    await cancel(here, "staging-7")
    assert await list_clusters(here, auditor) == ["staging-7", "staging-1"]


async def test_another_revision_or_caller_has_another_scope(here: RunningGateway) -> None:
    auditor = here.credentials("auditor", "auditors")
    assert await list_clusters(here, auditor) == ["staging-3", "staging-1"]
    assert await list_clusters(here, here.credentials("auditor", "none")) == []
    before = here.gateway.policy.revision
    (here.path / "data.yaml").write_text(yaml.safe_dump(with_auditors("staging-2")))
    here.gateway.reload()
    await here.gateway.policy.revision_after(before)
    assert await list_clusters(here, auditor) == ["staging-2"]
