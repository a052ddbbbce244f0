"""The rules of the chain and the cancellations folded from it: points 1, 4, 7 and 10."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eksgateway import phases
from eksgateway.ledger.codec import CodecError, decode
from eksgateway.ledger.hash_chain import GENESIS, EventKind, find_fault
from eksgateway.ledger.projection import CancellationRecord, fold
from eksgateway.model import FINAL_STATUSES, Intent, OutcomeKind, Update
from support.fleet.history import FOREVER, OK, CommittedEvent, Fault, History, Stay, state_of


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a cancellation, and the record before (None: there was none) and after it."""

    written: CommittedEvent
    before: CancellationRecord | None
    after: CancellationRecord

    @property
    def kind(self) -> str:
        return self.written.event.kind


def fold_cancellations(history: History) -> dict[str, tuple[Step, ...]]:
    """The steps of each cancellation. Ends a cancellation's steps where one cannot be folded: see point 1."""
    steps: dict[str, list[Step]] = {}
    broken: set[str] = set()
    for written in history.events:
        key = written.event.cancellation_id
        if not key or key in broken:
            continue
        known = steps.get(key, [])
        try:
            after = fold(known[-1].after if known else None, written.event)
        except CodecError:
            broken.add(key)
            continue
        steps.setdefault(key, []).append(Step(written, known[-1].after if known else None, after))
    return {key: tuple(each) for key, each in steps.items()}


def list_intents(history: History) -> list[tuple[CommittedEvent, Intent]]:
    """Every intent and renewal that can be read, in order."""
    kinds = (EventKind.INTENT, EventKind.INTENT_RENEWED)
    found = [each for each in history.events if each.event.kind in kinds]
    return [(each, decode(Intent, each.event.body)) for each in found]


def chain_is_sound(history: History) -> Iterator[str]:
    """Point 1: one chain without a gap, whose events fold."""
    head = GENESIS
    for written in history.events:
        if what := find_fault(head, written.event):
            yield f"event {written.event.seq}: {what}"
        head = written.event.checkpoint
    folded = sum(len(steps) for steps in fold_cancellations(history).values())
    of_cancellations = sum(bool(written.event.cancellation_id) for written in history.events)
    if folded != of_cancellations:
        yield f"{of_cancellations - folded} events cannot come where they are"


def acknowledgements_are_in_the_ledger(history: History) -> Iterator[str]:
    """Point 4: what a client got an id for is recorded, and an OK has its outcome."""
    folded = fold_cancellations(history)
    for attempt in history.attempts:
        if not attempt.cancellation_id:
            continue
        about = f"{attempt.request_id} at {attempt.replica} ({attempt.result})"
        steps = folded.get(attempt.cancellation_id)
        if steps is None:
            yield f"{about}: the ledger has no {attempt.cancellation_id}"
            continue
        intent = steps[-1].after.cancellation.intent
        if (intent.caller.id, intent.request_id, intent.request) != (*attempt.key, attempt.request):
            yield f"{about}: {attempt.cancellation_id} is of {intent.request_id} by {intent.caller.id}"
        first = min(step.written.committed for step in steps)
        if first > attempt.ended + history.bounds.slack:
            yield f"{about}: answered {first - attempt.ended:.3f} s before its intent was committed"
        if attempt.result == OK and not any(_is_success(step, attempt.ended) for step in steps):
            yield f"{about}: no success of {attempt.cancellation_id} was recorded before the answer"


def _is_success(step: Step, answered: float) -> bool:
    """An outcome that EKS accepted, or an observation of what the cancel was for."""
    cancellation = step.after.cancellation
    outcome = cancellation.outcome
    accepted = outcome is not None and outcome.kind in (OutcomeKind.ACCEPTED, OutcomeKind.ALREADY_CANCELLING)
    seen = step.kind == EventKind.OBSERVATION and state_of(cancellation.update) != ("InProgress", "")
    return (accepted or seen) and step.written.committed <= answered + 0.1


def phases_follow_eks(history: History) -> Iterator[str]:
    """Point 7: a cancellation's state goes back only where EKS went back, and is one that EKS showed."""
    for key, steps in fold_cancellations(history).items():
        for step in steps:
            before, after = step.before, step.after
            stays = history.stays.get(after.cancellation.ref, ())
            new, old = after.seen, before.seen if before else None
            if new is None:
                continue
            if not any(stay.state == state_of(new) for stay in stays):
                yield f"{key}: event {step.written.event.seq} has {state_of(new)}, which EKS never showed"
            renewed = step.kind == EventKind.INTENT_RENEWED
            back = old is not None and not renewed and phases.rank(new) < phases.rank(old)
            if old is not None and back and not _went(old, new, stays):
                there = f"from {state_of(old)} to {state_of(new)}"
                yield f"{key}: event {step.written.event.seq} goes back {there}"


def _went(old: Update, new: Update, stays: Sequence[Stay]) -> bool:
    states = [stay.state for stay in stays]
    return state_of(old) in states and state_of(new) in states[states.index(state_of(old)) :]


def cancellations_settle(history: History) -> Iterator[str]:
    """Point 10: with a replica alive, the ledger has the end of an update within a look of it."""
    for key, steps in fold_cancellations(history).items():
        ref = steps[-1].after.cancellation.ref
        final = [stay for stay in history.stays.get(ref, ()) if stay.state[0] in FINAL_STATUSES]
        end = final[-1].since if final else None
        intended = max(step.written.committed for step in steps if step.kind in _STARTS)
        due = calm_after(max(end or 0.0, intended), history.bounds.look, history.faults)
        settled = _settled_at(steps)
        if end is None or due > history.ended:
            continue
        if settled > due + history.bounds.slack:
            late = "never" if settled == FOREVER else f"{settled - due:.1f} s late"
            yield f"{key}: {late}: {ref} had ended at EKS ({steps[-1].after.cancellation.phase})"


def _settled_at(steps: Sequence[Step]) -> float:
    """When the last run of settled steps began."""
    moment = FOREVER
    for step in reversed(steps):
        if not step.after.cancellation.settled:
            break
        moment = step.written.committed
    return moment


_STARTS = (EventKind.INTENT, EventKind.INTENT_RENEWED)


def calm_after(moment: float, seconds: float, faults: Sequence[Fault]) -> float:
    """The end of the first ``seconds`` from ``moment`` on that no fault disturbs."""
    due = moment + seconds
    for fault in sorted(faults, key=lambda each: each.began):
        if fault.began <= due and fault.ended >= moment:
            due = max(due, fault.ended + seconds)
    return due
