"""Calls to EKS for one caller. Shared reads are in ``shared_reads``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from eksgateway.clock import Deadline
from eksgateway.eks.arn import verify_arn
from eksgateway.eks.budget import Budget
from eksgateway.eks.protocol import Eks, Page
from eksgateway.eks.side_by_side import do_both
from eksgateway.eks.target_budget import Lane
from eksgateway.model import Caller, ClusterFacts, ClusterRef, Target, Update, UpdateRef

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BudgetedEks:
    """The methods of ``protocol.Eks`` that need an answer of their own. Reads go in ``lane``.

    Reads on behalf of no caller take the turns of ``caller_id``. Each method raises as ``Budget.call`` does.
    """

    eks: Eks
    budget: Budget
    lane: Lane
    caller_id: str = ""

    def for_caller(self, caller_id: str) -> BudgetedEks:
        """The same, for a caller that waits for reads which the gateway makes as itself."""
        return replace(self, caller_id=caller_id)

    def serves(self, cluster: ClusterRef) -> bool:
        return self.eks.serves(cluster)

    async def describe_cluster(self, ref: ClusterRef, *, on_behalf_of: Caller | None = None) -> ClusterFacts:
        return await self._read(
            ref.target, on_behalf_of, lambda: self.eks.describe_cluster(ref, on_behalf_of=on_behalf_of)
        )

    async def describe_update(self, ref: UpdateRef, *, on_behalf_of: Caller | None = None) -> Update:
        return await self._read(
            ref.target, on_behalf_of, lambda: self.eks.describe_update(ref, on_behalf_of=on_behalf_of)
        )

    async def describe_both(
        self, ref: UpdateRef, *, on_behalf_of: Caller | None = None
    ) -> tuple[ClusterFacts, Update]:
        """The cluster, whose ARN is verified, and the update, read side by side. The cluster's error comes
        first.

        The reads of a cancel take their tokens at once. Others wait for theirs one by one, as a target with
        few calls a second may never have two that are not reserved.
        """

        async def describe_cluster() -> ClusterFacts:
            return verify_arn(
                await self.eks.describe_cluster(ref.cluster, on_behalf_of=on_behalf_of), ref.cluster
            )

        def describe_update() -> Awaitable[Update]:
            return self.eks.describe_update(ref, on_behalf_of=on_behalf_of)

        if self.lane is Lane.CANCEL:
            return await self.budget.call_both(
                ref.target, self._id_of(on_behalf_of), describe_cluster, describe_update
            )
        return await do_both(
            self._read(ref.target, on_behalf_of, describe_cluster),
            self._read(ref.target, on_behalf_of, describe_update),
        )

    async def list_updates(self, cluster: ClusterRef, page_size: int, page_token: str) -> Page:
        return await self._read(
            cluster.target, None, lambda: self.eks.list_updates(cluster, page_size, page_token)
        )

    async def cancel_update(
        self, ref: UpdateRef, *, on_behalf_of: Caller, token: str, send_before: Deadline
    ) -> Update:
        return await self.budget.call(
            Lane.FORWARD,
            ref.target,
            on_behalf_of.id,
            lambda: self.eks.cancel_update(
                ref, on_behalf_of=on_behalf_of, token=token, send_before=send_before
            ),
            until=send_before.monotonic,
        )

    async def _read(self, target: Target, caller: Caller | None, read: Callable[[], Awaitable[T]]) -> T:
        return await self.budget.call(self.lane, target, self._id_of(caller), read)

    def _id_of(self, caller: Caller | None) -> str:
        return caller.id if caller else self.caller_id
