"""`eksgateway history`: ListCancellations, newest first."""

from __future__ import annotations

from eksgateway.cli.notes import note
from eksgateway.cli.output.printer import print_result
from eksgateway.cli.output.views import cancellation_table
from eksgateway.cli.paging import read_pages
from eksgateway.cli.session import Session, cluster_ref, run_session
from eksgateway.cli.shared_options import CallOptions, ClusterOptions
from eksgateway.v1 import cancellation_service_pb2 as pb


def run(call: CallOptions, where: ClusterOptions | None, caller: str, limit: int) -> None:
    """``limit`` 0 lists all."""

    async def body(session: Session) -> int:
        request = pb.ListCancellationsRequest(
            cluster=cluster_ref(where) if where else None, caller=caller, page_size=min(limit, 100) or 100
        )
        answer = await read_pages(
            session,
            session.cancellations.ListCancellations,
            request,
            pb.ListCancellationsResponse,
            call.timeout,
            enough=lambda found: limit > 0 and len(found.cancellations) >= limit,
        )
        left_out = bool(answer.next_page_token)
        if limit and len(answer.cancellations) > limit:
            del answer.cancellations[limit:]
            answer.next_page_token = ""  # it would skip those that were dropped
            left_out = True
        names = [each.cancellation_id for each in answer.cancellations]
        print_result(call.output, answer, cancellation_table(answer), names)
        if left_out:
            note(f"older ones are left out after {limit}: --limit 0 lists all")
        elif not names:
            note("no cancellations that you may see")
        return 0

    run_session(call, body)
