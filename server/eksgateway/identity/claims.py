"""From verified claims to a Caller: RFC 7519 §4.1, read strictly. Signatures are not its business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from eksgateway.errors import CredentialsExpired
from eksgateway.identity.refusal import invalid
from eksgateway.model import Caller
from eksgateway.settings import ClaimName, IssuerSettings

# In characters. A service account of Kubernetes has up to 331; a caller's id has up to 2048, as SPIFFE's.
MAX_SUBJECT: Final = 1024
MAX_GROUP: Final = 255
_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Standing:
    """A caller and from when the token speaks for it; until when is ``caller.expires_at``.

    ``dropped`` counts the token's groups that cannot be used. ``overage`` means that the issuer left the
    groups out, because there are too many.
    """

    caller: Caller
    valid_from: datetime
    dropped: int = 0
    overage: bool = False

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
    """The caller that these claims speak for, and when.

    Leeway is part of both ends, so that a later comparison with ``expires_at`` (a stream that is
    authorised again) agrees with the check made here.
    """
    _check_audience(claims.get("aud"), issuer.audiences)
    subject = _subject(find(claims, issuer.subject_claim), issuer.subject_claim)
    expires = _time(claims, "exp")
    if expires is None:
        raise invalid("exp", "The token has no `exp`.")
    starts = [time for name in ("nbf", "iat") if (time := _time(claims, name)) is not None]
    named = find(claims, issuer.groups_claim)
    groups, dropped = _groups(named)
    caller = Caller(
        type="jwt",
        id=f"jwt:{issuer.name}:{subject}",
        issuer=issuer.issuer,
        groups=tuple(f"{issuer.name}:{group}" for group in groups),
        expires_at=expires + leeway,
    )
    overage = named is None and _left_out(claims, issuer.groups_claim)
    return Standing(caller, max(starts) - leeway if starts else _EPOCH, dropped, overage)


def find(claims: Mapping[str, Any], name: ClaimName) -> Any:
    """The value of a claim, or None. A list names the way into objects, one member at a step. Text names the
    claim that is called exactly that, dots and all; where there is none, its dots part such steps.
    """
    if isinstance(name, str) and name in claims:
        return claims[name]
    value: Any = claims
    for member in name.split(".") if isinstance(name, str) else name:
        value = value.get(member) if isinstance(value, dict) else None
    return value


def _check_audience(value: Any, wanted: Sequence[str]) -> None:
    audiences = [value] if isinstance(value, str) else value
    if not isinstance(audiences, list) or not any(each in audiences for each in wanted):
        raise invalid("aud", "The token's audience is not this gateway.")


def _subject(value: Any, name: ClaimName) -> str:
    claim = name if isinstance(name, str) else ".".join(name)
    if value is None or value == "":
        raise invalid("sub", f"The token's `{claim}` is missing or empty.")
    if not isinstance(value, str):
        raise invalid("sub", f"The token's `{claim}` is not a string.")
    if len(value) > MAX_SUBJECT:
        raise invalid("sub", f"The token's `{claim}` is longer than {MAX_SUBJECT} characters.")
    if not value.isprintable():
        raise invalid("sub", f"The token's `{claim}` has a character that is not printable.")
    return value


def _groups(value: Any) -> tuple[list[str], int]:
    """The groups that can be used, each once, and how many cannot: a group less is a right less, and no
    reason to refuse the caller. One string is one group; null is how some issuers write an empty list.
    """
    if value is None:
        return [], 0
    named = value if isinstance(value, list) else [value]
    groups = [group for group in named if _is_group(group)]
    return list(dict.fromkeys(groups)), len(named) - len(groups)


def _is_group(value: Any) -> bool:
    """Printable rules out control characters, lone surrogates and marks that reorder text in a log."""
    return isinstance(value, str) and 0 < len(value) <= MAX_GROUP and value.isprintable()


def _left_out(claims: Mapping[str, Any], name: ClaimName) -> bool:
    """Whether Entra ID left the groups out: it has a limit of 200, and names a place to ask instead
    (learn.microsoft.com/entra/identity-platform/id-token-claims-reference, "Groups overage claim").
    """
    elsewhere = claims.get("_claim_names")
    claim = name if isinstance(name, str) else name[0]
    if claim == "groups" and claims.get("hasgroups") in (True, "true"):
        return True
    return isinstance(elsewhere, dict) and claim in elsewhere


def _time(claims: dict[str, Any], name: str) -> datetime | None:
    """A NumericDate (RFC 7519 §2), or None when the claim is absent."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
        raise invalid(name, f"The token's `{name}` is not a time.")
    return datetime.fromtimestamp(value, UTC)
