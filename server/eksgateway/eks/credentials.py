"""The gateway's AWS credentials: cached, renewed before they expire, and fetched with pauses after a failure.

Fetching them blocks: use a worker thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import NoCredentialsError

from eksgateway.clock import Clock
from eksgateway.eks.error_table import CANNOT_GET, MISCONFIGURED, to_credentials_error
from eksgateway.errors import UpstreamCredentials
from eksgateway.logs import Log

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from botocore.session import Session

log = Log(__name__)

# Seconds before they expire, both as in botocore.
RENEW_S: Final = 15 * 60.0  # from here on they are renewed
UNUSED_S: Final = 10 * 60.0  # from here on they are not used
_FIRST_WAIT_S: Final = 5.0  # for another thread that fetches the first credentials

# Settings that select the source of credentials: names of files, addresses and roles, and no secret.
_VARIABLES: Final = (
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
)
_PROFILE: Final = ("role_arn", "source_profile", "web_identity_token_file", "sso_session", "sso_start_url")


@dataclass(frozen=True, slots=True)
class FetchedCredentials:
    """Credentials, a check that they are valid for so many seconds more, and the name of their source."""

    keys: ReadOnlyCredentials
    is_valid_for: Callable[[float], bool]
    identity: str


class CachedCredentials:
    """Credentials from one source. One thread at a time fetches; the others use the cached ones meanwhile.

    While the source fails, it is asked once per ``cool_down`` seconds, and only the thread that asks waits.
    ``log_values`` are logged with a failure.
    """

    def __init__(
        self,
        fetch: Callable[[], FetchedCredentials],
        clock: Clock,
        cool_down: float,
        log_values: Callable[[], Mapping[str, str]],
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._cool_down = cool_down
        self._log_values = log_values
        self._cached: FetchedCredentials | None = None
        self._failure: UpstreamCredentials | None = None
        self._next_fetch = 0.0  # monotonic: not before
        self._fetching = threading.Lock()

    @property
    def identity(self) -> str:
        """The source of the credentials, once there are any."""
        return self._cached.identity if self._cached else ""

    @property
    def error(self) -> UpstreamCredentials | None:
        """The reason why there are no credentials, if there are none. Does not fetch."""
        if self._valid_for(0 if self._failure is None else UNUSED_S) is not None:
            return None
        return self._to_error()

    @property
    def is_due(self) -> bool:
        """Whether they are to be fetched now."""
        return self._valid_for(RENEW_S) is None and self._clock.monotonic() >= self._next_fetch

    def get(self) -> ReadOnlyCredentials:
        """The credentials. Raises UpstreamCredentials."""
        if (cached := self._valid_for(RENEW_S)) is not None:
            return cached.keys
        spare = self._valid_for(UNUSED_S)
        timeout = _FIRST_WAIT_S if spare is None and self._failure is None else 0
        if self._fetching.acquire(timeout=timeout):
            try:
                return self._renew().keys
            finally:
                self._fetching.release()
        if spare is not None:
            return spare.keys
        raise self._to_error()

    def _renew(self) -> FetchedCredentials:
        """Fetch if due. Returns the new credentials, or cached ones that are still usable."""
        if (cached := self._valid_for(RENEW_S)) is not None:
            return cached
        if self.is_due:
            self._try_fetch()
        if (cached := self._valid_for(UNUSED_S if self._failure else 0)) is not None:
            return cached
        raise self._to_error()

    def _try_fetch(self) -> None:
        try:
            self._cached = self._fetch()
        except Exception as exc:
            failure = to_credentials_error(exc)
            failure.__cause__ = exc
            if self._failure is None or self._failure.detail != failure.detail:
                log.exception("eks.credentials_failed", **self._log_values(), detail=failure.detail)
            self._failure = failure
            if isinstance(exc, MISCONFIGURED):  # no service was asked: no pause is needed
                return
        else:
            if self._failure is not None:
                log.info("eks.credentials_found", **self._log_values())
            self._failure = None
        # Also after a success: a source may return credentials as old as the cached ones.
        self._next_fetch = self._clock.monotonic() + self._cool_down

    def _valid_for(self, seconds: float) -> FetchedCredentials | None:
        cached = self._cached
        return cached if cached is not None and cached.is_valid_for(seconds) else None

    def _to_error(self) -> UpstreamCredentials:
        """A new error for each call: the last failure, or that the first fetch has not ended."""
        failure = self._failure
        if failure is None:
            return UpstreamCredentials(CANNOT_GET, detail="credentials: the source has not answered yet")
        error = UpstreamCredentials(failure.message, detail=failure.detail)
        error.__cause__ = failure.__cause__
        return error


class Signing:
    """The credentials that each thread signs its calls with. Without any, a call fails."""

    def __init__(self) -> None:
        self._thread = threading.local()

    @contextmanager
    def use(self, keys: ReadOnlyCredentials) -> Iterator[None]:
        """Sign the calls that this thread makes meanwhile with ``keys``."""
        from botocore.credentials import Credentials  # noqa: PLC0415 - slow

        self._thread.keys = Credentials(*keys[:3])  # type: ignore[arg-type]  # stubs: they may be None
        try:
            yield
        finally:
            del self._thread.keys

    def sign(self, params: dict[str, Any], **_event: Any) -> None:
        """Handle botocore's event before-call."""
        params["context"].setdefault("signing", {})["request_credentials"] = self._thread.keys


def fetch_from_chain(session: Session) -> FetchedCredentials:
    """Credentials from boto3's default chain, renewed if due. Raises any error of the chain."""
    from botocore.credentials import RefreshableCredentials  # noqa: PLC0415 - slow

    found = session.get_credentials()
    if found is None:
        raise NoCredentialsError
    keys = found.get_frozen_credentials()
    if isinstance(found, RefreshableCredentials):
        return FetchedCredentials(keys, lambda seconds: not found.refresh_needed(int(seconds)), found.method)
    return FetchedCredentials(keys, lambda _: True, found.method)


def describe_chain(session: Session) -> dict[str, str]:
    """The settings that select the chain's source, for the log."""
    values = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    try:
        profile = session.get_scoped_config()
    except Exception:  # noqa: BLE001 - an unreadable configuration is the failure that is being logged
        profile = {}
    return values | {f"profile.{name}": profile[name] for name in _PROFILE if name in profile}
