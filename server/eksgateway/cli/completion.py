"""Completes clusters, updates and contexts in a shell, quickly and in silence.

A gateway that is away completes nothing. Imported by every command, so nothing heavy is imported here.
"""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from eksgateway.cli.session import Session
    from eksgateway.v1.update_service_pb2 import CancellableUpdate

VARIABLE: Final = "_EKSGATEWAY_COMPLETE"
SHELLS: Final = ("bash", "zsh", "fish")
_TIMEOUT_S: Final = 2.0
# Shells evaluate some of what they complete, and names come from the gateway.
_CLUSTER: Final = re.compile(r"([0-9]{12}/[a-z0-9-]+/)?[0-9A-Za-z][A-Za-z0-9_-]{0,99}")
_UPDATE: Final = re.compile(r"[0-9A-Za-z-]{1,64}")

# A file in zsh's fpath is loaded as a function by the first TAB, which must be answered too.
_ZSH_END: Final = "compdef _eksgateway_completion eksgateway"
_ZSH_AUTOLOADED_END: Final = f"""\
if [ "$funcstack[1]" = "_eksgateway" ]; then
  _eksgateway_completion "$@"
else
  {_ZSH_END}
fi"""


def script(shell: str) -> str:
    from typer import completion  # noqa: PLC0415  slow to import

    text: str = completion.get_completion_script(  # type: ignore[attr-defined]  # documented by use only
        prog_name="eksgateway", complete_var=VARIABLE, shell=shell
    )
    return text.replace(_ZSH_END, _ZSH_AUTOLOADED_END) if shell == "zsh" else text


def prepare() -> None:
    """Let typer answer a shell that asks for completions."""
    if VARIABLE in os.environ:
        from typer import completion  # noqa: PLC0415  slow to import

        completion.completion_init()  # type: ignore[attr-defined]


def complete_context(incomplete: str) -> list[str]:
    try:
        from eksgateway.cli.contexts import read_contexts  # noqa: PLC0415

        names = read_contexts(os.environ).by_name
    except Exception:  # noqa: BLE001  a prompt is no place for errors
        return []
    return [each for each in names if each.startswith(incomplete) and _CLUSTER.fullmatch(each)]


def complete_cluster(ctx: typer.Context, incomplete: str) -> list[str]:
    """Clusters with an update that can be cancelled: NAME in the home target, else ACCOUNT/REGION/NAME."""
    found = dict.fromkeys(name for name, _ in _cancellable(ctx))
    return [each for each in found if each.startswith(incomplete) and _CLUSTER.fullmatch(each)]


def complete_update(ctx: typer.Context, incomplete: str) -> list[str]:
    """The updates of the named cluster that can be cancelled."""
    cluster, account, region = (ctx.params.get(name) or "" for name in ("cluster", "account", "region"))
    if account and region:
        cluster = f"{account}/{region}/{cluster}"
    return [
        update_id
        for name, update_id in _cancellable(ctx, qualified="/" in cluster)
        if name == cluster and update_id.startswith(incomplete) and _UPDATE.fullmatch(update_id)
    ]


def _cancellable(ctx: typer.Context, *, qualified: bool = False) -> list[tuple[str, str]]:
    try:
        return asyncio.run(asyncio.wait_for(_ask(ctx.params, qualified=qualified), _TIMEOUT_S))
    except Exception:  # noqa: BLE001  a prompt is no place for errors
        return []


async def _ask(given: dict[str, Any], *, qualified: bool) -> list[tuple[str, str]]:
    """Cluster and update of each update that can be cancelled."""
    from eksgateway.cli.output.views import cluster_path  # noqa: PLC0415
    from eksgateway.cli.paging import read_pages  # noqa: PLC0415
    from eksgateway.cli.session import open_session  # noqa: PLC0415
    from eksgateway.cli.shared_options import CallOptions  # noqa: PLC0415
    from eksgateway.v1 import update_service_pb2 as pb  # noqa: PLC0415

    options = {each.name: given[each.name] for each in fields(CallOptions) if given.get(each.name)}
    async with open_session(CallOptions(**options), quiet=True) as session:
        request = pb.ListCancellableUpdatesRequest()
        method, kind = session.updates.ListCancellableUpdates, pb.ListCancellableUpdatesResponse
        found = list((await read_pages(session, method, request, kind, _TIMEOUT_S)).updates)
        home = None if qualified else await _find_home(session, found)
        return [
            (each.cluster.name if _target(each) == home else cluster_path(each.cluster), each.update.id)
            for each in found
        ]


async def _find_home(session: Session, found: list[CancellableUpdate]) -> tuple[str, str] | None:
    """The account and region in which a name alone is looked up: there the update is found by it."""
    from eksgateway.v1.update_pb2 import ClusterRef  # noqa: PLC0415
    from eksgateway.v1.update_service_pb2 import GetUpdateRequest, GetUpdateResponse  # noqa: PLC0415

    async def is_home(one: CancellableUpdate) -> bool:
        request = GetUpdateRequest(cluster=ClusterRef(name=one.cluster.name), update_id=one.update.id)
        await session.call(session.updates.GetUpdate, request, GetUpdateResponse, _TIMEOUT_S)
        return True

    first_of_each = {_target(each): each for each in reversed(found)}
    answers = await asyncio.gather(*map(is_home, first_of_each.values()), return_exceptions=True)
    homes = [target for target, answer in zip(first_of_each, answers, strict=True) if answer is True]
    return homes[0] if len(homes) == 1 else None


def _target(update: CancellableUpdate) -> tuple[str, str]:
    return update.cluster.account_id, update.cluster.region
