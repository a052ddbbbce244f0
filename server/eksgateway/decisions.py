"""Asks the policy, and records denied cancels."""

from __future__ import annotations

from collections.abc import Callable

from eksgateway.errors import Denied, GatewayError, PolicyDenied
from eksgateway.logs import Log
from eksgateway.model import CancelRequest, Decision, Denial, UpdateRef
from eksgateway.policy.engine import PolicyEngine
from eksgateway.policy.question import Question
from eksgateway.policy.results import obligation_error

log = Log(__name__)


class Decisions:
    """Turns the engine's denials and unmet obligations into errors. ``record_denial`` must not block."""

    def __init__(self, policy: PolicyEngine, record_denial: Callable[[Denial], None]) -> None:
        self._policy = policy
        self._record_denial = record_denial
        self._trouble: tuple[str, str] | None = None  # reason and detail, as last logged

    async def ask(self, question: Question) -> Decision:
        """The decision. Raises PolicyObligationUnknown, and what ``PolicyEngine.decide`` raises."""
        decision = await self._policy.decide(question)
        if decision.obligations:
            raise obligation_error(decision)
        return decision

    async def allows(self, question: Question) -> bool:
        """False with obligations. Raises what ``PolicyEngine.decide`` raises."""
        return (await self._policy.decide(question)).allowed

    def validity_of(self, question: Question) -> object | None:
        return self._policy.validity_of(question)

    async def require(
        self, question: Question, *, cancels: bool = False, update_id: str = "", request_id: str = ""
    ) -> Decision:
        """The decision, if it is an allow. Raises PolicyDenied otherwise, and what ``ask`` raises.

        If the call ``cancels``, a denial is recorded, with ``update_id`` and ``request_id``.
        """
        decision = await self._policy.decide(question)
        if decision.allowed:
            return decision
        error: Denied = denial(decision)
        if decision.obligations:
            error = obligation_error(decision)
            revision = decision.policy_revision
            decision = Decision(question.decision_id, reasons=(error.message,), policy_revision=revision)
        if cancels:
            self._record(question, decision, update_id, request_id)
        raise error

    async def check(self) -> None:
        """Raises what ``PolicyEngine.check`` raises.

        An error is logged only when it begins, changes or ends: readiness calls this every few seconds.
        """
        try:
            await self._policy.check()
        except GatewayError as exc:
            self._log_trouble((exc.reason, exc.detail or exc.message))
            raise
        self._log_trouble(None)

    def _log_trouble(self, trouble: tuple[str, str] | None) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble is None:
            log.info("policy.answers", note="The policy can decide again.")
        else:
            log.error("policy.cannot_answer", reason=trouble[0], detail=trouble[1])

    def _record(self, question: Question, decision: Decision, update_id: str, request_id: str) -> None:
        self._record_denial(
            Denial(
                time=question.time,
                request_id=request_id,
                caller=question.caller,
                request=CancelRequest(UpdateRef(question.cluster, update_id), question.justification),
                decision=decision,
                stage=question.stage,
                policy_input=question.to_input(),
            )
        )


def denial(decision: Decision) -> PolicyDenied:
    """The policy's reasons are all that the caller learns."""
    return PolicyDenied(
        metadata={
            "decision_id": decision.decision_id,
            "reasons": "\n".join(decision.reasons),
            "rule_ids": ",".join(decision.rule_ids),
        }
    )
