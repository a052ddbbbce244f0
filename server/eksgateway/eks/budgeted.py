"""Calls to EKS for one caller, each when its turn comes. Shared reads are in ``shared_reads``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from eksgateway.eks.budget import Budget
from eksgateway.eks.protocol import Eks, Page
from eksgateway.eks.target_budget import Lane
from eksgateway.model import Caller, ClusterFacts, ClusterRef, Target, Update, UpdateRef

T = TypeVar("T")


class BudgetedEks:
    """The methods of ``protocol.Eks`` that need an answer of their own. Reads go in ``lane``.

    Callers take turns, so that many calls of one caller do not delay another's. Reads on behalf of no caller
    take the turns of ``caller_id``. Each method raises Overloaded too, as ``Budget.call`` does.
    """

    def __init__(self, eks: Eks, budget: Budget, lane: Lane, caller_id: str = "") -> None:
        self._eks = eks
        self._budget = budget
        self._lane = lane
        self._caller_id = caller_id

    def for_caller(self, caller_id: str) -> BudgetedEks:
        """The same, for a caller that waits for reads which the gateway makes as itself."""
        return BudgetedEks(self._eks, self._budget, self._lane, caller_id)

    def serves(self, cluster: ClusterRef) -> bool:
        return self._eks.serves(cluster)

    async def describe_cluster(self, ref: ClusterRef, *, on_behalf_of: Caller | None = None) -> ClusterFacts:
        return await self._read(
            ref.target, on_behalf_of, lambda: self._eks.describe_cluster(ref, on_behalf_of=on_behalf_of)
        )

    async def describe_update(self, ref: UpdateRef, *, on_behalf_of: Caller | None = None) -> Update:
        return await self._read(
            ref.target, on_behalf_of, lambda: self._eks.describe_update(ref, on_behalf_of=on_behalf_of)
        )

    async def list_updates(self, cluster: ClusterRef, page_size: int, page_token: str) -> Page:
        return await self._read(
            cluster.target, None, lambda: self._eks.list_updates(cluster, page_size, page_token)
        )

    async def cancel_update(
        self, ref: UpdateRef, *, on_behalf_of: Caller, token: str, send_before: float
    ) -> Update:
        """CancelUpdate, sent once. Raises DecisionStale if its turn does not come before ``send_before``."""
        return await self._budget.call(
            Lane.FORWARD,
            ref.target,
            on_behalf_of.id,
            lambda: self._eks.cancel_update(
                ref, on_behalf_of=on_behalf_of, token=token, send_before=send_before
            ),
            until=send_before,
        )

    async def _read(self, target: Target, caller: Caller | None, read: Callable[[], Awaitable[T]]) -> T:
        caller_id = caller.id if caller else self._caller_id
        return await self._budget.call(self._lane, target, caller_id, read)
