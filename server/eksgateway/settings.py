"""The gateway's settings: frozen, checked before anything starts, read from one YAML file.

The only reader of settings files. AWS credentials are not settings: boto3's default chain finds them.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from eksgateway.addresses import is_loopback, split_address
from eksgateway.errors import StartError
from eksgateway.model import ACCOUNT_ID_PATTERN, REGION_PATTERN, Target
from eksgateway.revocation import MAX_POLL_AND_TIMEOUT_S, MAX_TIMEOUT_S, REVOKED_WITHIN_S
from eksgateway.strict_yaml import YamlDocument, YamlPath


class SettingsError(StartError):
    """Settings that cannot be used; the text says what is wrong and how to set it."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        """A boolean is no number, though Python takes it for 0 or 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError("must be a number, and YAML reads on, off, yes and no as a boolean")
        return value


def _resolve(value: Path, info: ValidationInfo) -> Path:
    """Relative paths are relative to the settings file."""
    base: Path = (info.context or {}).get("base", Path.cwd())
    return value if value.is_absolute() else base / value


_HOST_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]*")
_SCHEMES = {"unix", "unix-abstract", "vsock"}  # grpc reads `unix:1` as a path


def _check_address(value: str) -> str:
    with suppress(ValueError):
        host, _ = split_address(value)
        if ":" in host or (_HOST_NAME.fullmatch(host) and host.lower() not in _SCHEMES):
            return value
    raise ValueError(
        "write it as host:port, for example 127.0.0.1:50051 or [::1]:50051; the host is an IP address or a"
        " host name"
    )


def _is_local(address: str) -> bool:
    return is_loopback(split_address(address)[0])


class TlsSettings(_Section):
    """The server's certificate, and the CA bundle that client certificates must come from: PEM files."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @field_validator("certificate", "key", "client_ca")
    @classmethod
    def _paths(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return None if value is None else _resolve(value, info)


class ListenerSettings(_Section):
    """One address, and what a call that comes in there must prove itself with.

    ``trust_domain`` is the SPIFFE trust domain of ``tls.client_ca``. A listener has one, so that no
    domain's CA can mint another domain's callers.
    """

    address: str = "127.0.0.1:50051"
    demand: Literal["jwt", "mtls", "both"] = "jwt"
    tls: TlsSettings | None = None
    trust_domain: Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,255}$")] | None = None
    mesh_terminates_tls: bool = False

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        return _check_address(value)

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if self.tls is None and not self.mesh_terminates_tls and not _is_local(self.address):
            raise ValueError(
                f"`address: {self.address}` is not loopback and there is no TLS: set `tls.certificate`"
                " and `tls.key`, or listen on 127.0.0.1, or say `mesh_terminates_tls: true` if a"
                " service mesh terminates TLS in front of this process"
            )
        return self

    @model_validator(mode="after")
    def _certified(self) -> Self:
        ca = self.tls.client_ca if self.tls else None
        if self.demand == "jwt" and (ca or self.trust_domain):
            raise ValueError(
                "`demand: jwt` asks for no certificate: remove `tls.client_ca` and `trust_domain`, or"
                " demand `mtls` or `both` (certificates cannot be asked for without being required)"
            )
        if self.demand != "jwt" and not (ca and self.trust_domain):
            raise ValueError(
                f"`demand: {self.demand}` needs `tls.certificate`, `tls.key`, `tls.client_ca` and"
                " `trust_domain`: clients prove themselves to this process, and to no mesh before it"
            )
        return self


ALGORITHMS = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


_Text: TypeAlias = Annotated[str, Field(min_length=1)]
_TEXT, _LIST = "(text)", "(list)"  # pydantic puts them into the place of a fault
_TextOrList: TypeAlias = Annotated[
    Annotated[_Text, Tag(_TEXT)] | Annotated[tuple[_Text, ...], Field(min_length=1), Tag(_LIST)],
    Discriminator(lambda value: _LIST if isinstance(value, list | tuple) else _TEXT),
]
# A claim by its name, or by the names of objects on the way to it; see ``identity.claims.find_claim``.
ClaimName: TypeAlias = _TextOrList
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def _key_source(value: str, info: ValidationInfo) -> str:
    """An https URL, an http one on loopback, or a file's path, made absolute."""
    if not value.isprintable() or value != value.strip():
        raise ValueError("remove the blanks and control characters around or in it")
    if not _SCHEME.match(value):
        return str(_resolve(Path(value), info))
    url = urlsplit(value)
    if url.scheme not in {"http", "https"}:
        raise ValueError(
            f"nothing can be fetched by {url.scheme!r}: write an https URL, or the path of a file (with ./"
            " before it if it has a colon)"
        )
    if " " in value or url.username is not None or not url.hostname:
        raise ValueError("write the URL with a host and without a user or blanks")
    if url.port == 0:  # raises ValueError for what is no port at all
        raise ValueError("write the URL with a port between 1 and 65535, or without one")
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise ValueError("plain http is taken for loopback only: use an https URL or a file")
    return value


class IssuerSettings(_Section):
    """One issuer of JWTs. ``name`` is the short name that prefixes its callers and groups. ``jwks`` is an
    https URL, an http one on loopback, or a file's path; ``jwks_ca_file`` and ``jwks_token_file`` are what
    that URL's server is trusted by, and what it is sent as a bearer token.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    issuer: Annotated[str, Field(min_length=1)]
    audience: _TextOrList
    jwks: Annotated[str, Field(min_length=1)]
    jwks_ca_file: Path | None = None
    jwks_token_file: Path | None = None
    algorithms: Annotated[tuple[ALGORITHMS, ...], Field(min_length=1)] = ("RS256", "ES256")
    subject_claim: ClaimName = "sub"
    groups_claim: ClaimName = "groups"

    @property
    def jwks_is_url(self) -> bool:
        return _SCHEME.match(self.jwks) is not None

    @property
    def audiences(self) -> tuple[str, ...]:
        return (self.audience,) if isinstance(self.audience, str) else self.audience

    @field_validator("jwks")
    @classmethod
    def _jwks(cls, value: str, info: ValidationInfo) -> str:
        return _key_source(value, info)

    @field_validator("jwks_ca_file", "jwks_token_file")
    @classmethod
    def _paths(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return None if value is None else _resolve(value, info)

    @model_validator(mode="after")
    def _fetched(self) -> Self:
        if self.jwks_ca_file is not None and not self.jwks.lower().startswith("https:"):
            raise ValueError("`jwks_ca_file` is for an https URL: remove it, or write `jwks` as one")
        if self.jwks_token_file is not None and not self.jwks_is_url:
            raise ValueError("`jwks_token_file` is sent to a URL: remove it, or write `jwks` as one")
        return self


class JwtSettings(_Section):
    """How JWTs are checked. Times are in seconds."""

    issuers: Annotated[tuple[IssuerSettings, ...], Field(min_length=1)]
    leeway_s: Annotated[float, Field(ge=0, le=60)] = 60
    jwks_max_age_s: PositiveFloat = 3600
    jwks_cooldown_s: PositiveFloat = 30
    jwks_timeout_s: PositiveFloat = 5
    verified_tokens: PositiveInt = 10_000  # how many verified tokens are remembered

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for attribute in ("name", "issuer"):
            values = [getattr(issuer, attribute) for issuer in self.issuers]
            if len(set(values)) != len(values):
                raise ValueError(f"two issuers have the same {attribute}: each needs its own")
        return self


class IdentitySettings(_Section):
    """Who may be known by a token; who by a certificate is each listener's own."""

    jwt: JwtSettings | None = None


class OpaSettings(_Section):
    """An OPA server. ``bundle`` names the bundle it must have loaded, if any."""

    url: Annotated[str, Field(pattern=r"^https?://[^/]+$")]
    bundle: str = ""
    poll_s: PositiveFloat = 1  # between two times that it is asked what is in force


class PolicySettings(_Section):
    """Which engine decides; for ``wasm`` the operators' data (YAML or JSON), and their own compiled
    policy in the place of the package's.
    """

    engine: Literal["wasm", "opa"] = "wasm"
    data: Path | None = None
    module: Path | None = None
    opa: OpaSettings | None = None
    timeout_s: PositiveFloat = 2

    @field_validator("data", "module")
    @classmethod
    def _path(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return None if value is None else _resolve(value, info)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.engine == "wasm" and self.opa is not None:
            raise ValueError(
                "`opa` is for the engine opa, and the engine is wasm: remove `opa`, or set `engine: opa`"
            )
        if self.engine == "wasm" and self.data is None:
            raise ValueError("the engine wasm needs `data`, the path of the grants file")
        if self.engine == "opa" and self.opa is None:
            raise ValueError("the engine opa needs `opa.url`, the OPA server's address")
        for name in ("data", "module"):
            if self.engine == "opa" and getattr(self, name) is not None:
                raise ValueError(
                    f"`{name}` is for the engine wasm, and the engine is opa, which would ignore it: an OPA"
                    f" server gets policy and data by itself, from its bundle. Remove `{name}`, or set"
                    " `engine: wasm`"
                )
        return self

    @model_validator(mode="after")
    def _prompt(self) -> Self:
        """Bound the time that a slow OPA takes to end a watch, as ``revocation`` derives it."""
        if self.engine == "wasm" or self.opa is None:
            return self
        timeout_s, poll_s = self.timeout_s, self.opa.poll_s
        if timeout_s <= MAX_TIMEOUT_S and timeout_s + poll_s <= MAX_POLL_AND_TIMEOUT_S:
            return self
        raise ValueError(
            f"with `timeout_s: {timeout_s:g}` and `opa.poll_s: {poll_s:g}` a watch that is no"
            f" longer allowed could go on for more than {REVOKED_WITHIN_S:g} s: set `timeout_s` to"
            f" {MAX_TIMEOUT_S:g} at most, and `opa.poll_s` so that both together are"
            f" {MAX_POLL_AND_TIMEOUT_S:g} at most"
        )


class LedgerSettings(_Section):
    """Where intents and outcomes are kept."""

    path: Path
    commit_timeout_s: PositiveFloat = 3
    queue: PositiveInt = 1000  # writes waiting; past that LEDGER_UNAVAILABLE at once
    denials: PositiveInt = 10_000  # denied cancels waiting to be written
    keep_denials: PositiveInt = 100_000  # the oldest go; how many went is written down

    @field_validator("path")
    @classmethod
    def _path(cls, value: Path, info: ValidationInfo) -> Path:
        return _resolve(value, info)


_ROLE_ARN = re.compile(rf"arn:aws[a-z-]*:iam::(?P<account>{ACCOUNT_ID_PATTERN}):role/[\w+=,.@/-]+", re.ASCII)


class TargetSettings(_Section):
    """An account and region, and how to come there: with ``role_arn`` through a role, else with the
    gateway's own credentials. The endpoints are for private ones and for a simulated EKS.
    """

    account_id: Annotated[str, Field(pattern=f"^{ACCOUNT_ID_PATTERN}$")]
    region: Annotated[str, Field(pattern=f"^{REGION_PATTERN}$")]
    role_arn: str | None = None
    external_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@:/-]{2,1224}$")] | None = None
    endpoint_url: str | None = None
    sts_endpoint_url: str | None = None

    @property
    def target(self) -> Target:
        return Target(self.account_id, self.region)

    @field_validator("endpoint_url", "sts_endpoint_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        url = urlsplit(value or "https://default")
        if url.scheme not in {"http", "https"} or url.hostname is None:
            raise ValueError("write it as an http or https URL with a host")
        return value

    @model_validator(mode="after")
    def _role(self) -> Self:
        if self.role_arn is None:
            for name in ("external_id", "sts_endpoint_url"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` is for assuming a role: set `role_arn` too, or remove it")
            return self
        match = _ROLE_ARN.fullmatch(self.role_arn)
        if match is None:
            raise ValueError("`role_arn` is no role's ARN, such as arn:aws:iam::111122223333:role/eksgateway")
        if match["account"] != self.account_id:
            raise ValueError(
                f"`role_arn` is in account {match['account']}, and `account_id` is {self.account_id}:"
                " a role reaches the clusters of its own account only"
            )
        return self


class EksSettings(_Section):
    """Where the clusters are, and how boto3 talks to EKS. The first target is the home target."""

    targets: Annotated[tuple[TargetSettings, ...], Field(min_length=1)]
    connect_timeout_s: PositiveFloat = 2
    read_timeout_s: PositiveFloat = 5  # for a whole answer, from the request to its last byte
    cancel_read_timeout_s: PositiveFloat = 20
    calls_per_s: PositiveFloat = 5  # to each target
    threads: PositiveInt = 16
    waiting: PositiveInt = 64
    decision_max_age_s: PositiveFloat = 10

    @property
    def home(self) -> Target:
        return self.targets[0].target

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        seen: set[Target] = set()
        for each in self.targets:
            if each.target in seen:
                raise ValueError(f"`targets` names {each.account_id} in {each.region} twice")
            seen.add(each.target)
        own = {each.account_id for each in self.targets if each.role_arn is None}
        if len(own) > 1:
            raise ValueError(
                f"`targets` has no `role_arn` in the accounts {', '.join(sorted(own))}: the gateway's own"
                " credentials belong to one account, so set it for the others"
            )
        return self


class WatchSettings(_Section):
    """How updates are polled and watched. Times are in seconds."""

    poll_s: PositiveFloat = 5
    poll_min_s: PositiveFloat = 1  # just after a cancel or a change
    poll_max_s: PositiveFloat = 25  # when nothing has changed for an hour
    follow_s: PositiveFloat = 30  # a pending cancellation that nobody watches
    heartbeat_s: PositiveFloat = 15
    facts_max_age_s: PositiveFloat = 30
    missing_after_s: PositiveFloat = 600
    write_timeout_s: PositiveFloat = 30


class LimitSettings(_Section):
    """What one caller, and all together, may hold at once; sizes are in bytes. ``credentials_bytes`` bounds
    the value of `authorization`, and ``metadata_bytes`` all other metadata.
    """

    call_timeout_s: PositiveFloat = 30
    message_timeout_s: PositiveFloat = 10  # from a call's start to its message
    drain_s: PositiveFloat = 25
    calls: PositiveInt = 1000
    calls_per_caller: PositiveInt = 100
    watches: PositiveInt = 10_000
    watches_per_caller: PositiveInt = 1000
    open_streams: PositiveInt = 1000  # health watches and reflection, beside the one of each connection
    open_streams_per_connection: PositiveInt = 50
    connections: PositiveInt = 10_000  # to each listener, and never more than the descriptors leave room for
    connection_idle_s: PositiveFloat = 300  # a connection without a call for this long is ended
    keepalive_s: PositiveFloat = 40  # a client that was silent for this long is pinged, and its
    keepalive_timeout_s: PositiveFloat = 20  # connection ends when it does not answer for this long
    client_ping_s: PositiveFloat = 10  # clients may ping this often, with and without calls
    message_bytes: PositiveInt = 65_536
    credentials_bytes: PositiveInt = 32_768
    metadata_bytes: PositiveInt = 8_192


class MetricsSettings(_Section):
    """Where Prometheus scrapes, in plain HTTP and without credentials; nowhere without ``listen``."""

    listen: str | None = None
    open_to_network: bool = False

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str | None) -> str | None:
        return None if value is None else _check_address(value)

    @model_validator(mode="after")
    def _private(self) -> Self:
        if self.listen is not None and not self.open_to_network and not _is_local(self.listen):
            raise ValueError(
                f"`listen: {self.listen}` is not loopback, and whoever reaches it may read the metrics:"
                " listen on 127.0.0.1, or say `open_to_network: true` if that is meant"
            )
        return self


class Settings(_Section):
    """Everything `eksgateway serve` needs."""

    listeners: Annotated[tuple[ListenerSettings, ...], Field(min_length=1)] = (ListenerSettings(),)
    reflection: Literal["off", "authenticated", "open"] = "off"
    identity: IdentitySettings = IdentitySettings()
    policy: PolicySettings
    ledger: LedgerSettings
    eks: EksSettings
    watch: WatchSettings = WatchSettings()
    limits: LimitSettings = LimitSettings()
    metrics: MetricsSettings = MetricsSettings()

    @field_validator("reflection", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        """YAML takes ``off`` for false."""
        return "off" if value is False else value

    @model_validator(mode="after")
    def _identified(self) -> Self:
        if self.identity.jwt is None and any(listener.demand != "mtls" for listener in self.listeners):
            raise ValueError(
                "no identity source is configured: set `identity.jwt.issuers` (name, issuer, audience,"
                " jwks), or let every listener demand `mtls`"
            )
        return self


def load(path: Path) -> Settings:
    """The settings in a YAML file. Raises SettingsError, with every fault and its place."""
    try:
        document = YamlDocument(path.read_text(encoding="utf-8"))
        odd = dict(document.odd_numbers())
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path}: is not YAML: {exc}") from exc
    except RecursionError as exc:  # an alias inside its own anchor
        raise SettingsError(f"{path}: is nested without end") from exc
    if not isinstance(document.value, dict):
        raise SettingsError(f"{path}: must be a mapping of settings; see config.example.yaml")
    faults: dict[YamlPath, str] = {}
    settings = None
    try:
        settings = Settings.model_validate(document.value, context={"base": path.resolve().parent})
    except ValidationError as exc:
        faults = _explain(exc, document)
    faults = odd | faults
    if settings is None or faults:
        lines = (f"  - {'.'.join(map(str, place)) or 'settings'}: {fault}" for place, fault in faults.items())
        raise SettingsError("\n".join([f"{path}:", *lines]))
    return settings


_HINTS = {
    "policy": "no policy is configured: set `policy.data` to the path of the grants file",
    "ledger": "no ledger is configured: set `ledger.path` to the path of its SQLite file",
    "eks": "no target is configured: set `eks.targets` (account_id, region)",
}


_FAULTS = {
    "extra_forbidden": "unknown setting: remove it or correct its spelling",
    "too_short": "name at least one",
    "tuple_type": "must be a list: write one, or remove this setting; see config.example.yaml",
    "model_type": "must be a mapping: write one, or remove this setting; see config.example.yaml",
}


def _explain(exc: ValidationError, document: YamlDocument) -> dict[YamlPath, str]:
    """Each fault by its place."""
    errors: list[Any] = [
        error | {"loc": tuple(part for part in error["loc"] if part not in {_TEXT, _LIST})}
        for error in exc.errors()
    ]
    return {
        error["loc"]: _fault(error, document)
        for error in errors
        # pydantic does not count what is at fault itself
        if error["type"] != "too_short" or not any(_within(other["loc"], error["loc"]) for other in errors)
    }


def _within(inner: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


_FORMS = {
    "account_id": 'write the 12 digits in quotes, leading zeros too, for example "011122223333"',
    "external_id": "write 2 to 1,224 letters, digits or characters of _+=,.@:/-",
    "name": "write up to 32 lower-case letters, digits and hyphens, for example corp",
    "region": "write a region of AWS, for example us-east-1",
    "trust_domain": "write a SPIFFE trust domain without spiffe://, for example corp.example",
    "url": "write scheme, host and port alone, for example http://127.0.0.1:8181",
}


def _fault(error: Any, document: YamlDocument) -> str:
    place = error["loc"]
    match error["type"]:
        case "missing":
            return _HINTS.get(".".join(map(str, place)), "is missing: set it")
        case "string_type" | "path_type" if hint := document.hint(place):
            return hint
        case "string_pattern_mismatch" if place[-1] in _FORMS:
            return _FORMS[place[-1]]
        case kind:
            return _FAULTS.get(kind, str(error["msg"]).removeprefix("Value error, "))
