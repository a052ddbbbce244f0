"""`eksgateway cancellable`: ListCancellableUpdates, all pages."""

from __future__ import annotations

from eksgateway.cli.exit_codes import REFUSED
from eksgateway.cli.notes import note
from eksgateway.cli.output.printer import print_result
from eksgateway.cli.output.views import cancellable_table, cluster_path
from eksgateway.cli.paging import read_pages
from eksgateway.cli.session import Session, run_session
from eksgateway.cli.shared_options import CallOptions
from eksgateway.client.error_report import reason_name
from eksgateway.v1 import update_service_pb2 as pb


def run(call: CallOptions) -> None:
    """Exit 1 if an account and region could not be read completely."""

    async def body(session: Session) -> int:
        answer = await read_pages(
            session,
            session.updates.ListCancellableUpdates,
            pb.ListCancellableUpdatesRequest(),
            pb.ListCancellableUpdatesResponse,
            call.timeout,
        )
        names = [f"{cluster_path(each.cluster)} {each.update.id}" for each in answer.updates]
        print_result(call.output, answer, cancellable_table(answer), names)
        if not names:
            note("no update that you may see can be cancelled now")
        for each in answer.unreachable:
            target, reason = f"{each.account_id}/{each.region}", reason_name(each.reason)
            note(f"{target} could not be read: {reason}: {each.message}")
        return REFUSED if answer.unreachable else 0

    run_session(call, body)
