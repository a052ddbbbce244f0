"""Reading the claims of a verified token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eksgateway.errors import CredentialsInvalid
from eksgateway.model import Claim
from support.clock import FakeClock
from support.logs import capture_logs
from support.tokens import ABSENT, Idp

from .conftest import Trust

NOW = FakeClock().now()


@pytest.fixture
def log_lines() -> Iterator[list[dict[str, Any]]]:
    with capture_logs() as lines:
        yield lines


def call(idp: Idp, **claims: Any) -> list[str]:
    return ["Bearer " + idp.token(NOW, **claims)]


GROUPS: dict[str, tuple[Any, list[str], int]] = {
    "absent": (ABSENT, [], 0),
    "null": (None, [], 0),
    "empty": ([], [], 0),
    "one string": ("sre", ["sre"], 0),
    "a list": (["a", "b"], ["a", "b"], 0),
    "twice": (["a", "b", "a"], ["a", "b"], 0),
    "the longest": (["g" * 255], ["g" * 255], 0),
    "letters of all languages": (["équipe-β 東京"], ["équipe-β 東京"], 0),
    "one too long": (["a", "g" * 256, "b"], ["a", "b"], 1),
    "a no-break space": (["a\u00a0b", "b"], ["b"], 1),
    "a newline": (["a", "sre\nadmin"], ["a"], 1),
    "half a surrogate pair": (["a", "\ud800"], ["a"], 1),
    "a bidirectional mark": (["a", "b\u202e"], ["a"], 1),
    "a number": (["a", 1], ["a"], 1),
    "a boolean": ([True, "a"], ["a"], 1),
    "an empty one": (["", "a"], ["a"], 1),
    "null among them": (["a", None], ["a"], 1),
    "a list among them": ([["a"], "b"], ["b"], 1),
    "an object among them": ([{"name": "a"}, "b"], ["b"], 1),
    "none good": ([1, "", None], [], 3),
    "an object": ({"sre": True}, [], 1),
    "a number alone": (7, [], 1),
    "an empty string": ("", [], 1),
}


@pytest.mark.parametrize(("groups", "expected", "dropped"), GROUPS.values(), ids=GROUPS)
async def test_unusable_groups_are_ignored_logged_and_counted(
    trust: Trust, corp: Idp, groups: Any, expected: list[str], dropped: int
) -> None:
    """The token stays valid with its other groups. The log has their number once per token."""
    counted: list[tuple[str, str, int]] = []
    identity = trust(corp, count=lambda *args: counted.append(args))
    with capture_logs() as log_lines:
        for _ in range(2):
            caller = await identity.identify(call(corp, groups=groups))
            assert caller.groups == tuple(f"corp:{group}" for group in expected)
    lines = [line for line in log_lines if line["event"] == "identity.groups_dropped"]
    assert [line["dropped"] for line in lines] == ([dropped] if dropped else [])
    assert counted == ([("corp", "unusable", dropped)] if dropped else [])


OVERAGE: dict[str, tuple[dict[str, Any], bool]] = {
    "a link": (
        {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph"}}},
        True,
    ),
    "hasgroups": ({"hasgroups": True}, True),
    "hasgroups as text": ({"hasgroups": "true"}, True),
    "a link of another claim": ({"_claim_names": {"address": "src1"}}, False),
    "malformed links": ({"_claim_names": ["groups"]}, False),
    "no groups": ({"hasgroups": False}, False),
    "a link and groups": ({"_claim_names": {"groups": "src1"}, "groups": ["a"]}, False),
}


@pytest.mark.parametrize(("claims", "overage"), OVERAGE.values(), ids=OVERAGE)
async def test_groups_overage_is_logged_and_counted(
    trust: Trust, corp: Idp, log_lines: list[dict[str, Any]], claims: dict[str, Any], overage: bool
) -> None:
    """Entra ID omits the groups when there are more than 200."""
    counted: list[tuple[str, str, int]] = []
    identity = trust(corp, count=lambda *args: counted.append(args))
    await identity.identify(call(corp, **claims))
    events = [line["event"] for line in log_lines if line["log_level"] == "warning"]
    assert events == (["identity.groups_overage"] if overage else [])
    assert counted == ([("corp", "overage", 1)] if overage else [])


async def test_groups_overage_concerns_the_groups_claim_only(
    trust: Trust, corp: Idp, log_lines: list[dict[str, Any]]
) -> None:
    """App roles are complete however many groups there are."""
    identity = trust(corp, groups_claim="roles")
    await identity.identify(call(corp, hasgroups=True, _claim_names={"groups": "src1"}))
    assert [line["event"] for line in log_lines if line["log_level"] == "warning"] == []


URL = "https://corp.example/groups"
PATHS: dict[str, tuple[Any, dict[str, Any], list[str]]] = {
    "a name": ("roles", {"roles": ["a"]}, ["a"]),
    "a path": ("realm_access.roles", {"realm_access": {"roles": ["a"]}}, ["a"]),
    "a longer path": ("a.b.c.d", {"a": {"b": {"c": {"d": ["x"]}}}}, ["x"]),
    "a name with dots and slashes": (URL, {URL: ["a"]}, ["a"]),
    "an exact name before a path": ("a.b", {"a.b": ["name"], "a": {"b": ["path"]}}, ["name"]),
    "a list": (["realm_access", "roles"], {"realm_access": {"roles": ["a"]}}, ["a"]),
    "a list with dots in a name": (
        ["resource_access", "my.client", "roles"],
        {"resource_access": {"my.client": {"roles": ["a"]}}},
        ["a"],
    ),
    "a list of one is a name": ([URL], {URL: ["a"]}, ["a"]),
    "a missing path": ("realm_access.roles", {"realm_access": {"other": ["a"]}}, []),
    "a path through text": ("realm_access.roles", {"realm_access": "roles"}, []),
    "a path through a list": ("realm_access.roles", {"realm_access": [{"roles": ["a"]}]}, []),
    "a path through null": ("realm_access.roles", {"realm_access": None}, []),
}


@pytest.mark.parametrize(("name", "claims", "expected"), PATHS.values(), ids=PATHS)
async def test_claims_are_found_by_name_or_path(
    trust: Trust, corp: Idp, name: Any, claims: dict[str, Any], expected: list[str]
) -> None:
    """Keycloak nests its roles; others use URLs as names."""
    caller = await trust(corp, groups_claim=name).identify(call(corp, **claims))
    assert caller.groups == tuple(f"corp:{group}" for group in expected)


async def test_subject_claim_may_be_a_path(trust: Trust, corp: Idp) -> None:
    identity = trust(corp, subject_claim="act.sub")
    caller = await identity.identify(call(corp, act={"sub": "bot"}))
    assert caller.id == "jwt:corp:bot"
    with pytest.raises(CredentialsInvalid, match=r"`act\.sub` is missing"):
        await identity.identify(call(corp))


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        (ABSENT, "missing"),
        ("", "missing or empty"),
        (7, "not a string"),
        ("s" * 1025, "longer than 1024"),
        ("a\n", "printable"),
    ],
    ids=["absent", "empty", "number", "long", "newline"],
)
async def test_unusable_subject_is_refused_with_the_reason(
    trust: Trust, corp: Idp, subject: Any, why: str
) -> None:
    with pytest.raises(CredentialsInvalid, match=why) as refused:
        await trust(corp).identify(call(corp, sub=subject))
    assert (refused.value.check, refused.value.issuer) == ("sub", "corp")


@pytest.mark.parametrize("audience", ["eksgateway", "api://eks", ["other", "api://eks"]])
async def test_issuer_with_several_audiences_accepts_each(trust: Trust, corp: Idp, audience: Any) -> None:
    identity = trust(corp, audience=["eksgateway", "api://eks"])
    assert (await identity.identify(call(corp, aud=audience))).id == "jwt:corp:alice"
    with pytest.raises(CredentialsInvalid):
        await identity.identify(call(corp, aud="other"))


VALUES: dict[str, tuple[Any, list[str], int]] = {
    "absent": (ABSENT, [], 0),
    "null": (None, [], 0),
    "empty text": ("", [], 0),
    "an empty list": ([], [], 0),
    "text": ("corp/app", ["corp/app"], 0),
    "a list": (["a", "b"], ["a", "b"], 0),
    "twice": (["a", "b", "a"], ["a", "b"], 0),
    "an integer": (7, ["7"], 0),
    "a negative integer": (-7, ["-7"], 0),
    "true": (True, ["true"], 0),
    "false": (False, ["false"], 0),
    "of each kind": (["a", 1, True], ["a", "1", "true"], 0),
    "an integer and its text": ([1, "1"], ["1"], 0),
    "empty text and null among them": (["", "a", None], ["a"], 0),
    "letters of all languages": ("équipe-β 東京", ["équipe-β 東京"], 0),
    "the longest": ("v" * 1024, ["v" * 1024], 0),
    "one too long": (["v" * 1025, "a"], ["a"], 1),
    "a newline": (["a\nb", "a"], ["a"], 1),
    "half a surrogate pair": ("\ud800", [], 1),
    "a bidirectional mark": ("a\u202e", [], 1),
    "a fraction": ([1.5, "a"], ["a"], 1),
    "a whole number with a fraction": (1.0, [], 1),
    "the largest integer": (2**64 - 1, [str(2**64 - 1)], 0),
    "too large an integer": (2**64, [], 1),
    "an integer with thousands of digits": (10**4000, [], 1),
    "an object": ({"a": "b"}, [], 1),
    "an object among them": ([{"a": "b"}, "a"], ["a"], 1),
    "a list among them": ([["a"], "b"], ["b"], 1),
    "the most": ([f"v{n}" for n in range(20)], [f"v{n}" for n in range(20)], 0),
    "too many": ([f"v{n}" for n in range(23)], [f"v{n}" for n in range(20)], 3),
}


@pytest.mark.parametrize(("claimed", "expected", "dropped"), VALUES.values(), ids=VALUES)
async def test_unusable_values_of_claims_are_ignored_logged_and_counted(
    trust: Trust, corp: Idp, claimed: Any, expected: list[str], dropped: int
) -> None:
    """The token stays valid, and other claims count. The log has the number once per token."""
    counted: list[tuple[str, str, int]] = []
    identity = trust(
        corp, count_claims=lambda *args: counted.append(args), claims={"mine": "c", "kept": "k", "none": "n"}
    )
    with capture_logs() as log_lines:
        for _ in range(2):
            caller = await identity.identify(call(corp, c=claimed, k="yes"))
            claims = [Claim("kept", ("yes",))] + ([Claim("mine", tuple(expected))] if expected else [])
            assert caller.claims == tuple(claims)
    lines = [line for line in log_lines if line["event"] == "identity.claims_dropped"]
    assert [(line["claim"], line["dropped"]) for line in lines] == ([("mine", dropped)] if dropped else [])
    assert counted == ([("corp", "mine", dropped)] if dropped else [])


@pytest.mark.parametrize(("name", "claims", "expected"), PATHS.values(), ids=PATHS)
async def test_claims_for_the_policy_are_found_by_name_or_path(
    trust: Trust, corp: Idp, name: Any, claims: dict[str, Any], expected: list[str]
) -> None:
    caller = await trust(corp, claims={"mine": name}).identify(call(corp, **claims))
    assert caller.claims == ((Claim("mine", tuple(expected)),) if expected else ())


async def test_a_token_has_only_the_claims_of_its_issuer(trust: Trust, corp: Idp) -> None:
    """Without the setting, a token's claims do not reach the policy."""
    caller = await trust(corp).identify(call(corp, repository="corp/app", claims={"mine": "x"}))
    assert caller.claims == ()


async def test_tokens_of_one_caller_with_other_claims_are_other_callers(trust: Trust, corp: Idp) -> None:
    """Watches share a right only if their callers are equal, with their claims."""
    identity = trust(corp, claims={"ref": "ref"})
    main, branch = [await identity.identify(call(corp, ref=ref)) for ref in ("main", "branch")]
    assert len({main, branch, await identity.identify(call(corp, ref="main"))}) == 2
