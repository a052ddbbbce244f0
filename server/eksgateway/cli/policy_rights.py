"""`eksgateway policy who` and `can`: the rights that policy data gives, for access reviews."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import typer

from eksgateway.cli.output.printer import print_table
from eksgateway.cli.output.tables import Table
from eksgateway.cli.output.terminal import print_lines
from eksgateway.cli.policy_arguments import find_files, report_unusable
from eksgateway.cli.policy_rights_view import (
    allowed_callers_to_json,
    describe_rest,
    make_allowed_callers_tables,
    make_permissions_tables,
    permissions_to_json,
)
from eksgateway.errors import StartError
from eksgateway.policy.question import utc_seconds
from eksgateway.policy.review.can import Permissions, ReviewedCaller, find_permissions
from eksgateway.policy.review.who import AllowedCallers, Where, find_allowed_callers
from eksgateway.policy.source import Content, load_content
from eksgateway.rpc.request_fields import ACCOUNT, CLUSTER, REGION

_SUBJECT: Final = re.compile(r"jwt:[^:*]+:[^*]+|spiffe://[^*/]+/[^*]+")
_GROUP: Final = re.compile(r"[^:*]+:[^*]+")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the data is, and how the answer is printed."""

    data: Path | None
    config: Path | None
    as_json: bool

    def load(self) -> Content:
        """Raises SettingsError and PolicyDataError."""
        return load_content(find_files(self.data, self.config).data)


def show_allowed_callers(source: Source, where: Where, action: str, at: datetime) -> int:
    """Return the exit code: 0, or UNUSABLE."""
    try:
        found = find_allowed_callers(source.load(), where, action, at)
    except StartError as exc:
        return report_unusable(exc)
    if source.as_json:
        print(json.dumps(allowed_callers_to_json(found, where, action, at), indent=2))
        return 0
    place = "/".join((where.account or "*", where.region or "*", where.cluster))
    may, held = make_allowed_callers_tables(found, action)
    count = f"{len(may.rows)} caller{'' if len(may.rows) == 1 else 's'}" if may.rows else "no caller"
    _print_tables(f"{action} on {place} at {utc_seconds(at)}: {count}", may, held, found)
    return 0


def show_permissions(source: Source, caller: ReviewedCaller, at: datetime) -> int:
    """Return the exit code: 0, or UNUSABLE."""
    try:
        found = find_permissions(source.load(), caller, at)
    except StartError as exc:
        return report_unusable(exc)
    if source.as_json:
        print(json.dumps(permissions_to_json(found, caller, at), indent=2))
        return 0
    may, held = make_permissions_tables(found)
    count = "" if may.rows else ": nothing"
    _print_tables(f"{caller.subject} at {utc_seconds(at)}{count}", may, held, found)
    return 0


def read_where(cluster: str, account: str, region: str) -> Where:
    """The cluster is NAME or ACCOUNT/REGION/NAME. Raises typer.BadParameter."""
    if cluster.count("/") == 2 and not (account or region):
        account, region, cluster = cluster.split("/")
    for value, form, option, hint in (
        (cluster, CLUSTER, "--cluster", "write NAME or ACCOUNT/REGION/NAME, without a star"),
        (account, ACCOUNT, "--account", "write 12 digits"),
        (region, REGION, "--region", "write a region as in us-east-1"),
    ):
        if (value or option == "--cluster") and not form.fullmatch(value):
            raise typer.BadParameter(f"{value!r} is none; {hint}", param_hint=option)
    return Where(cluster, account, region)


def read_reviewed_caller(
    subject: str, groups: Sequence[str], claims: Sequence[str], via: str
) -> ReviewedCaller:
    """Raises typer.BadParameter."""
    if not _SUBJECT.fullmatch(subject):
        raise typer.BadParameter(
            f"{subject!r} is no caller's id; write jwt:ISSUER:SUB or spiffe://DOMAIN/PATH",
            param_hint="SUBJECT",
        )
    if subject.startswith("spiffe:") and (groups or claims or via):
        raise typer.BadParameter(
            "a caller with a SPIFFE ID has no groups, claims and via", param_hint="SUBJECT"
        )
    for group in groups:
        if not _GROUP.fullmatch(group):
            raise typer.BadParameter(f"{group!r} is no group; write ISSUER:GROUP", param_hint="--group")
    given: dict[str, list[str]] = {}
    for claim in claims:
        name, equals, value = claim.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{claim!r} is no claim; write NAME=VALUE", param_hint="--claim")
        given.setdefault(name, []).append(value)
    return ReviewedCaller(subject, tuple(groups), given, via)


def _print_tables(title: str, may: Table, held: Table, found: AllowedCallers | Permissions) -> None:
    print_lines([title])
    print_table(may)
    if held.rows:
        print_lines(["", "Held back:"])
        print_table(held)
    print_lines(describe_rest(found))
