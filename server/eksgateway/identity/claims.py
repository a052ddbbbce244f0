"""From verified claims to a Caller: RFC 7519 §4.1, read strictly. Signatures are not its business."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from eksgateway.errors import CredentialsExpired
from eksgateway.identity.refusal import invalid
from eksgateway.model import Caller
from eksgateway.settings import IssuerSettings

MAX_NAME = 255  # characters in a subject or a group
_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Standing:
    """A caller and from when the token speaks for it; until when is ``caller.expires_at``."""

    caller: Caller
    valid_from: datetime

    def stands(self, now: datetime) -> bool:
        """Whether the token speaks for the caller at this moment."""
        expires_at = self.caller.expires_at
        return self.valid_from <= now and expires_at is not None and now < expires_at

    def check(self, now: datetime) -> None:
        """Raise unless the token speaks for the caller at this moment."""
        if now < self.valid_from:
            raise invalid("nbf", "The token is not valid yet: its `nbf` or `iat` is in the future.")
        if self.caller.expires_at is None or now >= self.caller.expires_at:
            raise CredentialsExpired


def standing(claims: dict[str, Any], issuer: IssuerSettings, leeway: timedelta) -> Standing:
    """Whom these claims speak for, and when.

    Leeway is part of both ends, so that whoever compares ``expires_at`` later (a stream that is
    authorised again) agrees with the check made here.
    """
    _check_audience(claims.get("aud"), issuer.audience)
    subject = claims.get(issuer.subject_claim)
    if not _is_name(subject):
        raise invalid("sub", f"The token's `{issuer.subject_claim}` is missing or not usable as a name.")
    expires = _time(claims, "exp")
    if expires is None:
        raise invalid("exp", "The token has no `exp`.")
    starts = [time for name in ("nbf", "iat") if (time := _time(claims, name)) is not None]
    caller = Caller(
        type="jwt",
        id=f"jwt:{issuer.name}:{subject}",
        issuer=issuer.issuer,
        groups=tuple(f"{issuer.name}:{group}" for group in _groups(claims.get(issuer.groups_claim))),
        expires_at=expires + leeway,
    )
    return Standing(caller, max(starts) - leeway if starts else _EPOCH)


def _check_audience(value: Any, wanted: str) -> None:
    audiences = [value] if isinstance(value, str) else value
    if not isinstance(audiences, list) or wanted not in audiences:
        raise invalid("aud", "The token's audience is not this gateway.")


def _groups(value: Any) -> list[str]:
    """A list of strings or one string; null is how some issuers write an empty list."""
    if value is None:
        return []
    groups = [value] if isinstance(value, str) else value
    if not isinstance(groups, list) or not all(_is_name(group) for group in groups):
        raise invalid("groups", "The token's groups are not a list of names.")
    return list(dict.fromkeys(groups))


def _is_name(value: Any) -> bool:
    """Printable rules out control characters, lone surrogates and marks that reorder text in a log."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _time(claims: dict[str, Any], name: str) -> datetime | None:
    """A NumericDate (RFC 7519 §2), or None when the claim is absent."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
        raise invalid(name, f"The token's `{name}` is not a time.")
    return datetime.fromtimestamp(value, UTC)
