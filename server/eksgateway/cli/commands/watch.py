"""`eksgateway watch`: WatchUpdate until the update has ended."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing

from eksgateway.cli.endings import describe_end, end_code
from eksgateway.cli.exit_codes import REFUSED
from eksgateway.cli.notes import note
from eksgateway.cli.output.views import cluster_path
from eksgateway.cli.output.watch_view import Show, watch_view
from eksgateway.cli.session import Session, cluster_ref, run_session
from eksgateway.cli.shared_options import CallOptions, ClusterOptions, Wanted
from eksgateway.client import Knowledge, watch


def run(call: CallOptions, where: ClusterOptions, update_id: str, wanted: Wanted, max_age: float) -> None:
    async def body(session: Session) -> int:
        cluster = cluster_ref(where)
        states = watch(
            session.channels,
            cluster,
            update_id,
            credentials=session.connection.token,
            max_age=max_age,
            heartbeats=True,
            timeout=call.timeout or math.inf,
        )
        with watch_view(call.output, f"{cluster_path(cluster)} {update_id}", update_id) as show:
            last = await follow(states, show)
        return report_end(last, wanted)

    run_session(call, body)


async def follow(states: AsyncGenerator[Knowledge, None], show: Show) -> Knowledge:
    """Show each state; returns the last one."""
    known = Knowledge()
    async with aclosing(states):
        async for known in states:
            show(known)
    return known


def report_end(last: Knowledge, wanted: Wanted) -> int:
    """The exit code, which is explained if it is not 0."""
    if not last.final:
        return REFUSED
    if code := end_code(last, wanted):
        note(describe_end(last))
    return code
