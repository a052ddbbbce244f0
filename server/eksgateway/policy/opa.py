"""The engine for an OPA server with bundles of its own."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import Any, Final, Self

from eksgateway.clock import Clock, wait_for
from eksgateway.errors import GatewayError, PolicyInvalid, PolicyUnavailable, PolicyUndefined
from eksgateway.logs import Log
from eksgateway.model import Decision
from eksgateway.policy.edges import Edges, read_edges
from eksgateway.policy.engine import SAMPLES, Reloads
from eksgateway.policy.opa_bundles import BundleLoads
from eksgateway.policy.opa_client import DECISION, EDGES, FAULT, HASH, OpaClient
from eksgateway.policy.question import Question
from eksgateway.policy.results import UNDEFINED, check_text, read_decision
from eksgateway.policy.revision import Revision
from eksgateway.revocation import REVISION_ANSWER_S
from eksgateway.settings import OpaSettings

log = Log(__name__)

_NO_POLICY: Final = (
    "OPA has no data.eksgateway.authz.decision: let it load a bundle of `eksgateway policy bundle`"
)


class _BundleMissing(PolicyUnavailable):
    pass


class OpaEngine:
    """A PolicyEngine. Use ``open``."""

    def __init__(self, client: OpaClient, settings: OpaSettings, clock: Clock, timeout_s: float) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._timeout_s = timeout_s
        self.reloads = Reloads()
        self._bundle_loads = BundleLoads(client, settings.bundle, clock, self.reloads)
        self._revision = Revision()
        self._data_hash = ""
        self._fault = ""  # of OPA's data, by the policy
        self._edges = Edges()
        self._edges_of = ("", "")  # the revision and hash that they are of
        self._wake = asyncio.Event()
        self._poll = asyncio.create_task(self._poll_revision(), name="policy-revision")

    @classmethod
    async def open(cls, settings: OpaSettings, clock: Clock, *, timeout_s: float) -> Self:
        """OPA need not answer yet: use ``check``."""
        client = await OpaClient.open(settings.url, timeout_s=timeout_s)
        return cls(client, settings, clock, timeout_s)

    @property
    def revision(self) -> str:
        return self._revision.current

    async def revision_after(self, revision: str) -> str:
        return await self._revision.after(revision)

    def validity_of(self, question: Question) -> None:
        """An OPA server does not declare when its decisions change."""

    def next_change(self, now: datetime) -> datetime | None:
        return self._edges.next_after(now)

    def reload(self) -> None:
        self._wake.set()

    async def decide(self, question: Question) -> Decision:
        response = await self._client.query(DECISION, question.to_input(), self._timeout_s)
        revision = self._revision_of(response)
        result = response.get("result", UNDEFINED)
        if result is UNDEFINED:
            raise PolicyUndefined(detail=_NO_POLICY)
        decision = read_decision(result, decision_id=question.decision_id, revision=revision)
        if self._fault and not decision.allowed:
            raise PolicyUnavailable(detail=self._fault)  # it denies because it cannot decide
        return decision

    async def check(self) -> None:
        try:
            await self._update_revision(self._timeout_s)
            for question in SAMPLES:
                await self.decide(question)
        except _BundleMissing as exc:
            raise PolicyUnavailable(detail=await self._bundle_loads.explain()) from exc
        except PolicyUndefined as exc:
            failures = await self._bundle_loads.describe_failures()
            raise PolicyUndefined(detail="; ".join(filter(None, (exc.detail, failures)))) from exc

    async def close(self) -> None:
        self._poll.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._poll
        await self._bundle_loads.close()
        await self._client.close()

    async def _poll_revision(self) -> None:
        while True:
            began = self._clock.monotonic()
            try:
                await self._update_revision(min(self._timeout_s, REVISION_ANSWER_S))
            except GatewayError:
                pass  # the last revision stands while OPA does not answer
            except Exception:  # a bug must not end the polling
                log.exception("policy.unexpected")
            self._bundle_loads.refresh()
            took = self._clock.monotonic() - began
            await wait_for(self._wake, self._clock, self._settings.poll_s - took)
            self._wake.clear()

    async def _update_revision(self, timeout_s: float) -> None:
        began = self._clock.monotonic()
        response, fault = await asyncio.gather(
            self._client.query(HASH, {}, timeout_s), self._read_fault(timeout_s), return_exceptions=True
        )
        for each in (response, fault):
            if isinstance(each, BaseException):
                raise each
        self._fault = fault
        data_hash = response.get("result")
        self._data_hash = data_hash if isinstance(data_hash, str) else ""
        revision = self._revision_of(response)
        if revision == "" or self._edges_of != (revision, self._data_hash):
            await self._update_edges(revision, timeout_s - (self._clock.monotonic() - began))
        if self._revision.set(revision):
            self.reloads.loaded += 1
            self.reloads.last = self._clock.now()
            log.info("policy.loaded", engine="opa", revision=self._revision.current)

    async def _read_fault(self, timeout_s: float) -> str:
        """Empty without a fault. Another policy need not have the rule, nor OPA's authorization allow it."""
        try:
            response = await self._client.query(FAULT, {}, timeout_s)
        except GatewayError:
            return self._fault
        fault = response.get("result")
        return check_text(fault, "the fault") if isinstance(fault, str) else ""

    async def _update_edges(self, revision: str, timeout_s: float) -> None:
        """On an error the last edges stand until the next poll. Another policy need not have any."""
        with contextlib.suppress(GatewayError):
            response = await self._client.query(EDGES, {}, timeout_s)
            self._edges = _read_edges(response)
            self._edges_of = (revision, self._data_hash)

    def _revision_of(self, response: dict[str, Any]) -> str:
        """The revisions of OPA's bundles, else the hash of its data.

        Raises _BundleMissing and PolicyInvalid.
        """
        bundles = _read_bundles(response)
        expected = self._settings.bundle
        if expected and expected not in bundles:
            raise _BundleMissing(detail=f"OPA has not loaded the bundle {expected!r}")
        used = {expected: bundles[expected]} if expected else bundles
        revisions = [f"{name}={revision}" for name, revision in sorted(used.items()) if revision]
        return check_text(",".join(revisions) or self._data_hash, "the revision")


def _read_edges(response: dict[str, Any]) -> Edges:
    try:
        return read_edges(response.get("result", []))
    except ValueError as exc:
        log.warning("policy.edges_malformed", detail=str(exc))
        return Edges()


def _read_bundles(response: dict[str, Any]) -> dict[str, str]:
    provenance = response.get("provenance", {})
    bundles = provenance.get("bundles", {}) if isinstance(provenance, dict) else None
    if not isinstance(bundles, dict):
        raise PolicyInvalid(detail="OPA's provenance is not an object")
    revisions = {}
    for name, bundle in bundles.items():
        revision = bundle.get("revision", "") if isinstance(bundle, dict) else None
        if not isinstance(revision, str):
            raise PolicyInvalid(detail="OPA's provenance has a bundle without a readable revision")
        revisions[name] = revision
    return revisions
