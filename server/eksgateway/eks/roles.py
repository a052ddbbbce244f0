"""A target's role, with one session per caller so that CloudTrail names the caller.

Asking STS blocks: use a worker thread.
"""

from __future__ import annotations

import re
import threading
from base64 import b32encode
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from cachetools import LRUCache

from eksgateway.clock import Clock
from eksgateway.eks.credentials import CachedCredentials, FetchedCredentials
from eksgateway.model import Caller
from eksgateway.settings import TargetSettings

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from mypy_boto3_sts import STSClient

OWN_SESSION: Final = "eksgateway"
CACHE_SIZE: Final = 1000  # sessions of one role; about 3 KB each
SESSION_S: Final = 3600  # the most that AWS allows when one role assumes another
COOL_DOWN_S: Final = 1.0

_LONGEST_NAME: Final = 64
_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9_+=,.@-]+")


def session_name(caller: Caller | None) -> str:
    """As much of the caller's id as AWS allows, and a digest that keeps callers apart.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    """
    if caller is None:
        return OWN_SESSION
    digest = sha256(caller.id.encode("utf-8", "surrogatepass")).digest()
    suffix = "-" + b32encode(digest[:10]).decode().lower()
    return _NOT_ALLOWED.sub(".", caller.id)[: _LONGEST_NAME - len(suffix)] + suffix


@dataclass(eq=False)
class Role:
    """Sessions of one role. ``signing`` signs each call to STS with the gateway's own credentials."""

    target: TargetSettings
    sts: STSClient
    clock: Clock
    signing: Callable[[], AbstractContextManager[None]] = nullcontext
    cache_size: int = CACHE_SIZE

    def __post_init__(self) -> None:
        self._sessions: LRUCache[str, CachedCredentials] = LRUCache(self.cache_size)
        self._lock = threading.Lock()
        self.own = self._new_session(OWN_SESSION)

    def keys(self, caller: Caller | None) -> ReadOnlyCredentials:
        """Credentials of the caller's session. Raises UpstreamCredentials."""
        return (self.own if caller is None else self._session(session_name(caller))).get()

    def close(self) -> None:
        self.sts.close()

    def _session(self, name: str) -> CachedCredentials:
        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                session = self._sessions[name] = self._new_session(name)
            return session

    def _new_session(self, name: str) -> CachedCredentials:
        log_values = {"role": self.target.role_arn or "", "session": name}
        return CachedCredentials(lambda: self._assume(name), self.clock, COOL_DOWN_S, lambda: log_values)

    def _assume(self, name: str) -> FetchedCredentials:
        from botocore.credentials import ReadOnlyCredentials  # noqa: PLC0415 - slow, like boto3

        params: dict[str, Any] = {"RoleArn": self.target.role_arn}
        if self.target.external_id is not None:
            params["ExternalId"] = self.target.external_id
        with self.signing():
            answer = self.sts.assume_role(RoleSessionName=name, DurationSeconds=SESSION_S, **params)
        given = answer["Credentials"]
        expiration = given["Expiration"]
        return FetchedCredentials(
            ReadOnlyCredentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]),
            lambda seconds: self.clock.now() + timedelta(seconds=seconds) <= expiration,
            answer.get("AssumedRoleUser", {}).get("Arn", ""),
        )
