"""Names in the policy data that a gateway's settings do not have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from eksgateway.policy.coverage import Entry, names_target
from eksgateway.policy.lint.finding import GROUPS, SUBJECTS, Finding, Named, entries_of, quote
from eksgateway.policy.review.words import overlap
from eksgateway.settings import Settings


@dataclass(frozen=True)
class KnownNames:
    settings: Settings

    @cached_property
    def claims(self) -> dict[str, frozenset[str]]:
        """The claims that each issuer gives to the policy."""
        jwt = self.settings.identity.jwt
        return {each.name: frozenset(each.claims) for each in jwt.issuers} if jwt else {}

    @cached_property
    def targets(self) -> frozenset[tuple[str, str]]:
        return frozenset((each.account_id, each.region) for each in self.settings.eks.targets)

    def trust_domains(self, demand: str) -> list[str]:
        listeners = self.settings.listeners
        return [str(each.trust_domain) for each in listeners if each.demand == demand]


def find(content: Mapping[str, Sequence[Entry]], settings: Settings) -> Iterator[Finding]:
    known = KnownNames(settings)
    for each in entries_of(content):
        yield from each.judge_items("unknown-issuer", SUBJECTS, lambda text: _why_no_subject(text, known))
        yield from each.judge_items("unknown-issuer", GROUPS, lambda text: _why_no_issuer(text, known))
        yield from each.judge_items(
            "unknown-issuer", ["via"], lambda text: _why_no_domain(text, known, "both")
        )
        yield from _find_unknown_claims(each, known)
        yield from _find_unknown_targets(each, known)
        for key, pattern in each.entry.get("group_tags", {}).items():
            if text := _why_no_issuer(pattern, known):
                yield each.make_finding("unknown-issuer", f"group_tags.{key}", text)


def _why_no_subject(subject: str, known: KnownNames) -> str:
    if subject.startswith("spiffe://"):
        return _why_no_domain(subject, known, "mtls")
    return _why_no_issuer(subject, known)


def _why_no_issuer(name: str, known: KnownNames) -> str:
    """``name`` is a group, or a caller with ``jwt:``."""
    if not known.claims:
        return f"`{name}` names no caller: `identity.jwt.issuers` has no issuer"
    begin = name.removeprefix("jwt:").partition("/")[0]
    if any(overlap(begin, f"{issuer}:*") for issuer in known.claims):
        return ""
    return f"`{name}` names no caller: the issuers in the settings are {quote(known.claims)}"


def _why_no_domain(pattern: str, known: KnownNames, demand: str) -> str:
    domains = known.trust_domains(demand)
    if any(overlap(pattern, f"spiffe://{domain}/**") for domain in domains):
        return ""
    if not domains:
        return f"`{pattern}` names no caller: no listener in the settings has `demand: {demand}`"
    return f"`{pattern}` names no caller: the trust domains in the settings are {quote(domains)}"


def _find_unknown_claims(each: Named, known: KnownNames) -> Iterator[Finding]:
    issuers = [name for name in known.claims if _names_issuer(each.entry, name)]
    for claim in each.entry.get("claims", {}):
        if issuers and not any(claim in known.claims[name] for name in issuers):
            text = f"no caller has it: `claims` of the issuer {quote(issuers)} does not give it to the policy"
            yield each.make_finding("unknown-claim", f"claims.{claim}", text)


def _names_issuer(entry: Entry, issuer: str) -> bool:
    subjects = (text.removeprefix("jwt:") for text in entry.get("subjects", ()) if text.startswith("jwt:"))
    names: Iterable[str] = [*subjects, *entry.get("groups", ())]
    return any(overlap(name.partition("/")[0], f"{issuer}:*") for name in names)


def _find_unknown_targets(each: Named, known: KnownNames) -> Iterator[Finding]:
    places = (("accounts", [a for a, _ in known.targets]), ("regions", [r for _, r in known.targets]))
    is_known = True
    for key, names in places:
        listed = each.entry.get(key, ["*"])
        is_known &= "*" in listed or any(name in names for name in listed)
        for index, name in enumerate(listed):
            if name not in ("*", *names):
                text = f"`{name}` has no target in the settings: they are {quote(sorted(set(names)))}"
                yield each.make_finding("unknown-target", f"{key}[{index}]", text)
    if is_known and not any(names_target(each.entry, *target) for target in known.targets):
        text = "no target in the settings is in one of these accounts and one of these regions"
        yield each.make_finding("unknown-target", "accounts", text)
