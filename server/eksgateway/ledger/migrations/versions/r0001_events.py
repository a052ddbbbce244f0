"""The first tables: events, their projection, and the log of denied cancels."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# PostgreSQL's other collations sort differently than Python, and ``verify`` compares both orders.
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("time", _TEXT, nullable=False),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("cancellation_id", _TEXT, nullable=False),
        sa.Column("body", _TEXT, nullable=False),
        sa.Column("prev_hash", _TEXT, nullable=False),
        sa.Column("hash", _TEXT, nullable=False),
        sa.UniqueConstraint("hash", name="uq_events_hash"),
    )
    op.create_index("ix_events_cancellation", "events", ["cancellation_id", "seq"])
    _create_cancellations()
    op.create_table(
        "decisions",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("time", _TEXT, nullable=False),
        sa.Column("body", _TEXT, nullable=False),
    )
    probe = op.create_table(
        "probe",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", _TEXT, nullable=False),
    )
    op.bulk_insert(probe, [{"id": 1, "time": ""}])
    if op.get_bind().dialect.name == "sqlite":
        _refuse_changes()


def _create_cancellations() -> None:
    op.create_table(
        "cancellations",
        sa.Column("cancellation_id", _TEXT, primary_key=True),
        sa.Column("created", _NUMBER, nullable=False),
        sa.Column("latest", _NUMBER, nullable=False),
        sa.Column("caller_id", _TEXT, nullable=False),
        sa.Column("request_id", _TEXT, nullable=False),
        sa.Column("account_id", _TEXT, nullable=False),
        sa.Column("region", _TEXT, nullable=False),
        sa.Column("cluster", _TEXT, nullable=False),
        sa.Column("update_id", _TEXT, nullable=False),
        sa.Column("phase", _TEXT, nullable=False),
        sa.Column("pending", sa.Boolean, nullable=False),
        sa.Column("record", _TEXT, nullable=False),
        sa.UniqueConstraint("caller_id", "request_id", name="uq_cancellations_request"),
        sa.UniqueConstraint("created", name="uq_cancellations_created"),
    )
    cluster = ["account_id", "region", "cluster"]
    op.create_index("ix_cancellations_caller", "cancellations", ["caller_id", "created"])
    op.create_index("ix_cancellations_cluster", "cancellations", [*cluster, "created"])
    op.create_index("ix_cancellations_update", "cancellations", [*cluster, "update_id", "created"])
    op.create_index(
        "ix_cancellations_pending",
        "cancellations",
        ["created"],
        sqlite_where=sa.text("pending = 1"),
        postgresql_where=sa.text("pending"),
    )


def _refuse_changes() -> None:
    """Prevents accidents. The hash chain shows deliberate changes."""
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER events_refuse_{verb.lower()} BEFORE {verb} ON events "
            "BEGIN SELECT RAISE(ABORT, 'events are only ever appended'); END"
        )
