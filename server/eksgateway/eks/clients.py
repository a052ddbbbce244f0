"""boto3 clients, one to read with and one to cancel with per target, and the gate before a cancel is sent.

However many callers there are, a target has these two: see ``roles``.

The only module that imports boto3. Making a client blocks: it is for worker threads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import NoCredentialsError

from eksgateway.clock import Clock
from eksgateway.eks.roles import Role
from eksgateway.errors import DecisionStale
from eksgateway.model import Caller, Target
from eksgateway.settings import EksSettings, TargetSettings, is_loopback

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config
    from mypy_boto3_eks import EKSClient

_STS_ATTEMPTS = 2


@dataclass(slots=True)
class Sending:
    """One cancel on its way: its last moment, and whether it may have left."""

    before: float
    sent: bool = False


class SendGate:
    """Looks at the clock just before a cancel's bytes leave, after credentials and signing took their time.

    botocore passes on what a before-send handler raises, unwrapped and without a retry. A cancel
    is sent by the thread that called it, so the thread says which one it is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._thread = threading.local()

    @contextmanager
    def until(self, before: float) -> Iterator[Sending]:
        """Let one cancel of this thread through before a monotonic time."""
        self._thread.sending = sending = Sending(before)
        try:
            yield sending
        finally:
            del self._thread.sending

    def check(self, **_event: Any) -> None:
        """Handle before-send."""
        sending: Sending = self._thread.sending
        if self._clock.monotonic() >= sending.before:
            raise DecisionStale
        sending.sent = True


@dataclass(frozen=True, slots=True)
class Pair:
    """The clients of one target, and the role that they act in, if any."""

    reads: EKSClient
    cancels: EKSClient
    role: Role | None


class Clients:
    """The pairs of clients made so far; a pair is made when it is first asked for.

    ``session`` brings the gateway's own credentials, the default chain finds them otherwise.
    """

    def __init__(
        self, settings: EksSettings, gate: SendGate, clock: Clock, session: boto3.Session | None
    ) -> None:
        self._settings = settings
        self._targets = {each.target: each for each in settings.targets}
        self._gate = gate
        self._clock = clock
        self._session = session
        self._pairs: dict[Target, Pair] = {}
        self._lock = threading.Lock()  # making clients of one session is not thread-safe
        # botocore's debug lines hold signed headers and session tokens.
        for name in ("boto3", "botocore", "urllib3"):
            logging.getLogger(name).setLevel(logging.INFO)
        # Its one warning holds the text of the exception that kept it from renewing credentials.
        logging.getLogger("botocore.credentials").setLevel(logging.ERROR)

    def serves(self, target: Target) -> bool:
        """Whether the target is configured."""
        return target in self._targets

    @contextmanager
    def acting_for(self, caller: Caller | None, target: Target) -> Iterator[Pair]:
        """The target's clients, for calls that this thread makes for a caller, or for the gateway itself."""
        pair = self.of(target)
        with pair.role.acting_for(caller) if pair.role else nullcontext():
            yield pair

    def of(self, target: Target) -> Pair:
        """The target's clients."""
        with self._lock:
            pair = self._pairs.get(target)
            if pair is None:
                pair = self._pairs[target] = self._make(self._targets[target])
            return pair

    def close(self) -> None:
        """Close every connection."""
        for pair in tuple(self._pairs.values()):  # not under the lock: who holds it may wait for credentials
            pair.reads.close()
            pair.cancels.close()
            if pair.role is not None:
                pair.role.close()

    def _make(self, target: TargetSettings) -> Pair:
        import boto3  # noqa: PLC0415 - takes 300 ms: here it costs a worker thread, not the start

        if self._session is None:
            self._session = boto3.Session()
        session, settings = self._session, self._settings
        if session.get_credentials() is None:  # a client made without them would never have any
            raise NoCredentialsError
        region, endpoint = target.region, target.endpoint_url
        # botocore tries nothing again: a second read is the budget's affair, and a second cancel after
        # a lost answer would report an accepted one as InvalidState.
        reading = self._config(endpoint, settings.read_timeout_s, 1)
        cancelling = self._config(endpoint, settings.cancel_read_timeout_s, 1)
        reads = session.client("eks", region_name=region, endpoint_url=endpoint, config=reading)
        cancels = session.client("eks", region_name=region, endpoint_url=endpoint, config=cancelling)
        role = self._role(session, target)
        if role is not None:
            for client in (reads, cancels):
                client.meta.events.register("before-call.eks", role.sign)
        cancels.meta.events.register("before-send.eks.CancelUpdate", self._gate.check)
        return Pair(reads, cancels, role)

    def _role(self, session: boto3.Session, target: TargetSettings) -> Role | None:
        if target.role_arn is None:
            return None
        endpoint = target.sts_endpoint_url
        config = self._config(endpoint, self._settings.read_timeout_s, _STS_ATTEMPTS)
        sts = session.client("sts", region_name=target.region, endpoint_url=endpoint, config=config)
        return Role(target, sts, self._clock)

    def _config(self, endpoint: str | None, read_timeout: float, attempts: int) -> Config:
        import boto3  # noqa: PLC0415 - as above
        from botocore.config import Config  # noqa: PLC0415

        local = endpoint is not None and is_loopback(urlsplit(endpoint).hostname or "")
        return Config(
            connect_timeout=self._settings.connect_timeout_s,
            read_timeout=read_timeout,
            max_pool_connections=self._settings.threads,
            retries={"mode": "standard", "total_max_attempts": attempts},
            proxies={} if local else None,  # no proxy of the environment leads to this machine
            # botocore's own, which says more, is put together anew for each call: a fifth of a call's CPU.
            user_agent=f"eksgateway Boto3/{boto3.__version__}",  # and boto3 adds botocore's
        )
