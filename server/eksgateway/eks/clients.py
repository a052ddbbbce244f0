"""boto3 clients, which callers share: one for reads and one for cancels per target.

Making a client blocks: use a worker thread.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eksgateway.clock import Clock
from eksgateway.eks.credentials import CachedCredentials, Signing, describe_chain, fetch_from_chain
from eksgateway.eks.roles import Role
from eksgateway.eks.send_gate import SendGate
from eksgateway.errors import UpstreamCredentials
from eksgateway.logs import Log
from eksgateway.model import Caller, Target
from eksgateway.settings import EksSettings, TargetSettings

if TYPE_CHECKING:
    import boto3
    from botocore.session import Session as BotocoreSession
    from mypy_boto3_eks import EKSClient

    from eksgateway.eks.http_sender import HttpSender

log = Log(__name__)

_STS_ATTEMPTS: Final = 2
_COOL_DOWN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class TargetClients:
    reads: EKSClient
    cancels: EKSClient
    role: Role | None


class _ClientFactory:
    """Makes clients that share the gateway's own credentials, signing and sending."""

    def __init__(
        self, settings: EksSettings, gate: SendGate, clock: Clock, session: boto3.Session | None
    ) -> None:
        import boto3  # noqa: PLC0415 - takes 300 ms, here on a worker thread instead of at the start

        from eksgateway.eks.http_sender import HttpSender  # noqa: PLC0415 - likewise

        self._session = session or boto3.Session()
        core: BotocoreSession = self._session._session  # noqa: SLF001 - boto3 has no other way to its settings
        # As botocore would choose it. Chosen here, it can be named in an error of TLS.
        bundle = core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")

        def sender(read_timeout: float, before: Callable[[], None] = lambda: None) -> HttpSender:
            return HttpSender(settings.connect_timeout_s, read_timeout, settings.threads, bundle, before)

        self.signing = Signing()
        self.own = CachedCredentials(
            lambda: fetch_from_chain(core), clock, _COOL_DOWN_S, lambda: describe_chain(core)
        )
        self._read_sender = sender(settings.read_timeout_s)
        self._cancel_sender = sender(settings.cancel_read_timeout_s, gate.check)
        if session is None:  # the default chain makes clients of its own
            for service in ("signin", "sso", "sso-oidc", "sts"):
                _send_with(self._read_sender, self._session, service)

    def clients(self, target: TargetSettings, clock: Clock) -> TargetClients:
        # botocore retries nothing: the budget retries reads, and a second cancel after a lost answer would
        # report an accepted one as InvalidState.
        reads = self._client("eks", target.region, target.endpoint_url, 1, self._read_sender)
        cancels = self._client("eks", target.region, target.endpoint_url, 1, self._cancel_sender)
        if not target.role_arn:
            return TargetClients(reads, cancels, None)
        sts = self._client("sts", target.region, target.sts_endpoint_url, _STS_ATTEMPTS, self._read_sender)
        role = Role(target, sts, clock, lambda: self.signing.use(self.own.get()))
        return TargetClients(reads, cancels, role)

    def close(self) -> None:
        self._read_sender.close()
        self._cancel_sender.close()

    def _client(
        self, service: Any, region: str, endpoint: str | None, attempts: int, sender: HttpSender
    ) -> Any:
        import boto3  # noqa: PLC0415 - as above
        from botocore.config import Config  # noqa: PLC0415

        from eksgateway.eks.direct_calls import DirectCalls  # noqa: PLC0415

        client = self._session.client(
            service,
            region_name=region,
            endpoint_url=endpoint,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": attempts},
                # botocore builds its own user agent anew for each call, which takes a fifth of a call's CPU.
                user_agent=f"eksgateway Boto3/{boto3.__version__}",  # boto3 adds botocore's version
            ),
            # Without these, making a client fetches some. Calls are signed with their thread's.
            aws_access_key_id="unused",
            aws_secret_access_key="unused",  # noqa: S106
        )
        client.meta.events.register(f"before-call.{service}", self.signing.sign)
        if service == "eks":
            # Last, because its answer ends the event.
            client.meta.events.register_last("before-call", DirectCalls(sender).call)
        _send_with(sender, client.meta, service)
        return client


def _send_with(sender: HttpSender, owner: Any, service: str) -> None:
    # The id replaces the handler that a session passes on.
    owner.events.register(f"before-send.{service}", sender.send, unique_id=f"eksgateway-{service}")


class Clients:
    """The clients of each target, made on first use."""

    def __init__(
        self, settings: EksSettings, gate: SendGate, clock: Clock, session: boto3.Session | None
    ) -> None:
        self._settings = settings
        self._targets = {each.target: each for each in settings.targets}
        self._gate = gate
        self._clock = clock
        self._session = session
        self._factory: _ClientFactory | None = None
        self._made: dict[Target, TargetClients] = {}
        self._lock = threading.Lock()  # making clients of one session is not thread-safe
        # botocore's debug lines hold signed headers and session tokens.
        for name in ("boto3", "botocore", "urllib3"):
            logging.getLogger(name).setLevel(logging.INFO)
        # Its only warning holds the text of the exception of a failed renewal.
        logging.getLogger("botocore.credentials").setLevel(logging.ERROR)

    @contextmanager
    def acting_for(self, caller: Caller | None, target: Target) -> Iterator[TargetClients]:
        """The target's clients; in the block, this thread calls on behalf of a caller, or of the gateway.

        Raises UpstreamCredentials.
        """
        clients = self.of(target)
        factory = self._get_factory()
        keys = clients.role.keys(caller) if clients.role else factory.own.get()
        with factory.signing.use(keys):
            yield clients

    def of(self, target: Target) -> TargetClients:
        with self._lock:
            if target not in self._made:
                self._made[target] = self._get_factory().clients(self._targets[target], self._clock)
            return self._made[target]

    def credentials_error(self, target: Target) -> UpstreamCredentials | None:
        """Why the gateway has no credentials of its own in a target, if so. Does not fetch."""
        own = self._own(target)
        if not own:
            return UpstreamCredentials(detail="credentials: not fetched yet")
        return next((error for each in own if (error := each.error) is not None), None)

    def is_due(self, target: Target) -> bool:
        """Whether ``renew`` would fetch them now."""
        own = self._own(target)
        return not own or any(each.is_due for each in own)

    def renew(self, target: Target) -> None:
        """Fetch the gateway's own credentials in a target, if due. Raises UpstreamCredentials."""
        with self.acting_for(None, target):
            pass

    def log_targets(self) -> None:
        for target, settings in self._targets.items():
            known = {"account": target.account_id, "region": target.region, "role": settings.role_arn}
            try:
                clients, own = self.of(target), self._get_factory().own
                known["endpoint"] = clients.reads.meta.endpoint_url
                session = clients.role.own.identity if clients.role else ""
                known |= {"credentials": own.identity, "session": session}
                known["fault"] = getattr(self.credentials_error(target), "detail", "")
            except Exception as exc:  # noqa: BLE001 - a call to that target will fail with it
                known["fault"] = type(exc).__name__
            log.info("eks.target", **{name: value for name, value in known.items() if value})

    def close(self) -> None:
        for clients in tuple(self._made.values()):
            clients.reads.close()
            clients.cancels.close()
            if clients.role is not None:
                clients.role.close()
        if self._factory is not None:
            self._factory.close()

    def _own(self, target: Target) -> list[CachedCredentials]:
        clients, factory = self._made.get(target), self._factory
        if clients is None or factory is None:
            return []
        return [factory.own, clients.role.own] if clients.role else [factory.own]

    def _get_factory(self) -> _ClientFactory:
        if self._factory is None:
            self._factory = _ClientFactory(self._settings, self._gate, self._clock, self._session)
        return self._factory
