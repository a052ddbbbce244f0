"""`eksgateway policy`: checks operators' data, tries inputs on it, and tells what a change would change.

The policy itself decides all of it; nothing here knows what a grant means.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eksgateway.cli.ledger import printable
from eksgateway.errors import StartError
from eksgateway.ledger.codec import CodecError, decode
from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.hash_chain import EventKind
from eksgateway.ledger.listing import read_denials, read_events
from eksgateway.model import Action, Decision, Denial, Intent
from eksgateway.policy.data import PolicyDataError, describe, load_data
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.evaluator import PolicyEvaluator, open_evaluator
from eksgateway.policy.files import read_module, revision_of
from eksgateway.policy.input_files import load_inputs
from eksgateway.policy.question import question_of
from eksgateway.rpc.methods import METHODS, UPDATES
from eksgateway.settings import SettingsError, load

_CANCEL = f"/{UPDATES}/CancelUpdate"  # where an intent of an early ledger does not say which it was
UNUSABLE = 2  # the exit code for what cannot be read


def check_data(file: Path, module: Path | None) -> int:
    """The exit code: 0 for data that a gateway would put in force."""
    try:
        data, wasm = load_data(file), read_module(module)
        with open_evaluator(wasm, data):  # opening decides the costliest questions
            pass
    except PolicyDataError as exc:
        print(exc)
        return 1
    except PolicyLoadError as exc:
        print(f"{file}:\n  - {exc}")
        return 1
    print(f"{file}: good: {describe(data)}")
    print(f"In force, its revision is {revision_of(wasm, data)}")
    return 0


def try_inputs(file: Path, data: Path | None, config: Path | None, module: Path | None) -> int:
    """Decide each input of a file, and explain. The exit code: 0, or UNUSABLE."""
    with _told() as failed:
        if config is not None:
            settings = load(config).policy
            data, module = data or settings.data, module or settings.module
        if data is None:
            raise SettingsError(
                "say by which data to decide: --data FILE, or --config FILE with `policy.data`"
            )
        documents = load_inputs(file, datetime.now(UTC))
        with open_evaluator(read_module(module), load_data(data)) as trial:
            for number, document in enumerate(documents, start=1):
                print(f"{number}. {_asked(document)}")
                _explain(trial, document)
    return UNUSABLE if failed else 0


def _explain(trial: PolicyEvaluator, document: dict[str, Any]) -> None:
    for line in _said(trial.decide(document)):
        print(f"   {line}")
    covering = list(trial.covering(document))
    print(f"   Grants that cover this caller and cluster: {len(covering) or 'none'}")
    for name, alone in covering:
        told = "allows this" if alone.allowed else " ".join(alone.reasons)
        print(f"     {printable(name)}: {printable(told)}")


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A decision on a cancel as it was recorded, and the input to decide it by again."""

    source: str
    decision: Decision
    document: dict[str, Any]


def diff(ledger: Path, data: Path, old: Path | None, module: Path | None) -> int:
    """Decide recorded cancels by other data. The exit code: 0 when nothing changes, 1 when something
    does, or UNUSABLE.
    """
    counts = {"decided": 0, "allowed": 0, "denied": 0}
    with _told() as failed, ExitStack() as stack:
        wasm = read_module(module)
        candidate = stack.enter_context(open_evaluator(wasm, load_data(data)))
        baseline = stack.enter_context(open_evaluator(wasm, load_data(old))) if old else None
        for recorded in _recorded(ledger):
            before = baseline.decide(recorded.document) if baseline else recorded.decision
            after = candidate.decide(recorded.document)
            counts["decided"] += 1
            if before.allowed != after.allowed:
                counts["allowed" if after.allowed else "denied"] += 1
                _print_change(recorded, before, after)
        print(
            f"{counts['decided']} recorded decisions: {counts['denied']} would be denied that were allowed,"
            f" {counts['allowed']} would be allowed that were denied."
        )
    if failed:
        return UNUSABLE
    return 1 if counts["allowed"] or counts["denied"] else 0


def _recorded(ledger: Path) -> Iterator[_Recorded]:
    for event in read_events(ledger):
        if event.kind in (EventKind.INTENT, EventKind.INTENT_RENEWED):
            try:
                intent = decode(Intent, event.body)
            except CodecError as exc:
                raise LedgerError(f"{ledger}: event {event.seq} was changed: {exc}") from exc
            yield from _asked_for(intent)
    for denial in read_denials(ledger):
        yield _Recorded(f"decision {denial.decision.decision_id}", denial.decision, _input(ledger, denial))


def _asked_for(intent: Intent) -> Iterator[_Recorded]:
    """What the policy was asked last before the intent, at stage update, and said yes to.

    The intent keeps the decision on the cancel; without a yes to whatever else its method needs there
    would be none.
    """
    question = question_of(intent, _CANCEL)
    implied = replace(intent.decision, rule_ids=(), reasons=())
    method = METHODS.get(question.method, METHODS[_CANCEL])
    for action in method.actions:
        decision = intent.decision if action is Action.CANCEL else implied
        document = replace(question, action=action).to_input()
        yield _Recorded(f"cancellation {intent.cancellation_id}", decision, document)


def _input(ledger: Path, denial: Denial) -> dict[str, Any]:
    try:
        _asked(denial.policy_input)
    except (KeyError, TypeError) as exc:
        raise LedgerError(
            f"{ledger}: decision {denial.decision.decision_id} in the log of denied cancels holds no input"
        ) from exc
    return denial.policy_input


def _print_change(recorded: _Recorded, before: Decision, after: Decision) -> None:
    print(f"{_word(before)} → {_word(after)}: {_asked(recorded.document)}")
    print(f"   {printable(recorded.source)}")
    for name, decision in (("before", before), ("after", after)):
        for line in _said(decision):
            print(f"   {name}: {line}")
    if after.allowed and recorded.document["context"]["stage"] == "request":
        print("   It was denied before EKS was asked: tags and update type would be judged then.")


def _asked(document: dict[str, Any]) -> str:
    """An input in a line."""
    subject, action, resource, context = (
        document[part] for part in ("subject", "action", "resource", "context")
    )
    return printable(
        f"{subject['id']}, {action['name']} on {resource['id']},"
        f" stage {context['stage']}, at {context['time']}"
    )


def _said(decision: Decision) -> Iterator[str]:
    by = f" by {', '.join(decision.rule_ids)}" if decision.rule_ids else ""
    yield printable(f"{_word(decision)}{by}")
    for reason in decision.reasons:
        yield printable(f"  {reason}")


def _word(decision: Decision) -> str:
    return "allowed" if decision.allowed else "denied"


@contextmanager
def _told() -> Iterator[list[str]]:
    """What the user can mend is said on standard error, and is in the list afterwards."""
    failed: list[str] = []
    try:
        yield failed
    except StartError as exc:
        failed.append(str(exc))
        print(f"eksgateway: {exc}", file=sys.stderr)
