"""A target's role: one session per caller, so that CloudTrail shows who; kept, and renewed before it ends.

What is done for no one caller has a session named for the gateway itself. Asking STS blocks: it is
for worker threads.
"""

from __future__ import annotations

import re
import threading
from base64 import b32encode
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from eksgateway.clock import Clock
from eksgateway.eks.error_table import translate
from eksgateway.errors import EksNotReached
from eksgateway.logs import Log
from eksgateway.model import Caller
from eksgateway.settings import TargetSettings

if TYPE_CHECKING:
    from botocore.credentials import RefreshableCredentials
    from mypy_boto3_sts import STSClient

_log = Log(__name__)

OWN_SESSION = "eksgateway"
KEPT = 1000  # sessions of one role; about 3 KB each
LASTS_S = 3600  # the most that AWS gives from role to role; botocore renews in its last 15 minutes
COOL_DOWN_S = 1.0

_LONGEST_NAME = 64
_FOREIGN = re.compile(r"[^A-Za-z0-9_+=,.@-]+")


def session_name(caller: Caller | None) -> str:
    """A RoleSessionName: as much of the caller's id as AWS takes, and a digest that keeps callers apart.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    """
    if caller is None:
        return OWN_SESSION
    digest = sha256(caller.id.encode("utf-8", "surrogatepass")).digest()
    suffix = "-" + b32encode(digest[:10]).decode().lower()
    return _FOREIGN.sub(".", caller.id)[: _LONGEST_NAME - len(suffix)] + suffix


class Role:
    """Sessions of one role by name, the one used least recently let go first.

    All callers share the target's clients and their connections: a call is signed for whom its
    thread says, and a call that says nobody is not made.
    """

    def __init__(self, target: TargetSettings, sts: STSClient, clock: Clock, kept: int = KEPT) -> None:
        self._target = target
        self._sts = sts
        self._clock = clock
        self._size = kept
        self._sessions: OrderedDict[str, RefreshableCredentials] = OrderedDict()
        self._lock = threading.Lock()
        self._thread = threading.local()

    @contextmanager
    def acting_for(self, caller: Caller | None) -> Iterator[None]:
        """Sign what this thread calls meanwhile for the caller. Raises what botocore does when STS fails."""
        session = self._session(session_name(caller))
        session.get_frozen_credentials()  # here STS is asked, if need be
        self._thread.session = session
        try:
            yield
        finally:
            del self._thread.session

    def sign(self, params: dict[str, Any], **_event: Any) -> None:
        """Handle before-call."""
        params["context"].setdefault("signing", {})["request_credentials"] = self._thread.session

    def close(self) -> None:
        """Close the connections to STS."""
        self._sts.close()

    def _session(self, name: str) -> RefreshableCredentials:
        from botocore.credentials import DeferredRefreshableCredentials  # noqa: PLC0415 - as boto3: slow

        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                assume = _AssumeRole(self._target, name, self._sts, self._clock)
                session = DeferredRefreshableCredentials(assume, "assume-role", self._clock.now)
                self._sessions[name] = session
            self._sessions.move_to_end(name)
            if len(self._sessions) > self._size:
                self._sessions.popitem(last=False)
            return session


class _AssumeRole:
    """Gets one session's credentials, for botocore, which asks one at a time and when they near their end.

    For a moment after a failure it fails at once: the threads that waited for it do not each
    wait for STS in turn.
    """

    def __init__(self, target: TargetSettings, name: str, sts: STSClient, clock: Clock) -> None:
        self._asked: dict[str, Any] = {
            "RoleArn": target.role_arn,
            "RoleSessionName": name,
            "DurationSeconds": LASTS_S,
        }
        if target.external_id is not None:
            self._asked["ExternalId"] = target.external_id
        self._sts = sts
        self._clock = clock
        self._failure: Exception | None = None
        self._again = 0.0  # monotonic

    def __call__(self) -> dict[str, str]:
        if self._failure is not None and self._clock.monotonic() < self._again:
            raise self._failure.with_traceback(None)
        try:
            got = self._sts.assume_role(**self._asked)["Credentials"]
            found = {
                "access_key": got["AccessKeyId"],
                "secret_key": got["SecretAccessKey"],
                "token": got["SessionToken"],
                "expiry_time": got["Expiration"].isoformat(),
            }
        except Exception as exc:
            detail = translate(exc, "AssumeRole", EksNotReached).detail
            session = self._asked["RoleSessionName"]
            _log.warning("eks.role_not_assumed", role=self._asked["RoleArn"], session=session, detail=detail)
            self._failure, self._again = exc, self._clock.monotonic() + COOL_DOWN_S
            raise
        self._failure = None
        return found
