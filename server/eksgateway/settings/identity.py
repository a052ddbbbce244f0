"""Issuers of JWTs, and how their tokens are verified."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationInfo,
    model_validator,
)

from eksgateway.addresses import is_loopback
from eksgateway.settings.section import FilePath, Section, resolve_path

ALGORITHMS = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]

# Without anchors, as the check of policy data uses them too.
ISSUER_NAME_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,31}"
CLAIM_NAME_PATTERN: Final = r"[A-Za-z][A-Za-z0-9_-]{0,63}"  # in the policy

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

_Text: TypeAlias = Annotated[str, Field(min_length=1)]
_TextOrList: TypeAlias = Annotated[
    Annotated[_Text, Tag("(text)")] | Annotated[tuple[_Text, ...], Field(min_length=1), Tag("(list)")],
    Discriminator(lambda value: "(list)" if isinstance(value, list | tuple) else "(text)"),
]
# A claim's name, or the names of the objects on the path to it; see ``identity.claims``.
ClaimName: TypeAlias = _TextOrList
# The name of a claim in the policy, under which grants ask for it.
_PolicyName: TypeAlias = Annotated[str, Field(pattern=f"^{CLAIM_NAME_PATTERN}$")]


def _check_key_source(value: str, info: ValidationInfo) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("remove the blanks and control characters around or in it")
    if not _SCHEME.match(value):
        return str(resolve_path(Path(value), info))
    url = urlsplit(value)
    if url.scheme not in {"http", "https"}:
        raise ValueError(
            f"nothing can be fetched by {url.scheme!r}: write an https URL, or the path of a file (with ./"
            " before it if it has a colon)"
        )
    if " " in value or url.username is not None or not url.hostname:
        raise ValueError("write the URL with a host and without a user or blanks")
    if url.port == 0:  # raises ValueError for a port that is not a number
        raise ValueError("write the URL with a port between 1 and 65535, or without one")
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise ValueError("plain http is accepted on loopback only: use an https URL or a file")
    return value


class IssuerSettings(Section):
    """``name`` is the prefix of its callers and groups.

    ``jwks`` is an https URL, an http URL on loopback, or the path of a file. For a URL, ``jwks_ca_file``
    holds the CAs to trust and ``jwks_token_file`` the bearer token to send. ``claims`` are given to the
    policy: its name for each, and the claim's name or path.
    """

    name: Annotated[str, Field(pattern=f"^{ISSUER_NAME_PATTERN}$")]
    issuer: _Text
    audience: _TextOrList
    jwks: Annotated[_Text, AfterValidator(_check_key_source)]
    jwks_ca_file: FilePath | None = None
    jwks_token_file: FilePath | None = None
    algorithms: Annotated[tuple[ALGORITHMS, ...], Field(min_length=1)] = ("RS256", "ES256")
    subject_claim: ClaimName = "sub"
    groups_claim: ClaimName = "groups"
    claims: Annotated[dict[_PolicyName, ClaimName], Field(max_length=20)] = Field(default_factory=dict)

    @property
    def jwks_is_url(self) -> bool:
        return _SCHEME.match(self.jwks) is not None

    @property
    def audiences(self) -> tuple[str, ...]:
        return (self.audience,) if isinstance(self.audience, str) else self.audience

    @model_validator(mode="after")
    def _check_url_files(self) -> Self:
        if self.jwks_ca_file is not None and not self.jwks.lower().startswith("https:"):
            raise ValueError("`jwks_ca_file` is for an https URL: remove it, or write `jwks` as one")
        if self.jwks_token_file is not None and not self.jwks_is_url:
            raise ValueError("`jwks_token_file` is sent to a URL: remove it, or write `jwks` as one")
        return self


class JwtSettings(Section):
    issuers: Annotated[tuple[IssuerSettings, ...], Field(min_length=1)]
    leeway_s: Annotated[float, Field(ge=0, le=60)] = 60
    jwks_max_age_s: PositiveFloat = 3600
    jwks_cooldown_s: PositiveFloat = 30
    jwks_timeout_s: PositiveFloat = 5
    verified_tokens: PositiveInt = 10_000  # size of the cache

    @model_validator(mode="after")
    def _check_distinct(self) -> Self:
        for attribute in ("name", "issuer"):
            values = [getattr(issuer, attribute) for issuer in self.issuers]
            if len(set(values)) != len(values):
                raise ValueError(f"two issuers have the same {attribute}: each needs its own")
        return self


class IdentitySettings(Section):
    """Certificate identity is set per listener."""

    jwt: JwtSettings | None = None
