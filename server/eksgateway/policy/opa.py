"""The engine for an OPA server, a sidecar with its own bundles, reached with opa-python-client."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp
from opa_client import AsyncOpaClient  # type: ignore[import-untyped]  # ships no types

from eksgateway.clock import Clock, wait_for
from eksgateway.errors import GatewayError, PolicyInvalid, PolicyUnavailable
from eksgateway.logs import Log
from eksgateway.model import Decision
from eksgateway.policy.engine import (
    MAX_ANSWER_BYTES,
    SAMPLES,
    UNDEFINED,
    Reloads,
    checked_text,
    read_decision,
    read_json,
)
from eksgateway.policy.freezes import Edges, in_order, next_of
from eksgateway.policy.question import Question
from eksgateway.policy.revision import Revision
from eksgateway.revocation import REVISION_ANSWER_S
from eksgateway.settings import OpaSettings

log = Log(__name__)

# Fixed: no part of a path ever comes from a question.
_PACKAGE: Final = "eksgateway.authz"
_RULE: Final = "decision"
_CHANGES: Final = "eksgateway.revision"
_WITH_PROVENANCE: Final = {"provenance": "true"}

_CONNECTIONS: Final = 512  # an answer that does not come holds one for as long as it is waited for


class OpaEngine:
    """A PolicyEngine. Use ``open``; ``close`` ends its connections and its watch over the revision."""

    def __init__(self, client: AsyncOpaClient, settings: OpaSettings, clock: Clock, timeout_s: float) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._timeout_s = timeout_s
        self.reloads = Reloads()
        self._revision = Revision()
        self._data_hash = ""
        self._edges: Edges = ()
        self._wake = asyncio.Event()
        self._poll: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: OpaSettings, clock: Clock, *, timeout_s: float) -> Self:
        """An engine; whether OPA answers is for ``check`` to say."""
        address = urlsplit(settings.url)
        tls = address.scheme == "https"
        client = _StrictClient(
            host=f"[{host}]" if ":" in (host := address.hostname or "") else host,
            port=address.port or (443 if tls else 80),
            ssl=tls,
            timeout=timeout_s,
        )
        await client.__aenter__()
        engine = cls(client, settings, clock, timeout_s)
        engine._poll = asyncio.create_task(engine._keep_revision(), name="policy-revision")
        return engine

    @property
    def revision(self) -> str:
        return self._revision.current

    async def revision_after(self, revision: str) -> str:
        return await self._revision.after(revision)

    def next_freeze_change(self, now: datetime) -> datetime | None:
        return next_of(self._edges, now)

    def reload(self) -> None:
        self._wake.set()

    async def decide(self, question: Question) -> Decision:
        answer = await self._ask(_PACKAGE, _RULE, question.to_input(), self._timeout_s)
        revision = self._revision_of(answer)
        result = answer.get("result", UNDEFINED)
        return read_decision(result, decision_id=question.decision_id, revision=revision)

    async def check(self) -> None:
        await self._learn(self._timeout_s)
        for question in SAMPLES:
            await self.decide(question)

    async def close(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poll
        await self._client.close_connection()

    async def _keep_revision(self) -> None:
        """Ask what is in force, every ``poll_s``. While OPA cannot say, what it said last stands."""
        while True:
            began = self._clock.monotonic()
            try:
                await self._learn(min(self._timeout_s, REVISION_ANSWER_S))
            except GatewayError:
                pass
            except Exception:  # a bug must not end the asking
                log.exception("policy.unexpected")
            took = self._clock.monotonic() - began
            await wait_for(self._wake, self._clock, self._settings.poll_s - took)
            self._wake.clear()

    async def _learn(self, timeout_s: float) -> None:
        """What is in force, and when decisions change under it. Raises GatewayError."""
        asking = [self._ask(_CHANGES, rule, {}, timeout_s) for rule in ("hash", "edges")]
        answer, edges = await asyncio.gather(*asking, return_exceptions=True)
        if isinstance(answer, BaseException):
            raise answer
        # A policy of one's own need not tell its edges; while OPA cannot, what it said last stands.
        if not isinstance(edges, BaseException):
            times = edges.get("result")
            self._edges = in_order(times) if isinstance(times, list) else ()
        elif not isinstance(edges, GatewayError):
            raise edges
        data_hash = answer.get("result")
        self._data_hash = data_hash if isinstance(data_hash, str) else ""
        if self._revision.set(self._revision_of(answer)):
            self.reloads.loaded += 1
            self.reloads.last = self._clock.now()
            log.info("policy.loaded", engine="opa", revision=self._revision.current)

    def _revision_of(self, answer: dict[str, Any]) -> str:
        """OPA's revisions of its bundles, else the hash of its data; raises if a bundle is not there."""
        bundles = _bundles(answer)
        expected = self._settings.bundle
        if expected and expected not in bundles:
            raise PolicyUnavailable(detail=f"OPA has not loaded the bundle {expected!r}")
        named = {expected: bundles[expected]} if expected else bundles
        revisions = [f"{name}={revision}" for name, revision in sorted(named.items()) if revision]
        return checked_text(",".join(revisions) or self._data_hash, "the revision")

    async def _ask(
        self, package: str, rule: str, document: dict[str, Any], timeout_s: float
    ) -> dict[str, Any]:
        try:
            # One deadline around the call and its retries: the client's own is per attempt.
            async with asyncio.timeout(timeout_s):
                answer = await self._client.query_rule(document, package, rule, query_params=_WITH_PROVENANCE)
        except (TimeoutError, aiohttp.ClientError, OSError) as exc:
            raise _translated(exc) from exc
        if not isinstance(answer, dict):
            raise PolicyInvalid(detail="OPA's answer is not an object")
        return answer


def _translated(exc: Exception) -> GatewayError:
    if isinstance(exc, TimeoutError):
        return PolicyUnavailable(detail="OPA did not answer in time")
    told = f"{type(exc).__name__}: {exc}"
    if not isinstance(exc, aiohttp.ClientResponseError):
        return PolicyUnavailable(detail=told)
    # OPA's own refusals (a bad path, its authorization) come back the same however often one asks.
    return PolicyUnavailable(detail=told) if exc.status >= 500 else PolicyInvalid(detail=told)


def _bundles(answer: dict[str, Any]) -> dict[str, str]:
    provenance = answer.get("provenance", {})
    bundles = provenance.get("bundles", {}) if isinstance(provenance, dict) else None
    if not isinstance(bundles, dict):
        raise PolicyInvalid(detail="OPA's provenance is not an object")
    found = {}
    for name, bundle in bundles.items():
        revision = bundle.get("revision", "") if isinstance(bundle, dict) else None
        if not isinstance(revision, str):
            raise PolicyInvalid(detail="OPA's provenance has a bundle without a readable revision")
        found[name] = revision
    return found


class _StrictResponse(aiohttp.ClientResponse):
    """An answer that is taken as JSON only where it says so, and of which never more than MAX_ANSWER_BYTES
    (and a chunk) are held.
    """

    async def json(self, **_: Any) -> Any:
        body = bytearray()
        async for chunk in self.content.iter_any():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                break
        return read_json(bytes(body))

    def refuse_unless_json(self) -> None:
        """Raise ClientResponseError unless this is 200 with a JSON document in UTF-8, as it stands."""
        types = self.headers.getall("Content-Type", [])
        coding = ", ".join(self.headers.getall("Content-Encoding", ["identity"])).lower()
        if self.status != 200:
            self._refuse(f"status {self.status} where OPA answers 200")
        if len(types) != 1 or not _JSON_TYPE.fullmatch(types[0]):
            self._refuse(f"the content type {', '.join(types) or 'is missing'}, not application/json")
        if coding != "identity":
            self._refuse(f"the content encoding {coding}, which was not asked for")

    def _refuse(self, message: str) -> None:
        raise aiohttp.ClientResponseError(
            self.request_info, self.history, status=self.status, message=f"{message:.200}"
        )


_JSON_TYPE: Final = re.compile(
    r'application/json[ \t]*(;[ \t]*charset=("utf-8"|utf-8)[ \t]*)?', re.IGNORECASE
)


class _StrictClient(AsyncOpaClient):  # type: ignore[misc]  # untyped, see the import
    """opa-python-client with strict, bounded answers; a redirect is an answer, not an order."""

    async def _init_session(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            auto_decompress=False,
            response_class=_StrictResponse,
        )

    @asynccontextmanager
    async def _request(self, method: str, url: str, **kwargs: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        async with super()._request(method, url, allow_redirects=False, **kwargs) as response:
            response.refuse_unless_json()
            yield response
