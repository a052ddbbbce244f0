"""The gateway's AWS credentials, cached and renewed. Fetching them blocks: use a worker thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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

# Seconds before credentials expire, as in botocore: they are renewed, and then no longer used.
RENEW_S: Final = 15 * 60.0
UNUSED_S: Final = 10 * 60.0
_FIRST_WAIT_S: Final = 5.0  # for another thread that fetches the first credentials

# Settings that select the source of credentials. None is a secret.
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
    """``is_valid_for`` takes seconds; ``identity`` names the source."""

    keys: ReadOnlyCredentials
    is_valid_for: Callable[[float], bool]
    identity: str


@dataclass(eq=False, repr=False)  # a repr would show the keys
class CachedCredentials:
    """Credentials from one source. One thread at a time fetches; the others use the cached ones meanwhile.

    A source that fails is asked once per ``cool_down`` seconds. ``log_values`` are logged with a failure.
    """

    fetch: Callable[[], FetchedCredentials]
    clock: Clock
    cool_down: float
    log_values: Callable[[], Mapping[str, str]]
    _cached: FetchedCredentials | None = field(default=None, init=False)
    _failure: UpstreamCredentials | None = field(default=None, init=False)
    _next_fetch: float = field(default=0.0, init=False)  # monotonic
    _fetching: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def identity(self) -> str:
        return self._cached.identity if self._cached else ""

    @property
    def error(self) -> UpstreamCredentials | None:
        """Why there are no credentials, if there are none. Does not fetch."""
        return None if self._usable() else self._to_error()

    @property
    def is_due(self) -> bool:
        return self._valid_for(RENEW_S) is None and self.clock.monotonic() >= self._next_fetch

    def get(self) -> ReadOnlyCredentials:
        """Raises UpstreamCredentials."""
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
        if self.is_due:
            self._try_fetch()
        if (cached := self._usable()) is not None:
            return cached
        raise self._to_error()

    def _try_fetch(self) -> None:
        try:
            self._cached = self.fetch()
        except Exception as exc:  # noqa: BLE001 - a source is a file, a program or a network
            failure = to_credentials_error(exc)
            failure.__cause__ = exc
            if self._failure is None or self._failure.detail != failure.detail:
                # Without a traceback: the text of the error can hold a secret, as a program's output does.
                log.error("eks.credentials_failed", **self.log_values(), detail=failure.detail)  # noqa: TRY400
            self._failure = failure
            if isinstance(exc, MISCONFIGURED):  # no service was asked
                return
        else:
            if self._failure is not None:
                log.info("eks.credentials_found", **self.log_values())
            self._failure = None
        # Also after a success: a source may return credentials as old as the cached ones.
        self._next_fetch = self.clock.monotonic() + self.cool_down

    def _valid_for(self, seconds: float) -> FetchedCredentials | None:
        cached = self._cached
        return cached if cached is not None and cached.is_valid_for(seconds) else None

    def _usable(self) -> FetchedCredentials | None:
        return self._valid_for(UNUSED_S if self._failure else 0)

    def _to_error(self) -> UpstreamCredentials:
        """A new instance for each call, because raising one changes it."""
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
    """From boto3's default chain, renewed if due. Raises any error of the chain."""
    from botocore.credentials import RefreshableCredentials  # noqa: PLC0415 - slow

    found = session.get_credentials()
    if found is None:
        raise NoCredentialsError
    keys = found.get_frozen_credentials()
    if isinstance(found, RefreshableCredentials):
        return FetchedCredentials(keys, lambda seconds: not found.refresh_needed(int(seconds)), found.method)
    return FetchedCredentials(keys, lambda _: True, found.method)


def describe_chain(session: Session) -> dict[str, str]:
    values = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    try:
        profile = session.get_scoped_config()
    except Exception:  # noqa: BLE001 - an unreadable configuration is the failure that is being logged
        profile = {}
    return values | {f"profile.{name}": profile[name] for name in _PROFILE if name in profile}
