"""The facts with which the policy is asked again, read within a bounded time."""

from __future__ import annotations

import asyncio
from typing import Final

from eksgateway.eks.arn import verify_arn
from eksgateway.eks.shared_reads import SharedReads
from eksgateway.errors import GatewayError
from eksgateway.logs import Log
from eksgateway.model import ClusterFacts, Update, UpdateRef

log = Log(__name__)

_BUDGET_CALLER: Final = "reauthorization"  # all watches together take turns as one caller


async def read_facts(
    reads: SharedReads, ref: UpdateRef, *, max_age: float, timeout_s: float
) -> tuple[ClusterFacts, Update] | None:
    """Return facts that are at most ``max_age`` seconds old; None after an error or ``timeout_s``."""
    try:
        async with asyncio.timeout(timeout_s):
            cluster = verify_arn(await reads.cluster(ref.cluster, max_age, _BUDGET_CALLER), ref.cluster)
            return cluster, (await reads.update(ref, max_age, _BUDGET_CALLER)).update
    except (GatewayError, TimeoutError):
        return None
    except Exception:  # a bug here must not keep the policy from being asked
        log.exception("reauthorise.unexpected")
        return None
