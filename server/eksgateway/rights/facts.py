"""What a question about an update is asked again with: shared reads, waited for only so long."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from eksgateway.eks.arn import verify_arn
from eksgateway.eks.shared_reads import SeenUpdate
from eksgateway.errors import GatewayError
from eksgateway.logs import Log
from eksgateway.model import ClusterFacts, ClusterRef, Update, UpdateRef

log = Log(__name__)

_WHO = "reauthorise"  # one among the callers that take turns, however many watches are asked about


class Reads(Protocol):
    """Where facts come from: ``eks.shared_reads.SharedReads``."""

    async def cluster(self, ref: ClusterRef, max_age: float, caller: Hashable) -> ClusterFacts:
        """DescribeCluster, at most ``max_age`` seconds old, by turns with what others ask for."""

    async def update(self, ref: UpdateRef, max_age: float, caller: Hashable) -> SeenUpdate:
        """DescribeUpdate, likewise."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What EKS said of an update and its cluster."""

    cluster: ClusterFacts
    update: Update


async def read(reads: Reads, ref: UpdateRef, *, max_age: float, within: float) -> Facts | None:
    """Facts that are at most ``max_age`` seconds old; None when they cannot be had ``within`` seconds."""
    try:
        async with asyncio.timeout(within):
            cluster = verify_arn(await reads.cluster(ref.cluster, max_age, _WHO), ref.cluster)
            return Facts(cluster, (await reads.update(ref, max_age, _WHO)).update)
    except (GatewayError, TimeoutError):
        return None
    except Exception:  # a bug there must not keep the policy from being asked
        log.exception("reauthorise.unexpected")
        return None
