"""`eksgateway policy test` and `diff`: decide inputs, and recorded cancels again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from eksgateway.cli.ledger import escape_unprintable
from eksgateway.cli.policy_arguments import REFUSED, find_files, report_unusable
from eksgateway.cli.policy_rights_view import describe_restriction
from eksgateway.errors import StartError
from eksgateway.ledger.codec import CodecError, decode
from eksgateway.ledger.database import LedgerError, LedgerLocation
from eksgateway.ledger.hash_chain import EventKind
from eksgateway.ledger.inspection import read_denials, read_events
from eksgateway.model import Action, Decision, Intent
from eksgateway.policy.evaluator import PolicyEvaluator, open_evaluator
from eksgateway.policy.files import read_module
from eksgateway.policy.input_files import complete_input, load_inputs
from eksgateway.policy.question import question_of
from eksgateway.policy.review.holding import find_holding_restrictions
from eksgateway.policy.source import load_content
from eksgateway.rpc.methods import METHODS, UPDATES

_CANCEL_UPDATE: Final = f"/{UPDATES}/CancelUpdate"  # the method of intents in ledgers that lack it


def decide_inputs(file: Path, data: Path | None, config: Path | None, module: Path | None) -> int:
    """Return the exit code: 0 or UNUSABLE."""
    try:
        used = find_files(data, config, module)
        documents = load_inputs(file, datetime.now(UTC))
        with open_evaluator(read_module(used.module), load_content(used.data)) as evaluator:
            for number, document in enumerate(documents, start=1):
                print(f"{number}. {_describe_input(document)}")
                _print_explanation(evaluator, document)
    except StartError as exc:
        return report_unusable(exc)
    return 0


def diff_decisions(ledger: LedgerLocation, data: Path, old: Path | None, module: Path | None) -> int:
    """Return the exit code: 0 if no decision changes, 1 if one does, or UNUSABLE."""
    decided, changed = 0, Counter({True: 0, False: 0})  # by whether the new decision allows
    try:
        with ExitStack() as stack:
            wasm = read_module(module)
            candidate = stack.enter_context(open_evaluator(wasm, load_content(data)))
            baseline = stack.enter_context(open_evaluator(wasm, load_content(old))) if old else None
            for recorded in _read_decisions(ledger):
                before = baseline.decide(recorded.document) if baseline else recorded.decision
                after = candidate.decide(recorded.document)
                decided += 1
                if before.allowed != after.allowed:
                    changed[after.allowed] += 1
                    _print_change(recorded, before, after)
    except StartError as exc:
        return report_unusable(exc)
    print(
        f"{decided} recorded decisions: {changed[False]} would be denied that were allowed,"
        f" {changed[True]} would be allowed that were denied."
    )
    return REFUSED if changed.total() else 0


def _print_explanation(evaluator: PolicyEvaluator, document: dict[str, Any]) -> None:
    for line in _describe_decision(evaluator.decide(document)):
        print(f"   {line}")
    holding = list(find_holding_restrictions(evaluator.content, document))
    print(f"   Denials and freezes that hold: {len(holding) or 'none'}")
    for restriction in holding:
        print(f"     {escape_unprintable(describe_restriction(restriction))}")
    covering = list(evaluator.decide_by_each_grant(document))
    print(f"   Grants that cover this caller and cluster: {len(covering) or 'none'}")
    for grant, alone in covering:
        outcome = "allows this" if alone.allowed else " ".join(alone.reasons)
        print(f"     {escape_unprintable(grant)}: {escape_unprintable(outcome)}")


@dataclass(frozen=True, slots=True)
class _RecordedDecision:
    source: str  # its place in the ledger
    decision: Decision
    document: dict[str, Any]


def _read_decisions(ledger: LedgerLocation) -> Iterator[_RecordedDecision]:
    for event in read_events(ledger):
        if event.kind in (EventKind.INTENT, EventKind.INTENT_RENEWED):
            try:
                intent = decode(Intent, event.body)
            except CodecError as exc:
                raise LedgerError(f"{ledger}: event {event.seq} was changed: {exc}") from exc
            yield from _intent_decisions(intent)
    for denial in read_denials(ledger):
        decision_id = denial.decision.decision_id
        try:
            document = complete_input(denial.policy_input)
            _describe_input(document)
        except (AttributeError, KeyError, TypeError) as exc:
            raise LedgerError(
                f"{ledger}: decision {decision_id} in the log of denied cancels holds no input"
            ) from exc
        yield _RecordedDecision(f"decision {decision_id}", denial.decision, document)


def _intent_decisions(intent: Intent) -> Iterator[_RecordedDecision]:
    """The recorded allow of the cancel, and the allows of the method's other actions that it implies."""
    question = question_of(intent, _CANCEL_UPDATE)
    implied = replace(intent.decision, rule_ids=(), reasons=())
    method = METHODS.get(question.method, METHODS[_CANCEL_UPDATE])
    for action in method.actions:
        decision = intent.decision if action is Action.CANCEL else implied
        document = replace(question, action=action).to_input()
        yield _RecordedDecision(f"cancellation {intent.cancellation_id}", decision, document)


def _print_change(recorded: _RecordedDecision, before: Decision, after: Decision) -> None:
    print(f"{_outcome(before)} → {_outcome(after)}: {_describe_input(recorded.document)}")
    print(f"   {escape_unprintable(recorded.source)}")
    for name, decision in (("before", before), ("after", after)):
        for line in _describe_decision(decision):
            print(f"   {name}: {line}")
    if after.allowed and recorded.document["context"]["stage"] == "request":
        print("   It was denied before EKS was asked: tags and update type would be judged then.")


def _describe_input(document: dict[str, Any]) -> str:
    subject, action, resource, context = (
        document[part] for part in ("subject", "action", "resource", "context")
    )
    return escape_unprintable(
        f"{subject['id']}, {action['name']} on {resource['id']},"
        f" stage {context['stage']}, at {context['time']}"
    )


def _describe_decision(decision: Decision) -> Iterator[str]:
    by = f" by {', '.join(decision.rule_ids)}" if decision.rule_ids else ""
    yield escape_unprintable(f"{_outcome(decision)}{by}")
    for reason in decision.reasons:
        yield escape_unprintable(f"  {reason}")


def _outcome(decision: Decision) -> str:
    return "allowed" if decision.allowed else "denied"
