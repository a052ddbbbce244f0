"""`eksgateway get`: GetUpdate."""

from __future__ import annotations

from eksgateway.cli.output.printer import print_result
from eksgateway.cli.output.views import update_fields
from eksgateway.cli.session import READ_S, Session, cluster_ref, run_session
from eksgateway.cli.shared_options import CallOptions, ClusterOptions
from eksgateway.v1 import update_service_pb2 as pb


def run(call: CallOptions, where: ClusterOptions, update_id: str) -> None:
    async def body(session: Session) -> int:
        request = pb.GetUpdateRequest(cluster=cluster_ref(where), update_id=update_id)
        method = session.updates.GetUpdate
        answer = await session.call(method, request, pb.GetUpdateResponse, call.timeout or READ_S)
        print_result(call.output, answer, update_fields(answer.update), [answer.update.id])
        return 0

    run_session(call, body)
