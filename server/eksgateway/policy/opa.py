"""The engine for an OPA server with bundles of its own, called through opa-python-client."""

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
from eksgateway.policy.edges import Edges, read_edges
from eksgateway.policy.engine import SAMPLES, Reloads
from eksgateway.policy.question import Question
from eksgateway.policy.results import MAX_RESULT_BYTES, UNDEFINED, check_text, parse_response, read_decision
from eksgateway.policy.revision import Revision
from eksgateway.revocation import REVISION_ANSWER_S
from eksgateway.settings import OpaSettings

log = Log(__name__)

_WITH_PROVENANCE: Final = {"provenance": "true"}

_CONNECTIONS: Final = 512  # a query without a response holds one until its timeout


class OpaEngine:
    """A PolicyEngine. Use ``open``."""

    def __init__(self, client: AsyncOpaClient, settings: OpaSettings, clock: Clock, timeout_s: float) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._timeout_s = timeout_s
        self.reloads = Reloads()
        self._revision = Revision()
        self._data_hash = ""
        self._edges = Edges()
        self._wake = asyncio.Event()
        self._poll = asyncio.create_task(self._poll_revision(), name="policy-revision")

    @classmethod
    async def open(cls, settings: OpaSettings, clock: Clock, *, timeout_s: float) -> Self:
        """OPA need not answer yet: use ``check``."""
        address = urlsplit(settings.url)
        tls = address.scheme == "https"
        client = _StrictClient(
            host=f"[{host}]" if ":" in (host := address.hostname or "") else host,
            port=address.port or (443 if tls else 80),
            ssl=tls,
            timeout=timeout_s,
        )
        await client.__aenter__()
        return cls(client, settings, clock, timeout_s)

    @property
    def revision(self) -> str:
        return self._revision.current

    async def revision_after(self, revision: str) -> str:
        return await self._revision.after(revision)

    def next_change(self, now: datetime) -> datetime | None:
        return self._edges.next_after(now)

    def reload(self) -> None:
        self._wake.set()

    async def decide(self, question: Question) -> Decision:
        response = await self._query("eksgateway.authz", "decision", question.to_input(), self._timeout_s)
        revision = self._revision_of(response)
        result = response.get("result", UNDEFINED)
        return read_decision(result, decision_id=question.decision_id, revision=revision)

    async def check(self) -> None:
        await self._update_revision(self._timeout_s)
        for question in SAMPLES:
            await self.decide(question)

    async def close(self) -> None:
        self._poll.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._poll
        await self._client.close_connection()

    async def _poll_revision(self) -> None:
        while True:
            began = self._clock.monotonic()
            try:
                await self._update_revision(min(self._timeout_s, REVISION_ANSWER_S))
            except GatewayError:
                pass  # the last revision stands while OPA does not answer
            except Exception:  # a bug must not end the polling
                log.exception("policy.unexpected")
            took = self._clock.monotonic() - began
            await wait_for(self._wake, self._clock, self._settings.poll_s - took)
            self._wake.clear()

    async def _update_revision(self, timeout_s: float) -> None:
        queries = [self._query("eksgateway.revision", rule, {}, timeout_s) for rule in ("hash", "edges")]
        response, edges = await asyncio.gather(*queries, return_exceptions=True)
        if isinstance(response, BaseException):
            raise response
        # Another policy need not have the rule `edges`. On an error the last times stand.
        if not isinstance(edges, BaseException):
            self._edges = _read_edges(edges)
        elif not isinstance(edges, GatewayError):
            raise edges
        data_hash = response.get("result")
        self._data_hash = data_hash if isinstance(data_hash, str) else ""
        if self._revision.set(self._revision_of(response)):
            self.reloads.loaded += 1
            self.reloads.last = self._clock.now()
            log.info("policy.loaded", engine="opa", revision=self._revision.current)

    def _revision_of(self, response: dict[str, Any]) -> str:
        """The revisions of OPA's bundles, else the hash of its data. Raises PolicyUnavailable and
        PolicyInvalid.
        """
        bundles = _read_bundles(response)
        expected = self._settings.bundle
        if expected and expected not in bundles:
            raise PolicyUnavailable(detail=f"OPA has not loaded the bundle {expected!r}")
        used = {expected: bundles[expected]} if expected else bundles
        revisions = [f"{name}={revision}" for name, revision in sorted(used.items()) if revision]
        return check_text(",".join(revisions) or self._data_hash, "the revision")

    async def _query(
        self, package: str, rule: str, document: dict[str, Any], timeout_s: float
    ) -> dict[str, Any]:
        # package and rule are constants: no part of a path comes from a question.
        try:
            # The client's own timeout is per attempt; this one includes its retries.
            async with asyncio.timeout(timeout_s):
                response = await self._client.query_rule(
                    document, package, rule, query_params=_WITH_PROVENANCE
                )
        except TimeoutError as exc:
            raise PolicyUnavailable(detail="OPA did not answer in time") from exc
        except (aiohttp.ClientError, OSError) as exc:
            # OPA's own refusals (a bad path, its authorization) do not pass by themselves.
            refused = isinstance(exc, aiohttp.ClientResponseError) and exc.status < 500
            error = PolicyInvalid if refused else PolicyUnavailable
            raise error(detail=f"{type(exc).__name__}: {exc}") from exc
        if not isinstance(response, dict):
            raise PolicyInvalid(detail="OPA's answer is not an object")
        return response


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


class _StrictResponse(aiohttp.ClientResponse):
    """A response of which at most MAX_RESULT_BYTES and a chunk are held in memory."""

    async def json(self, **_: Any) -> Any:
        body = bytearray()
        async for chunk in self.content.iter_any():
            body += chunk
            if len(body) > MAX_RESULT_BYTES:
                break
        return parse_response(bytes(body))

    def check_headers(self) -> None:
        """Raise ClientResponseError unless this is status 200 with JSON in UTF-8 and no content encoding."""
        types = self.headers.getall("Content-Type", [])
        coding = ", ".join(self.headers.getall("Content-Encoding", ["identity"])).lower()
        if self.status != 200:
            self._refuse(f"status {self.status} where OPA answers 200")
        if len(types) != 1 or not _JSON_TYPE.fullmatch(types[0]):
            self._refuse(f"the content type {', '.join(types) or 'is missing'}, not application/json")
        if coding != "identity":
            self._refuse(f"the content encoding {coding}, which was not requested")

    def _refuse(self, message: str) -> None:
        raise aiohttp.ClientResponseError(
            self.request_info, self.history, status=self.status, message=f"{message:.200}"
        )


_JSON_TYPE: Final = re.compile(
    r'application/json[ \t]*(;[ \t]*charset=("utf-8"|utf-8)[ \t]*)?', re.IGNORECASE
)


class _StrictClient(AsyncOpaClient):  # type: ignore[misc]  # untyped, see the import
    """Has strict, bounded responses and no redirects.

    It overrides private methods of version 3: pyproject.toml pins it, and tests/policy/test_opa_client.py
    checks them.
    """

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
            response.check_headers()
            yield response
