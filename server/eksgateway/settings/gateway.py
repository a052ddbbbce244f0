"""Everything that `eksgateway serve` needs, and the sections that are plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from eksgateway.settings.eks import EksSettings
from eksgateway.settings.http import HttpSettings
from eksgateway.settings.identity import IdentitySettings
from eksgateway.settings.listener import ListenerSettings
from eksgateway.settings.policy import PolicySettings
from eksgateway.settings.postgres_url import SCHEMA_NAME, PostgresLocation, PostgresUrl
from eksgateway.settings.section import Address, FilePath, Section, is_local


class LedgerSettings(Section):
    """``path`` is a file of SQLite's, and ``url`` a database of PostgreSQL's, which several gateways share.

    ``listen_url`` reaches PostgreSQL itself where ``url`` reaches a pooler.
    """

    path: FilePath | None = None
    url: Annotated[PostgresUrl | None, Field(repr=False)] = None
    listen_url: Annotated[PostgresUrl | None, Field(repr=False)] = None
    # ``schema`` is a name of pydantic's.
    schema_name: Annotated[str, Field(alias="schema", pattern=SCHEMA_NAME)] = "eksgateway"
    connections: Annotated[int, Field(ge=5)] = 8  # writer 1, looks 2, listener 1; the rest are readers
    commit_timeout_s: PositiveFloat = 3
    queue: PositiveInt = 1000  # writes waiting; more fail at once with LEDGER_UNAVAILABLE
    denials: PositiveInt = 10_000  # denied cancels waiting to be written
    keep_denials: PositiveInt = 100_000  # the oldest are deleted, and their number is recorded

    @property
    def location(self) -> Path | PostgresLocation:
        """Printable: without a password."""
        if self.url is not None:
            return PostgresLocation(self.url, self.schema_name)
        assert self.path is not None  # noqa: S101 - _check_database
        return self.path

    @model_validator(mode="after")
    def _check_database(self) -> Self:
        if self.path is not None and self.url is not None:
            raise ValueError(
                "`path` and `url` are both set: keep `path` for one gateway on SQLite, or `url` for several"
                " on PostgreSQL (`eksgateway ledger copy` moves the records)"
            )
        if self.path is None and self.url is None:
            raise ValueError(
                "set `path` to the path of an SQLite file, or `url` to postgresql://user@host/database"
            )
        fields = type(self).model_fields
        for name in ("listen_url", "schema_name", "connections"):
            if self.url is None and getattr(self, name) != fields[name].default:
                raise ValueError(f"`{fields[name].alias or name}` is for `url`: set `url`, or remove it")
        return self


class WatchSettings(Section):
    poll_s: PositiveFloat = 5
    poll_min_s: PositiveFloat = 1  # just after a cancel or a change
    poll_max_s: PositiveFloat = 25  # when nothing has changed for an hour
    follow_s: PositiveFloat = 30  # a pending cancellation without a watcher
    heartbeat_s: PositiveFloat = 15
    facts_max_age_s: PositiveFloat = 30
    missing_after_s: PositiveFloat = 600
    write_timeout_s: PositiveFloat = 30


class LimitSettings(Section):
    """``credentials_bytes`` bounds the value of `authorization`, ``metadata_bytes`` all other metadata."""

    call_timeout_s: PositiveFloat = 30
    message_timeout_s: PositiveFloat = 10  # from a call's start to its message
    drain_s: PositiveFloat = 25
    calls: PositiveInt = 1000
    calls_per_caller: PositiveInt = 100
    watches: PositiveInt = 10_000
    watches_per_caller: PositiveInt = 1000
    open_streams: PositiveInt = 1000  # health watches and reflection, beside the one of each connection
    open_streams_per_connection: PositiveInt = 50
    connections: PositiveInt = 10_000  # to each listener; fewer when descriptors are short
    connection_idle_s: PositiveFloat = 300  # a connection without a call for this long is closed
    keepalive_s: PositiveFloat = 40  # a client that is silent for this long is pinged
    keepalive_timeout_s: PositiveFloat = 20  # without an answer for this long its connection is closed
    client_ping_s: PositiveFloat = 10  # clients may ping this often, with and without calls
    message_bytes: PositiveInt = 65_536
    credentials_bytes: PositiveInt = 32_768
    metadata_bytes: PositiveInt = 8_192


class MetricsSettings(Section):
    """Prometheus scrapes in plain HTTP and without credentials. Off without ``listen``."""

    listen: Address | None = None
    open_to_network: bool = False

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if self.listen is not None and not self.open_to_network and not is_local(self.listen):
            raise ValueError(
                f"`listen: {self.listen}` is not loopback, and any client that reaches it may read the"
                " metrics: listen on 127.0.0.1, or set `open_to_network: true` if that is intended"
            )
        return self


class Settings(Section):
    listeners: Annotated[tuple[ListenerSettings, ...], Field(min_length=1)] = (ListenerSettings(),)
    reflection: Literal["off", "authenticated", "open"] = "off"
    identity: IdentitySettings = IdentitySettings()
    policy: PolicySettings
    ledger: LedgerSettings
    eks: EksSettings
    watch: WatchSettings = WatchSettings()
    limits: LimitSettings = LimitSettings()
    metrics: MetricsSettings = MetricsSettings()
    http: HttpSettings = HttpSettings()

    @field_validator("reflection", mode="before")
    @classmethod
    def _accept_off(cls, value: Any) -> Any:
        """YAML reads ``off`` as false."""
        return "off" if value is False else value

    @model_validator(mode="after")
    def _check_identity(self) -> Self:
        if self.identity.jwt is None and any(each.requires_token for each in self.listeners):
            raise ValueError(
                "no identity source is configured: set `identity.jwt.issuers` (name, issuer, audience,"
                " jwks), or let every listener demand `mtls`"
            )
        return self

    @model_validator(mode="after")
    def _check_http(self) -> Self:
        """Refuse an edge that would let callers in without the certificate that they need elsewhere."""
        if self.http.listen is None or not any(each.requires_certificate for each in self.listeners):
            return self
        by_token = [each.address for each in self.listeners if not each.requires_certificate]
        if not by_token or (not is_local(self.http.listen) and all(map(is_local, by_token))):
            reached = "" if not by_token else f" from where `http.listen: {self.http.listen}` is reached"
            raise ValueError(
                f"`http` takes callers with a token alone, and every listener{reached} demands a certificate:"
                " remove `http.listen`, or add a listener with `demand: jwt` there if a token is enough"
            )
        return self
