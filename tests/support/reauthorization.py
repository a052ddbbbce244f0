"""A scripted policy, EKS reads and watches for tests of reauthorization."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random

from eksgateway.decisions import Decisions
from eksgateway.eks.shared_reads import SeenUpdate, SharedReads
from eksgateway.errors import GatewayError
from eksgateway.model import Action, Caller, ClusterFacts, ClusterRef, Decision, Obligation, Update, UpdateRef
from eksgateway.policy.engine import Reloads
from eksgateway.policy.question import Question
from eksgateway.policy.revision import Revision
from eksgateway.rights.reauthorization import Reauthorization
from eksgateway.watch.slot import Slot
from support.clock import FakeClock

METHOD = "/eksgateway.v1.UpdateService/WatchUpdate"


class ScriptedPolicy:
    """A PolicyEngine that allows unless ``denies``. Each decision awaits ``before``."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.denies: Callable[[Question], bool] = lambda _: False
        self.before: Callable[[Question], Awaitable[None]] | None = None
        self.fails: Exception | None = None
        self.obligations: tuple[Obligation, ...] = ()
        self.edges: list[datetime] = []
        self.reloads = Reloads()
        self._revision = Revision("r1")

    @property
    def revision(self) -> str:
        return self._revision.current

    def change(self, revision: str) -> None:
        """Put another revision in force."""
        self._revision.set(revision)

    async def revision_after(self, revision: str) -> str:
        return await self._revision.after(revision)

    def validity_of(self, question: Question) -> None: ...

    def next_change(self, now: datetime) -> datetime | None:
        return next((edge for edge in self.edges if edge > now), None)

    def reload(self) -> None: ...

    async def decide(self, question: Question) -> Decision:
        self.questions.append(question)
        revision = self.revision
        if self.before is not None:
            await self.before(question)
        if self.fails is not None:
            raise self.fails
        denied = self.denies(question)
        return Decision(
            question.decision_id,
            allowed=not denied and not self.obligations,
            reasons=("Because.",),
            policy_revision=revision,
            obligations=() if denied else self.obligations,
        )

    async def check(self) -> None: ...

    async def close(self) -> None: ...


class ScriptedReads(SharedReads):
    """Await ``before`` in each read; count the reads of updates, and collect the requested ages."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.tags: dict[str, str] = {}
        self.max_ages: set[float] = set()
        self.read = 0
        self.before: Callable[[], Awaitable[None]] | None = None

    async def cluster(self, ref: ClusterRef, max_age: float, caller: Hashable) -> ClusterFacts:  # noqa: ARG002
        self.max_ages.add(max_age)
        if self.before is not None:
            await self.before()
        arn = f"arn:aws:eks:{ref.region}:{ref.account_id}:cluster/{ref.name}"
        return ClusterFacts(arn, ref.name, "ACTIVE", "1.34", dict(self.tags))

    async def update(self, ref: UpdateRef, max_age: float, caller: Hashable) -> SeenUpdate:  # noqa: ARG002
        self.max_ages.add(max_age)
        self.read += 1
        update = Update(ref.update_id, "InProgress", "VersionRollback")
        return SeenUpdate(update, self._clock.now(), self._clock.monotonic())


def a_ref(number: int = 1) -> UpdateRef:
    return UpdateRef(ClusterRef("111122223333", "us-east-1", f"prod-{number}"), "update-1")


@dataclass
class GuardedWatch:
    """A watch as its servicer holds it. Its client reads only when the test does."""

    slot: Slot
    decision_id: str
    stack: ExitStack = field(default_factory=ExitStack)

    async def error(self) -> GatewayError | None:
        """The error that ended it, if any."""
        try:
            assert await self.slot.next(0) is None
        except GatewayError as exc:
            return exc
        return None

    async def reason(self) -> str:
        """The error's reason, or an empty string while the watch is open."""
        error = await self.error()
        return error.reason if error else ""

    def leave(self) -> None:
        self.stack.close()


class Stage:
    """The component under test and everything around it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.policy = ScriptedPolicy()
        self.reads = ScriptedReads(self.clock)
        self.watches: list[GuardedWatch] = []
        self.reauthorization = Reauthorization(
            decisions=Decisions(self.policy, lambda _: None),
            policy=self.policy,
            reads=self.reads,
            facts_max_age=30,
            clock=self.clock,
            random=Random(1),
        )

    def watch(
        self, who: str = "ann", number: int = 1, *, lasts: float | None = None, method: str = METHOD
    ) -> GuardedWatch:
        """Begin a watch of update ``number``, allowed by the policy in force.

        Its credentials expire after ``lasts`` seconds.
        """
        ref, now = a_ref(number), self.clock.now()
        expires_at = now + timedelta(seconds=lasts) if lasts is not None else None
        caller = Caller("jwt", f"jwt:corp:{who}", "corp", ("corp:all",), None, expires_at)
        decision_id = f"decision-{len(self.watches)}"
        question = Question(caller, Action.WATCH, ref.cluster, method, decision_id, now)
        arn = f"arn:aws:eks:us-east-1:111122223333:cluster/{ref.cluster.name}"
        facts = ClusterFacts(arn, ref.cluster.name, "ACTIVE", "1.34", dict(self.reads.tags))
        question = replace(question, facts=facts, update=Update("update-1", "InProgress", "VersionRollback"))
        return self.begin(ref, question, Decision(decision_id, True, policy_revision=self.policy.revision))

    def begin(self, ref: UpdateRef, question: Question, decision: Decision) -> GuardedWatch:
        opened = GuardedWatch(Slot(self.clock), decision.decision_id)
        opened.stack.enter_context(self.reauthorization.guard(ref, question, decision, opened.slot))
        self.watches.append(opened)
        return opened

    @property
    def callers(self) -> list[str]:
        """The callers of the policy's questions, in order."""
        return [question.caller.id.rpartition(":")[2] for question in self.policy.questions]

    async def close(self) -> None:
        """End every watch. Within a second no task or timer may be left, before ``close`` is called."""
        for opened in self.watches:
            opened.leave()
        await self.clock.advance(1)
        assert self.clock.sleepers == 0
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "reauthorize" not in names
        await self.reauthorization.close()
