"""The API's messages as tables and lists of fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eksgateway.cli.connection_settings import ConnectionSettings
from eksgateway.cli.output.ages import age_of, time_text
from eksgateway.cli.output.tables import Fields, Table
from eksgateway.client.error_report import phase_name
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.cancellation_pb2 import Cancellation, Decision
from eksgateway.v1.cancellation_service_pb2 import ListCancellationsResponse
from eksgateway.v1.update_pb2 import ClusterRef, Update

if TYPE_CHECKING:
    from eksgateway.cli.contexts import Contexts

_REVISION_LENGTH: Final = 19  # sha256: and the first digits, as for commits of Git


def cluster_path(cluster: ClusterRef) -> str:
    """As commands take it: ACCOUNT/REGION/NAME, or NAME alone without a target."""
    if cluster.account_id and cluster.region:
        return f"{cluster.account_id}/{cluster.region}/{cluster.name}"
    return cluster.name


def context_table(contexts: Contexts) -> Table:
    rows = [
        (
            "*" if name == contexts.current else "",
            name,
            each.address,
            _token_of(each),
            "plaintext" if each.plaintext else str(each.ca or ""),
            str(each.certificate or ""),
        )
        for name, each in contexts.by_name.items()
    ]
    return Table(("CURRENT", "NAME", "ADDRESS", "TOKEN", "CA", "CERTIFICATE"), rows)


def _token_of(settings: ConnectionSettings) -> str:
    return str(settings.token_file or "") or " ".join(settings.token_command)


def update_table(page: pb.ListUpdatesResponse) -> Table:
    rows = [
        (each.id, each.status, each.type, age_of(each.created_at), _cancellation_of(each))
        for each in page.updates
    ]
    return Table(("UPDATE", "STATUS", "TYPE", "AGE", "CANCELLATION"), rows)


def cancellable_table(page: pb.ListCancellableUpdatesResponse) -> Table:
    rows = [
        (
            each.cluster.name,
            each.update.id,
            each.update.type,
            age_of(each.update.created_at),
            f"{each.cluster.account_id}/{each.cluster.region}",
        )
        for each in page.updates
    ]
    return Table(("CLUSTER", "UPDATE", "TYPE", "AGE", "TARGET"), rows)


def cancellation_table(page: ListCancellationsResponse) -> Table:
    rows = [
        (
            age_of(each.create_time),
            phase_name(each.phase),
            each.cluster.name,
            each.update_id,
            each.caller,
            each.ticket,
            each.cancellation_id,
        )
        for each in page.cancellations
    ]
    columns = ("AGE", "PHASE", "CLUSTER", "UPDATE", "CALLER", "TICKET", "CANCELLATION")
    return Table(columns, rows)


def update_fields(update: Update) -> Fields:
    errors = [(f"error {each.error_code}", _error_text(each)) for each in update.errors]
    return Fields(
        [
            ("update", update.id),
            ("type", update.type),
            ("status", update.status),
            ("cancellation", _cancellation_of(update)),
            ("created", time_text(update.created_at)),
            *((each.type, each.value) for each in update.params),
            *errors,
        ]
    )


def cancellation_fields(found: Cancellation) -> Fields:
    return Fields(
        [
            ("cancellation", found.cancellation_id),
            ("phase", phase_name(found.phase)),
            ("known by", found.phase_reason),
            ("caller", found.caller),
            ("cluster", found.cluster.name),
            ("target", f"{found.cluster.account_id}/{found.cluster.region}"),
            ("update", found.update_id),
            ("type", found.update_type),
            ("status", found.update.status),
            ("reason", found.reason),
            ("ticket", found.ticket),
            ("request", found.request_id),
            *_decision_items(found.decision),
            ("created", time_text(found.create_time)),
            ("outcome known", time_text(found.forward_time)),
            ("changed", time_text(found.update_time)),
        ]
    )


def check_fields(answer: pb.CheckCancelUpdateResponse) -> Fields:
    advice = answer.cancellability
    now = ("yes" if advice.cancellable_now else "no") if answer.HasField("cancellability") else ""
    return Fields(
        [
            ("allowed", "yes" if answer.decision.allowed else "no"),
            ("because", " ".join(answer.decision.reasons)),
            *_decision_items(answer.decision),
            ("cancellable now", now),
            ("explanation", advice.explanation),
            ("next step", advice.next_step),
            ("status", answer.update.status),
            ("type", answer.update.type),
        ]
    )


def _decision_items(decision: Decision) -> list[tuple[str, str]]:
    return [
        ("decision", decision.decision_id),
        ("rules", ", ".join(decision.rule_ids)),
        ("policy", decision.policy_revision[:_REVISION_LENGTH]),
    ]


def _cancellation_of(update: Update) -> str:
    return ": ".join(filter(None, (update.cancellation.status, update.cancellation.reason)))


def _error_text(error: object) -> str:
    message, resources = getattr(error, "error_message", ""), getattr(error, "resource_ids", ())
    return f"{message} ({', '.join(resources)})" if resources else message
