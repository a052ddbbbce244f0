"""The gateway's AWS credentials: kept, renewed before they end, and asked for with pauses while that fails.

Getting them blocks: it is for worker threads.
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
from eksgateway.eks.error_table import CANNOT_GET, MISCONFIGURED, no_credentials
from eksgateway.errors import UpstreamCredentials
from eksgateway.logs import Log

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from botocore.session import Session

log = Log(__name__)

DUE_S: Final = 15 * 60.0  # before their end credentials are renewed,
ENDING_S: Final = 10 * 60.0  # and no longer used; both as in botocore
_FIRST_WAIT_S: Final = 5.0  # for another thread that gets them for the first time

# What says where credentials come from: names of files, addresses and roles, and no secret.
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
class Found:
    """Credentials, whether they are good for so many seconds more, and where they come from."""

    keys: ReadOnlyCredentials
    lasts: Callable[[float], bool]
    identity: str


class Kept:
    """Credentials from one source. One thread at a time asks the source; the others go on with what is kept.

    While the source fails, it is asked once in ``cool_down`` seconds, and only the thread that asks waits.
    ``about`` are values for the log, found out when there is a failure.
    """

    def __init__(
        self, get: Callable[[], Found], clock: Clock, cool_down: float, about: Callable[[], Mapping[str, str]]
    ) -> None:
        self._get = get
        self._clock = clock
        self._cool_down = cool_down
        self._about = about
        self._kept: Found | None = None
        self._failure: UpstreamCredentials | None = None
        self._again = 0.0  # monotonic
        self._asking = threading.Lock()

    @property
    def identity(self) -> str:
        """Where the credentials come from, once there are any."""
        return self._kept.identity if self._kept else ""

    @property
    def fault(self) -> UpstreamCredentials | None:
        """Why there are none, if there are none. Asks nobody."""
        if self._usable(0 if self._failure is None else ENDING_S) is not None:
            return None
        return _again(self._failure) or _unanswered()

    @property
    def due(self) -> bool:
        """Whether the source is to be asked now."""
        return self._usable(DUE_S) is None and self._clock.monotonic() >= self._again

    def get(self) -> ReadOnlyCredentials:
        """The credentials. Raises UpstreamCredentials."""
        if (kept := self._usable(DUE_S)) is not None:
            return kept.keys
        spare = self._usable(ENDING_S)
        waits = _FIRST_WAIT_S if spare is None and self._failure is None else 0
        if self._asking.acquire(timeout=waits):
            try:
                return self._renewed().keys
            finally:
                self._asking.release()
        if spare is not None:
            return spare.keys
        raise _again(self._failure) or _unanswered()

    def _renewed(self) -> Found:
        """What the source gives; what is kept, or why there is nothing, while it is left alone."""
        if (kept := self._usable(DUE_S)) is not None:
            return kept
        if self.due:
            self._ask()
        if (kept := self._usable(ENDING_S if self._failure else 0)) is not None:
            return kept
        raise _again(self._failure) or _unanswered()

    def _ask(self) -> None:
        try:
            self._kept = self._get()
        except Exception as exc:
            failure = no_credentials(exc)
            failure.__cause__ = exc
            if self._failure is None or self._failure.detail != failure.detail:
                log.exception("eks.credentials_failed", **self._about(), detail=failure.detail)
            self._failure = failure
            if isinstance(exc, MISCONFIGURED):  # nobody was asked
                return
        else:
            if self._failure is not None:
                log.info("eks.credentials_found", **self._about())
            self._failure = None
        # Also after a success: what a source gives may be as old as what is kept.
        self._again = self._clock.monotonic() + self._cool_down

    def _usable(self, seconds: float) -> Found | None:
        kept = self._kept
        return kept if kept is not None and kept.lasts(seconds) else None


def _unanswered() -> UpstreamCredentials:
    """The error while the first answer of a source is missing."""
    return UpstreamCredentials(CANNOT_GET, detail="credentials: their source has not answered")


def _again(failure: UpstreamCredentials | None) -> UpstreamCredentials | None:
    """The error for another call."""
    if failure is None:
        return None
    error = UpstreamCredentials(failure.message, detail=failure.detail)
    error.__cause__ = failure.__cause__
    return error


class Signing:
    """Which credentials a thread signs its calls with. A call that it says none for is not made."""

    def __init__(self) -> None:
        self._thread = threading.local()

    @contextmanager
    def by(self, keys: ReadOnlyCredentials) -> Iterator[None]:
        """Sign with these what this thread calls meanwhile."""
        from botocore.credentials import Credentials  # noqa: PLC0415 - slow

        self._thread.keys = Credentials(*keys[:3])  # type: ignore[arg-type]  # stubs: they may be None
        try:
            yield
        finally:
            del self._thread.keys

    def sign(self, params: dict[str, Any], **_event: Any) -> None:
        """Handle before-call."""
        params["context"].setdefault("signing", {})["request_credentials"] = self._thread.keys


def from_chain(session: Session) -> Found:
    """What boto3's default chain finds, renewed if need be. Raises whatever keeps it from that."""
    from botocore.credentials import RefreshableCredentials  # noqa: PLC0415 - slow

    found = session.get_credentials()
    if found is None:
        raise NoCredentialsError
    keys = found.get_frozen_credentials()
    if isinstance(found, RefreshableCredentials):
        return Found(keys, lambda seconds: not found.refresh_needed(int(seconds)), found.method)
    return Found(keys, lambda _: True, found.method)


def where(session: Session) -> dict[str, str]:
    """For the log: the settings that say where the chain looks."""
    named = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    try:
        profile = session.get_scoped_config()
    except Exception:  # noqa: BLE001 - a configuration that cannot be read is the failure that is told of
        profile = {}
    return named | {f"profile.{name}": profile[name] for name in _PROFILE if name in profile}
