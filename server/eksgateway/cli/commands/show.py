"""`eksgateway show`: GetCancellation."""

from __future__ import annotations

from eksgateway.cli.output.printer import print_result
from eksgateway.cli.output.views import cancellation_fields
from eksgateway.cli.session import READ_S, Session, run_session
from eksgateway.cli.shared_options import CallOptions
from eksgateway.v1 import cancellation_service_pb2 as pb


def run(call: CallOptions, cancellation_id: str, request_id: str) -> None:
    """One of the two ids is empty."""

    async def body(session: Session) -> int:
        request = (
            pb.GetCancellationRequest(request_id=request_id)
            if request_id
            else pb.GetCancellationRequest(cancellation_id=cancellation_id)
        )
        method = session.cancellations.GetCancellation
        answer = await session.call(method, request, pb.GetCancellationResponse, call.timeout or READ_S)
        found = answer.cancellation
        print_result(call.output, answer, cancellation_fields(found), [found.cancellation_id])
        return 0

    run_session(call, body)
