"""Where a JWK set's bytes come from: a URL or a file. What they mean is not known here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import aiohttp

MAX_BYTES = 262_144  # the largest sets in use are some 30 KB


class SourceError(Exception):
    """The bytes cannot be had; the text is for the log."""


class Source(Protocol):
    """Gives the bytes of one JWK set."""

    async def read(self) -> bytes:
        """At most MAX_BYTES. Raises SourceError."""

    async def close(self) -> None:
        """Release connections."""


def source_of(jwks: str, timeout_s: float) -> Source:
    """The source that a `jwks` setting names."""
    if jwks.startswith(("https://", "http://")):
        return UrlSource(jwks, timeout_s)
    return FileSource(Path(jwks))


class FileSource:
    """A local file, small enough to be read on the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                document = file.read(MAX_BYTES + 1)
        except OSError as exc:
            raise SourceError(f"cannot be read: {exc.strerror}") from exc
        return _bounded(document)

    async def close(self) -> None:
        pass


class UrlSource:
    """An HTTP GET that follows no redirect: who may name keys is the operator's word alone."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def read(self) -> bytes:
        import aiohttp  # noqa: PLC0415  costs a third of a second that a gateway with a file can save

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                # No compression, so that a bound on bytes is a bound on memory.
                headers={
                    "Accept": "application/jwk-set+json, application/json",
                    "Accept-Encoding": "identity",
                },
                auto_decompress=False,
            )
        try:
            async with self._session.get(self._url, allow_redirects=False) as response:
                if response.status != 200:
                    raise SourceError(f"answered with status {response.status}")
                document = b""
                async for chunk in response.content.iter_chunked(65_536):
                    document = _bounded(document + chunk)
        except TimeoutError as exc:
            raise SourceError(f"did not answer within {self._timeout_s:g} s") from exc
        except aiohttp.ClientError as exc:
            raise SourceError(f"could not be fetched: {type(exc).__name__}") from exc
        return document

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _bounded(document: bytes) -> bytes:
    if len(document) > MAX_BYTES:
        raise SourceError(f"is larger than {MAX_BYTES} bytes")
    return document
