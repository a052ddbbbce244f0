"""Builds the parts of a gateway below ``rpc``: what cancels, reads and watches."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eksgateway.cancellation import Cancellations
from eksgateway.clock import Clock
from eksgateway.decisions import Decisions
from eksgateway.eks.budget import Budget
from eksgateway.eks.budgeted import BudgetedEks
from eksgateway.eks.protocol import Eks
from eksgateway.eks.shared_reads import SharedReads
from eksgateway.eks.target_budget import Lane
from eksgateway.forwarding import Forwarder
from eksgateway.idempotency import IdempotentCancels
from eksgateway.joining import Joining
from eksgateway.ledger.cancellation_notices import CANCELLATIONS, CancellationNotices
from eksgateway.ledger.protocol import Ledger
from eksgateway.metrics import Metrics
from eksgateway.model import Cancellation
from eksgateway.policy.engine import PolicyEngine
from eksgateway.rights.reauthorization import Reauthorization
from eksgateway.settings import Settings
from eksgateway.watch.following import Following
from eksgateway.watch.watches import Watches

if TYPE_CHECKING:
    from eksgateway.fleet.fleet import Fleet

_RECORD_S: Final = 3.0  # from EKS's answer until its outcome is recorded, as a rule


@dataclass(frozen=True, slots=True)
class Core:
    """The parts below ``rpc`` that several others are built from."""

    settings: Settings
    clock: Clock
    policy: PolicyEngine
    ledger: Ledger
    eks: Eks
    metrics: Metrics
    decisions: Decisions
    budget: Budget
    reads: SharedReads
    watches: Watches
    notices: CancellationNotices
    following: Following


def build_core(  # noqa: PLR0913  as of ``build_gateway``
    settings: Settings,
    *,
    policy: PolicyEngine,
    ledger: Ledger,
    eks: Eks,
    metrics: Metrics,
    clock: Clock,
    fleet: Fleet | None,
) -> Core:
    tokens = fleet.tokens.of if fleet else None
    budget = Budget(settings.eks.calls_per_s, clock, settings.eks.threads, tokens)
    reads = SharedReads(eks, budget, clock, looks=fleet.looks.by_kind if fleet else None)
    watches = Watches(reads, ledger.record_observation, clock, settings.watch, random.Random())  # noqa: S311
    notices = CancellationNotices()
    if fleet is not None:
        fleet.notices.subscribe(CANCELLATIONS, notices.hear, notices.catch_up)
    return Core(
        settings,
        clock,
        policy,
        ledger,
        eks,
        metrics,
        decisions=Decisions(policy, ledger.record_denial),
        budget=budget,
        reads=reads,
        watches=watches,
        notices=notices,
        following=Following(ledger, watches, notices, clock),
    )


def build_cancels(core: Core) -> IdempotentCancels:
    def follow(cancellation: Cancellation, began: float | None) -> None:
        core.reads.forget(cancellation.ref)
        core.watches.follow(cancellation, began)

    eks, eks_settings = BudgetedEks(core.eks, core.budget, Lane.CANCEL), core.settings.eks
    cancellations = Cancellations(
        decisions=core.decisions,
        eks=eks,
        forwarder=Forwarder(eks, core.clock),
        ledger=core.ledger,
        joining=Joining(core.ledger, core.notices, core.clock),
        follow=follow,
        metrics=core.metrics,
        clock=core.clock,
        new_id=lambda: str(uuid.uuid4()),
        decision_max_age=eks_settings.decision_max_age_s,
        answer_within=eks_settings.connect_timeout_s + eks_settings.cancel_read_timeout_s + _RECORD_S,
    )
    return IdempotentCancels(cancellations, core.clock, core.settings.limits.call_timeout_s)


def build_reauthorization(core: Core) -> Reauthorization:
    return Reauthorization(
        decisions=core.decisions,
        policy=core.policy,
        reads=core.reads,
        facts_max_age=core.settings.watch.facts_max_age_s,
        clock=core.clock,
        random=random.Random(),  # noqa: S311
    )
