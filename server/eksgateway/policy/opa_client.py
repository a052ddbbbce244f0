"""Queries an OPA server through opa-python-client, and reads its responses strictly."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import urlsplit

import aiohttp
from opa_client import AsyncOpaClient  # type: ignore[import-untyped]  # ships no types

from eksgateway.blocking import run_blocking
from eksgateway.errors import PolicyInvalid, PolicyUnavailable
from eksgateway.policy.results import MAX_RESULT_BYTES, parse_response

DECISION: Final = ("eksgateway.authz", "decision")
HASH: Final = ("eksgateway.revision", "hash")
EDGES: Final = ("eksgateway.revision", "edges")
FAULT: Final = ("eksgateway.revision", "fault")

_WITH_PROVENANCE: Final = {"provenance": "true"}
_CONNECTIONS: Final = 512  # a query without a response holds one until its timeout
_MAX_STATUS_BYTES: Final = 4 << 20  # it has all metrics of OPA


class OpaClient:
    """Use ``open``."""

    def __init__(self, url: str, client: AsyncOpaClient) -> None:
        self._url = url
        self._client = client

    @classmethod
    async def open(cls, url: str, *, timeout_s: float) -> Self:
        """OPA need not answer yet. ``timeout_s`` is for each attempt of a query."""
        address = urlsplit(url)
        tls = address.scheme == "https"
        client = _StrictClient(
            host=f"[{host}]" if ":" in (host := address.hostname or "") else host,
            port=address.port or (443 if tls else 80),
            ssl=tls,
            timeout=timeout_s,
        )
        await client.__aenter__()
        return cls(url, client)

    async def query(
        self, rule: tuple[str, str], document: dict[str, Any], timeout_s: float
    ) -> dict[str, Any]:
        """The response to a query for one of the rules above, with the provenance.

        Raises PolicyUnavailable and PolicyInvalid. No part of a path comes from a question.
        """
        path = f"data/{'/'.join(rule).replace('.', '/')}"
        with _opa_errors(self._url, f"POST /v1/{path}", timeout_s):
            # The client's own timeout is per attempt; this one includes its retries.
            async with asyncio.timeout(timeout_s):
                response = await self._client.query_rule(document, *rule, query_params=_WITH_PROVENANCE)
        return _check_object(response)

    async def read_status(self, timeout_s: float) -> dict[str, Any]:
        """The status of OPA's plugins. Raises PolicyUnavailable and PolicyInvalid, also if OPA serves none.

        https://www.openpolicyagent.org/docs/management-status
        """
        with _opa_errors(self._url, "GET /v1/status", timeout_s):
            async with asyncio.timeout(timeout_s):
                body = await self._client.read_status()
        return _check_object(await run_blocking(parse_response, body, max_bytes=_MAX_STATUS_BYTES))

    async def close(self) -> None:
        await self._client.close_connection()


@contextmanager
def _opa_errors(url: str, request: str, timeout_s: float) -> Iterator[None]:
    """Raise errors of the client as PolicyUnavailable or PolicyInvalid."""
    try:
        yield
    except TimeoutError as exc:
        raise PolicyUnavailable(detail=f"OPA at {url} did not answer within {timeout_s:g} s") from exc
    except aiohttp.ClientResponseError as exc:
        # OPA's own refusals (a bad path, its authorization) do not pass by themselves.
        error = PolicyInvalid if exc.status < 500 else PolicyUnavailable
        detail = f"OPA at {url} answered {request} with {exc.message}"
        if exc.status == HTTPStatus.UNAUTHORIZED:
            detail = (
                f"the authorization of OPA at {url} refuses {request}: allow it in system.authz (docs/opa.md)"
            )
        raise error(detail=detail) from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise PolicyUnavailable(
            detail=f"OPA at {url} cannot be reached: {type(exc).__name__}: {exc}"
        ) from exc


def _check_object(response: Any) -> dict[str, Any]:
    if not isinstance(response, dict):
        raise PolicyInvalid(detail="OPA's answer is not an object")
    return response


class _StrictResponse(aiohttp.ClientResponse):
    """A response of which a bounded number of bytes and a chunk are held in memory."""

    async def json(self, **_: Any) -> Any:
        return parse_response(await self.read_bounded(MAX_RESULT_BYTES))

    async def read_bounded(self, max_bytes: int) -> bytes:
        """The body, cut off after more than ``max_bytes``."""
        body = bytearray()
        async for chunk in self.content.iter_any():
            body += chunk
            if len(body) > max_bytes:
                break
        return bytes(body)

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
    async def _request(self, method: str, url: str, **kwargs: Any) -> AsyncIterator[_StrictResponse]:
        async with super()._request(method, url, allow_redirects=False, **kwargs) as response:
            response.check_headers()
            yield response

    async def read_status(self) -> bytes:
        async with self._request("GET", f"{self.root_url}/status") as response:
            return await response.read_bounded(_MAX_STATUS_BYTES)
