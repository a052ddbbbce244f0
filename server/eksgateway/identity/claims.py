"""Reads a token's claims into a Caller (RFC 7519 §4.1). Does not verify signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from eksgateway.errors import CredentialsExpired
from eksgateway.identity.claim_paths import find_claim
from eksgateway.identity.invalid_credentials import invalid_credentials
from eksgateway.identity.policy_claims import read_policy_claims
from eksgateway.model import Caller
from eksgateway.settings import ClaimName, IssuerSettings

# In characters. Kubernetes service accounts have up to 331, SPIFFE IDs up to 2048.
MAX_SUBJECT: Final = 1024
MAX_GROUP: Final = 255
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """The caller of a token.

    ``unusable_groups`` and ``unusable_claims`` count ignored values, those of claims by the policy's name.
    ``has_overage``: the issuer omitted the groups because there are too many.
    """

    caller: Caller
    valid_from: datetime
    unusable_groups: int = 0
    unusable_claims: tuple[tuple[str, int], ...] = ()
    has_overage: bool = False

    def is_valid_at(self, now: datetime) -> bool:
        expires_at = self.caller.expires_at
        return self.valid_from <= now and expires_at is not None and now < expires_at

    def check_time(self, now: datetime) -> None:
        """Raises CredentialsInvalid or CredentialsExpired."""
        if now < self.valid_from:
            raise invalid_credentials(
                "nbf", "The token is not valid yet: its `nbf` or `iat` is in the future."
            )
        if not self.is_valid_at(now):
            raise CredentialsExpired


def read_claims(payload: dict[str, Any], issuer: IssuerSettings, leeway: timedelta) -> TokenClaims:
    """Does not compare the times, which include the leeway, with the clock. Raises CredentialsInvalid."""
    _check_audience(payload.get("aud"), issuer.audiences)
    subject = _read_subject(find_claim(payload, issuer.subject_claim), issuer.subject_claim)
    expires = _read_time(payload, "exp")
    if expires is None:
        raise invalid_credentials("exp", "The token has no `exp`.")
    starts = [time for name in ("nbf", "iat") if (time := _read_time(payload, name)) is not None]
    claimed_groups = find_claim(payload, issuer.groups_claim)
    groups, unusable_groups = _read_groups(claimed_groups)
    policy_claims, unusable_claims = read_policy_claims(payload, issuer.claims)
    caller = Caller(
        type="jwt",
        id=f"jwt:{issuer.name}:{subject}",
        issuer=issuer.issuer,
        groups=tuple(f"{issuer.name}:{group}" for group in groups),
        expires_at=expires + leeway,
        claims=policy_claims,
    )
    has_overage = claimed_groups is None and _has_overage(payload, issuer.groups_claim)
    valid_from = max(starts) - leeway if starts else _EPOCH
    return TokenClaims(caller, valid_from, unusable_groups, unusable_claims, has_overage)


def _check_audience(value: Any, accepted: Sequence[str]) -> None:
    audiences = [value] if isinstance(value, str) else value
    if not isinstance(audiences, list) or not any(each in audiences for each in accepted):
        raise invalid_credentials("aud", "The token's audience is not this gateway.")


def _read_subject(value: Any, name: ClaimName) -> str:
    claim = name if isinstance(name, str) else ".".join(name)
    if value is None or value == "":
        raise invalid_credentials("sub", f"The token's `{claim}` is missing or empty.")
    if not isinstance(value, str):
        raise invalid_credentials("sub", f"The token's `{claim}` is not a string.")
    if len(value) > MAX_SUBJECT:
        raise invalid_credentials("sub", f"The token's `{claim}` is longer than {MAX_SUBJECT} characters.")
    if not value.isprintable():
        raise invalid_credentials("sub", f"The token's `{claim}` has a character that is not printable.")
    return value


def _read_groups(value: Any) -> tuple[list[str], int]:
    """The usable groups without duplicates, and the number of ignored ones, which only removes rights.

    Some issuers write one group as a string, and an empty list as null.
    """
    if value is None:
        return [], 0
    claimed = value if isinstance(value, list) else [value]
    groups = [group for group in claimed if _is_group(group)]
    return list(dict.fromkeys(groups)), len(claimed) - len(groups)


def _is_group(value: Any) -> bool:
    """Characters that reorder text in a log are not printable."""
    return isinstance(value, str) and 0 < len(value) <= MAX_GROUP and value.isprintable()


def _has_overage(payload: Mapping[str, Any], name: ClaimName) -> bool:
    """Over 200 groups Entra ID sends a link to them instead (learn.microsoft.com/entra/identity-platform/
    id-token-claims-reference, "Groups overage claim").
    """
    links = payload.get("_claim_names")
    claim = name if isinstance(name, str) else name[0]
    if claim == "groups" and payload.get("hasgroups") in (True, "true"):
        return True
    return isinstance(links, dict) and claim in links


def _read_time(payload: dict[str, Any], name: str) -> datetime | None:
    """A NumericDate (RFC 7519 §2)."""
    if name not in payload:
        return None
    value = payload[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
        raise invalid_credentials(name, f"The token's `{name}` is not a time.")
    return datetime.fromtimestamp(value, UTC)
