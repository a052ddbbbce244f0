"""`eksgateway list`: ListUpdates, all pages."""

from __future__ import annotations

from eksgateway.cli.notes import note
from eksgateway.cli.output.printer import print_result
from eksgateway.cli.output.views import update_table
from eksgateway.cli.paging import read_pages
from eksgateway.cli.session import Session, cluster_ref, run_session
from eksgateway.cli.shared_options import CallOptions, ClusterOptions
from eksgateway.v1 import update_service_pb2 as pb


def run(call: CallOptions, where: ClusterOptions) -> None:
    async def body(session: Session) -> int:
        request = pb.ListUpdatesRequest(cluster=cluster_ref(where))
        answer = await read_pages(
            session, session.updates.ListUpdates, request, pb.ListUpdatesResponse, call.timeout
        )
        names = [each.id for each in answer.updates]
        print_result(call.output, answer, update_table(answer), names)
        if not names:
            note("no updates that you may get")
        return 0

    run_session(call, body)
