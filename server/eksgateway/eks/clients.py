"""boto3 clients, one to read with and one to cancel with per target.

However many callers there are, a target has these two: see ``roles``.

The only module that imports boto3. Making a client blocks: it is for worker threads.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksgateway.clock import Clock
from eksgateway.eks.credentials import Kept, Signing, from_chain, where
from eksgateway.eks.gate import SendGate
from eksgateway.eks.roles import Role
from eksgateway.errors import UpstreamCredentials
from eksgateway.logs import Log
from eksgateway.model import Caller, Target
from eksgateway.settings import EksSettings, TargetSettings

if TYPE_CHECKING:
    import boto3
    from botocore.session import Session as BotocoreSession
    from mypy_boto3_eks import EKSClient
    from mypy_boto3_sts import STSClient

    from eksgateway.eks.wire import Wire

log = Log(__name__)

_STS_ATTEMPTS = 2
_COOL_DOWN_S = 2.0


@dataclass(frozen=True, slots=True)
class Pair:
    """The clients of one target, and the role that they act in, if any."""

    reads: EKSClient
    cancels: EKSClient
    role: Role | None


class _Aws:
    """boto3, and what all clients share: the gateway's own credentials, and how requests are sent."""

    def __init__(
        self, settings: EksSettings, gate: SendGate, clock: Clock, given: boto3.Session | None
    ) -> None:
        import boto3  # noqa: PLC0415 - takes 300 ms: here it costs a worker thread, not the start

        from eksgateway.eks.wire import Wire  # noqa: PLC0415 - likewise

        self._session = given or boto3.Session()
        core: BotocoreSession = self._session._session  # noqa: SLF001 - boto3 has no other way to its settings
        # As botocore itself would choose; chosen here, it can be named where TLS fails.
        bundle = core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")

        def wire(read_timeout: float, before: Callable[[], None] = lambda: None) -> Wire:
            return Wire(settings.connect_timeout_s, read_timeout, settings.threads, bundle, before)

        self.signing = Signing()
        self.own = Kept(lambda: from_chain(core), clock, _COOL_DOWN_S, lambda: where(core))
        self.reading = wire(settings.read_timeout_s)
        self.cancelling = wire(settings.cancel_read_timeout_s, gate.check)
        if given is None:  # the chain of credentials makes clients of its own
            for service in ("signin", "sso", "sso-oidc", "sts"):
                _send(self._session, service, self.reading)

    def eks(self, target: TargetSettings, wire: Wire) -> EKSClient:
        """A client whose requests the wire sends."""
        # botocore tries nothing again: a second read is the budget's affair, and a second cancel after
        # a lost answer would report an accepted one as InvalidState.
        client: EKSClient = self._client("eks", target.region, target.endpoint_url, 1, wire)
        return client

    def sts(self, target: TargetSettings) -> STSClient:
        """A client that the target's role is assumed with."""
        client: STSClient = self._client(
            "sts", target.region, target.sts_endpoint_url, _STS_ATTEMPTS, self.reading
        )
        return client

    def as_own(self) -> AbstractContextManager[None]:
        """Sign with the gateway's own credentials what this thread calls meanwhile."""
        return self.signing.by(self.own.get())

    def close(self) -> None:
        """Close every connection."""
        self.reading.close()
        self.cancelling.close()

    def _client(self, service: Any, region: str, endpoint: str | None, attempts: int, wire: Wire) -> Any:
        import boto3  # noqa: PLC0415 - as above
        from botocore.config import Config  # noqa: PLC0415

        client = self._session.client(
            service,
            region_name=region,
            endpoint_url=endpoint,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": attempts},
                # botocore's own says more, and is put together anew for each call: a fifth of a call's CPU.
                user_agent=f"eksgateway Boto3/{boto3.__version__}",  # and boto3 adds botocore's
            ),
            # Each call is signed with the credentials of its thread: making a client looks for none.
            aws_access_key_id="unused",
            aws_secret_access_key="unused",  # noqa: S106
        )
        client.meta.events.register(f"before-call.{service}", self.signing.sign)
        _send(client.meta, service, wire)
        return client


def _send(owner: Any, service: str, wire: Wire) -> None:
    """Let a wire send what goes to a service. Clients have their session's handlers: each stands once."""
    owner.events.register(f"before-send.{service}", wire.send, unique_id=f"eksgateway-{service}")


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
        self._aws: _Aws | None = None
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
        """The target's clients, for calls that this thread makes for a caller, or for the gateway itself.

        Raises UpstreamCredentials.
        """
        pair = self.of(target)
        aws = self._loaded()
        keys = pair.role.keys(caller) if pair.role else aws.own.get()
        with aws.signing.by(keys):
            yield pair

    def of(self, target: Target) -> Pair:
        """The target's clients."""
        with self._lock:
            pair = self._pairs.get(target)
            if pair is None:
                pair = self._pairs[target] = self._make(self._targets[target])
            return pair

    def credentials_error(self, target: Target) -> UpstreamCredentials | None:
        """Why the gateway has no credentials for its own calls in a target, if it has none. Asks nobody."""
        own = self._own(target)
        if not own:
            return UpstreamCredentials(detail="credentials: they have not been looked for")
        return next((fault for each in own if (fault := each.fault) is not None), None)

    def is_due(self, target: Target) -> bool:
        """Whether the gateway's own credentials there are to be asked for now."""
        own = self._own(target)
        return not own or any(each.due for each in own)

    def renew(self, target: Target) -> None:
        """Ask for them, if they are due. Raises UpstreamCredentials."""
        with self.acting_for(None, target):
            pass

    def log_targets(self) -> None:
        """Log how each target is reached, and as whom as far as that is known."""
        for target, settings in self._targets.items():
            known = {"account": target.account_id, "region": target.region, "role": settings.role_arn}
            try:
                pair, own = self.of(target), self._loaded().own
                known["endpoint"] = pair.reads.meta.endpoint_url
                known |= {"credentials": own.identity, "session": pair.role.own.identity if pair.role else ""}
                known["fault"] = getattr(self.credentials_error(target), "detail", "")
            except Exception as exc:  # noqa: BLE001 - a call to that target will fail with it
                known["fault"] = type(exc).__name__
            log.info("eks.target", **{name: value for name, value in known.items() if value})

    def close(self) -> None:
        """Close every connection."""
        for pair in tuple(self._pairs.values()):
            pair.reads.close()
            pair.cancels.close()
            if pair.role is not None:
                pair.role.close()
        if self._aws is not None:
            self._aws.close()

    def _own(self, target: Target) -> list[Kept]:
        pair, aws = self._pairs.get(target), self._aws
        if pair is None or aws is None:
            return []
        return [aws.own, pair.role.own] if pair.role else [aws.own]

    def _loaded(self) -> _Aws:
        if self._aws is None:
            self._aws = _Aws(self._settings, self._gate, self._clock, self._session)
        return self._aws

    def _make(self, target: TargetSettings) -> Pair:
        aws = self._loaded()
        reads, cancels = aws.eks(target, aws.reading), aws.eks(target, aws.cancelling)
        role = Role(target, aws.sts(target), self._clock, aws.as_own) if target.role_arn else None
        return Pair(reads, cancels, role)
