"""Policy data of a company, and questions to it, for ``bench.policy``."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from eksgateway.model import Action, Caller, ClusterFacts, ClusterRef, Justification, Update
from eksgateway.policy.compiler.windows import DAYS
from eksgateway.policy.question import Question, utc_seconds
from eksgateway.policy.source import Content

NOW: Final = datetime(2027, 3, 10, 12, tzinfo=UTC)
CLUSTER: Final = ClusterRef("111122223333", "us-east-1", "prod-7")
TAGS: Final = {"environment": "production"}
_ACTIONS: Final = ["cancel", "check", "get", "list", "watch"]


@dataclass(frozen=True, eq=False)
class Case:
    """A question to some policy data, which this many grants allow."""

    content: Content = field(repr=False)
    question: Question
    matches: int


@cache
def many(freezes: int = 0) -> Case:
    """50 teams, each with a grant on each of 200 clusters. The caller is in 20 of the teams, and in 180
    groups that the data does not name.
    """
    return Case(company(50, 200, freezes), cancel_by(member(20, 200)), 20)


@cache
def few(freezes: int = 0) -> Case:
    """A team with a grant on each of 10 clusters, and a caller in its group alone."""
    return Case(company(1, 10, freezes), cancel_by(member(1, 1)), 1)


def company(teams: int, clusters: int, freezes: int) -> Content:
    return {
        "grants": [
            make_grant(
                f"team-{team}.prod-{cluster}",
                groups=[f"bench:team-{team}", f"bench:team-{team}-leads"],
                clusters=[f"prod-{cluster}"],
                tags={"environment": ["production"]},
                require=["reason"] if team % 2 else ["reason", "ticket"],
            )
            for team in range(teams)
            for cluster in range(clusters)
        ],
        "denials": [],
        "freezes": [_freeze(number, clusters) for number in range(freezes)],
    }


def member(teams: int, groups: int) -> Caller:
    """A member of the first teams, in so many groups."""
    names = [f"bench:team-{number}" for number in range(teams)]
    others = [f"bench:00000000-0000-0000-0000-{number:012}" for number in range(groups - teams)]
    return Caller("jwt", "jwt:bench:member", "https://issuer.example", (*names, *others))


def cancel_by(caller: Caller, cluster: ClusterRef = CLUSTER) -> Question:
    """At stage update, where everything is judged."""
    return Question(
        caller,
        Action.CANCEL,
        cluster,
        "/eksgateway.v1.UpdateService/CancelUpdate",
        "bench",
        NOW,
        Justification("bad AMI", "OPS-12"),
        ClusterFacts("arn", cluster.name, "ACTIVE", "1.34", TAGS),
        Update("u", "InProgress", "VersionRollback", created_at=NOW - timedelta(hours=1)),
    )


def list_by(caller: Caller) -> Question:
    """Stage target: may the caller list any cluster of the account and region?"""
    return Question(caller, Action.LIST, CLUSTER, "", "bench", NOW, any_cluster=True)


def write_yaml(path: Path, content: Content) -> None:
    path.write_text(yaml.dump({"eksgateway": content}, Dumper=_PlainDumper))


class _PlainDumper(yaml.CSafeDumper):
    def ignore_aliases(self, _: Any) -> bool:
        return True


def make_grant(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "groups": ["bench:all"],
        "actions": _ACTIONS,
        "accounts": [CLUSTER.account_id],
        "regions": [CLUSTER.region],
        "clusters": ["prod-*"],
        "update_types": ["VersionRollback"],
        **changes,
    }


def _freeze(number: int, clusters: int) -> dict[str, Any]:
    """Of one cluster or, half of them, of many. It is in one night, of a day in the 10 months around NOW or,
    a quarter of them, of every week.
    """
    begins = NOW.replace(hour=18) + timedelta(days=number % 301 - 150)
    night = {"from": utc_seconds(begins), "until": utc_seconds(begins + timedelta(hours=12))}
    zone = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", "Asia/Kolkata")[number // 4 % 4]
    window = {"days": [DAYS[number % 7]], "from": f"{22 + number % 2}:00", "until": "05:00", "zone": zone}
    return {
        "id": f"freeze-{number}",
        "clusters": [f"prod-{number % clusters}"] if number % 2 else ["prod-*"],
        **(night if number % 4 < 3 else {"windows": [window]}),
        "except_groups": ["bench:leads"],
    }
