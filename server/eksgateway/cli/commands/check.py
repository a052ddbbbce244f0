"""`eksgateway check`: CheckCancelUpdate."""

from __future__ import annotations

from eksgateway.cli.exit_codes import REFUSED
from eksgateway.cli.notes import note
from eksgateway.cli.output.printer import print_result
from eksgateway.cli.output.views import check_fields
from eksgateway.cli.refusals import find_help
from eksgateway.cli.session import READ_S, Session, cluster_ref, run_session
from eksgateway.cli.shared_options import CallOptions, ClusterOptions
from eksgateway.v1 import update_service_pb2 as pb


def run(call: CallOptions, where: ClusterOptions, update_id: str, reason: str, ticket: str) -> None:
    """Exit 0 if a cancel would be allowed and could succeed now, else 1."""

    async def body(session: Session) -> int:
        request = pb.CheckCancelUpdateRequest(
            cluster=cluster_ref(where), update_id=update_id, reason=reason, ticket=ticket
        )
        method = session.updates.CheckCancelUpdate
        answer = await session.call(method, request, pb.CheckCancelUpdateResponse, call.timeout or READ_S)
        possible = answer.decision.allowed and answer.cancellability.cancellable_now
        print_result(call.output, answer, check_fields(answer), [update_id] if possible else [])
        if not answer.decision.allowed:
            for help_text in find_help("POLICY_DENIED", tuple(answer.decision.reasons)):
                note(help_text)
        return 0 if possible else REFUSED

    run_session(call, body)
