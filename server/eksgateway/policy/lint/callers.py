"""Callers that cannot exist, and patterns of callers that match more than they seem to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

from eksgateway.policy.coverage import Entry
from eksgateway.policy.lint.finding import GROUPS, SUBJECTS, Finding, Named, entries_of
from eksgateway.settings import ISSUER_NAME_PATTERN

_ISSUER: Final = re.compile(ISSUER_NAME_PATTERN)
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,255}")
_SPIFFE_PATH: Final = re.compile(r"(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._-]+)+")
_SERVICE_ACCOUNT: Final = "system:serviceaccount:"  # …NAMESPACE:NAME (Kubernetes)


def find(content: Mapping[str, Sequence[Entry]]) -> Iterator[Finding]:
    for each in entries_of(content):
        yield from each.judge_items("impossible-caller", SUBJECTS, _why_no_subject)
        yield from each.judge_items("impossible-group", GROUPS, _why_no_group)
        yield from each.judge_items("impossible-via", ["via"], _why_no_via)
        if each.kind != "denial":  # one that denies more than it seems opens nothing
            yield from each.judge_items("star-in-issuer", (*SUBJECTS, *GROUPS), _why_any_issuer)
            yield from each.judge_items("star-crosses-colon", (*SUBJECTS, *GROUPS), _why_crossing)
        yield from _find_unmet_conditions(each)


@lru_cache(4096)
def _why_no_subject(subject: str) -> str:
    if subject.startswith("spiffe://"):
        return _why_no_spiffe_id(subject)
    _, _, name = subject.partition(":")
    issuer, colon, sub = name.partition(":")
    if "*" in issuer:
        return ""
    if not colon:
        return f"`{subject}` matches no caller: write `jwt:ISSUER:{issuer or 'SUB'}`, with the issuer's name"
    return _why_no_name(subject, issuer, sub)


def _why_no_spiffe_id(subject: str) -> str:
    head, star, _ = subject.removeprefix("spiffe://").partition("*")
    domain, slash, path = head.partition("/")
    if star and not slash:
        return ""
    if not _TRUST_DOMAIN.fullmatch(domain):
        return f"`{subject}` matches no caller: a trust domain has lower-case letters, digits and `._-`"
    if not star and not _SPIFFE_PATH.fullmatch(f"{slash}{path}"):
        return f"`{subject}` matches no caller: it is no SPIFFE ID of a workload (spiffe://DOMAIN/PATH)"
    return ""


@lru_cache(4096)
def _why_no_group(group: str) -> str:
    if group.startswith("spiffe:"):
        return f"`{group}` is no group: callers with a SPIFFE ID have no groups; write it among the subjects"
    if re.match(r"jwt:[^:]+:", group):
        return f"`{group}` is a caller's id and no group: write it among the subjects"
    issuer, colon, name = group.partition(":")
    if issuer.startswith("*") or (colon and "*" in issuer):
        return ""
    if not colon:
        return f"`{group}` matches no group: write `ISSUER:{group}`, with the issuer's name"
    return _why_no_name(group, issuer, name)


def _why_no_name(text: str, issuer: str, name: str) -> str:
    if not _ISSUER.fullmatch(issuer):
        return f"`{text}` matches nothing: no issuer can have the name `{issuer}`"
    if not name or name != name.strip() or not name.isprintable():
        fault = "is empty, has blanks around it, or has a character that is not printable"
        return f"`{text}` matches nothing: what follows the issuer's name {fault}"
    if name.startswith(_SERVICE_ACCOUNT) and "*" not in name and name.count(":") < 3:
        return f"`{text}` matches nothing: a service account is {_SERVICE_ACCOUNT}NAMESPACE:NAME"
    return ""


def _why_no_via(pattern: str) -> str:
    if not pattern.startswith("spiffe://"):
        return f"`{pattern}` matches no connection: a connection has a SPIFFE ID"
    return _why_no_spiffe_id(pattern)


@lru_cache(4096)
def _why_any_issuer(pattern: str) -> str:
    if pattern.startswith("spiffe://"):
        domain = pattern.removeprefix("spiffe://").partition("/")[0]
        if "*" in domain:
            return f"`{pattern}` matches IDs of every trust domain that fits: name one"
        return ""
    issuer, colon, _ = pattern.removeprefix("jwt:").partition(":")
    if "*" in issuer and (colon or issuer.startswith("*") or pattern.startswith("jwt:")):
        return f"`{pattern}` matches names of every issuer that fits: name one"
    return ""


@lru_cache(4096)
def _why_crossing(pattern: str) -> str:
    """A star at the end, after a part of a segment, where the name has segments."""
    if not pattern.endswith("*") or pattern.startswith("spiffe://"):
        return ""
    _, _, name = pattern.removeprefix("jwt:").partition(":")
    segments = name.removesuffix("*").split(":")
    if len(segments) == 1 or "*" in name.removesuffix("*") or not segments[-1] or segments[-1].endswith("/"):
        return ""
    if name.startswith(_SERVICE_ACCOUNT) and len(segments) > 3:  # the last part of a name
        return ""
    head = pattern.removesuffix("*")
    return (
        f"`{pattern}` also matches `{head}-other:anyone`, because `*` crosses `:`;"
        f" write `{head}:*`, if `{segments[-1]}` is a whole part of the name"
    )


def _find_unmet_conditions(each: Named) -> Iterator[Finding]:
    """Conditions that a caller with a certificate alone never meets."""
    conditions = [key for key in ("via", "claims", "group_tags") if key in each.entry]
    if not conditions:
        return
    yield from each.judge_items(
        "impossible-caller",
        ["subjects"],
        lambda subject: (
            f"`{subject}` never meets `{conditions[0]}`, which is for callers with a token"
            if subject.startswith("spiffe:")
            else ""
        ),
    )
