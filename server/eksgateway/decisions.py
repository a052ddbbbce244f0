"""Asks the policy for every part of the gateway, and keeps denied cancels in the decision log."""

from __future__ import annotations

from collections.abc import Callable

from eksgateway.errors import Denied, GatewayError, PolicyDenied
from eksgateway.logs import Log
from eksgateway.model import CancelRequest, Decision, Denial, UpdateRef
from eksgateway.policy.engine import PolicyEngine
from eksgateway.policy.question import Question

log = Log(__name__)


class Decisions:
    """One engine, and where its denials of cancels go; a refusal does not wait for its record."""

    def __init__(self, policy: PolicyEngine, record_denial: Callable[[Denial], None]) -> None:
        self._policy = policy
        self._record_denial = record_denial
        self._trouble: tuple[str, str] | None = None  # why the policy could not answer, as last logged

    async def ask(self, question: Question) -> Decision:
        """The decision, allowed or denied; raises what the engine's ``decide`` raises."""
        return await self._policy.decide(question)

    async def allows(self, question: Question) -> bool:
        """Whether it is allowed outright: for what an answer leaves out otherwise. Raises as ``ask``."""
        try:
            return (await self._policy.decide(question)).allowed
        except Denied:  # an allow under obligations
            return False

    async def require(
        self, question: Question, *, cancels: bool = False, update_id: str = "", request_id: str = ""
    ) -> Decision:
        """The decision when it allows; raises PolicyDenied otherwise.

        A denial of what a call that ``cancels`` needs goes to the decision log, for which
        ``update_id`` and ``request_id`` are.
        """
        error: Denied
        try:
            decision = await self._policy.decide(question)
            if decision.allowed:
                return decision
            error = denial(decision)
        except Denied as exc:  # an allow under obligations
            revision = self._policy.revision
            decision = Decision(question.decision_id, reasons=(exc.message,), policy_revision=revision)
            error = exc
        if cancels:
            self._keep(question, decision, update_id, request_id)
        raise error

    async def check(self) -> None:
        """Return when the policy can answer, whatever it answers; raises what ``ask`` would otherwise.

        Readiness asks every few seconds: why the policy cannot answer is logged when that begins, changes
        and ends.
        """
        try:
            await self._policy.check()
        except Denied:
            pass
        except GatewayError as exc:
            self._note_trouble((exc.reason, exc.detail or exc.message))
            raise
        self._note_trouble(None)

    def _note_trouble(self, trouble: tuple[str, str] | None) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble is None:
            log.info("policy.answers", note="The policy can decide again.")
        else:
            reason, detail = trouble
            log.error("policy.cannot_answer", reason=reason, detail=detail)

    def _keep(self, question: Question, decision: Decision, update_id: str, request_id: str) -> None:
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
    """The error that tells a caller of a denial: the policy's own sentences, and nothing else."""
    return PolicyDenied(
        metadata={
            "decision_id": decision.decision_id,
            "reasons": "\n".join(decision.reasons),
            "rule_ids": ",".join(decision.rule_ids),
        }
    )
