"""A target's role: one session per caller, so that CloudTrail shows who; kept, and renewed before it ends.

What is done for no one caller has a session named for the gateway itself. Asking STS blocks: it is
for worker threads.
"""

from __future__ import annotations

import re
import threading
from base64 import b32encode
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from eksgateway.clock import Clock
from eksgateway.eks.credentials import Found, Kept
from eksgateway.model import Caller
from eksgateway.settings import TargetSettings

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from mypy_boto3_sts import STSClient

OWN_SESSION = "eksgateway"
KEPT = 1000  # sessions of one role; about 3 KB each
LASTS_S = 3600  # the most that AWS gives from role to role
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

    ``signing`` is entered around each call to STS, so that it is signed with the gateway's own credentials.
    """

    def __init__(
        self,
        target: TargetSettings,
        sts: STSClient,
        clock: Clock,
        signing: Callable[[], AbstractContextManager[None]] = nullcontext,
        kept: int = KEPT,
    ) -> None:
        self._target = target
        self._sts = sts
        self._clock = clock
        self._signing = signing
        self._size = kept
        self._sessions: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()
        self.own = self._new(OWN_SESSION)

    def keys(self, caller: Caller | None) -> ReadOnlyCredentials:
        """Credentials of the caller's session. Raises UpstreamCredentials."""
        return (self.own if caller is None else self._session(session_name(caller))).get()

    def close(self) -> None:
        """Close the connections to STS."""
        self._sts.close()

    def _session(self, name: str) -> Kept:
        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                session = self._sessions[name] = self._new(name)
            self._sessions.move_to_end(name)
            if len(self._sessions) > self._size:
                self._sessions.popitem(last=False)
            return session

    def _new(self, name: str) -> Kept:
        about = {"role": self._target.role_arn or "", "session": name}
        return Kept(lambda: self._assume(name), self._clock, COOL_DOWN_S, lambda: about)

    def _assume(self, name: str) -> Found:
        from botocore.credentials import ReadOnlyCredentials  # noqa: PLC0415 - as boto3: slow

        asked: dict[str, Any] = {"RoleArn": self._target.role_arn}
        if self._target.external_id is not None:
            asked["ExternalId"] = self._target.external_id
        with self._signing():
            answer = self._sts.assume_role(RoleSessionName=name, DurationSeconds=LASTS_S, **asked)
        got = answer["Credentials"]
        keys = ReadOnlyCredentials(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])
        ends = got["Expiration"]
        return Found(
            keys,
            lambda seconds: self._clock.now() + timedelta(seconds=seconds) <= ends,
            answer.get("AssumedRoleUser", {}).get("Arn", ""),
        )
