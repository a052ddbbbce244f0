"""The ledger's tables. The migrations make them; a test holds the two together.

``events`` is the truth; ``cancellations`` is folded from it, and ``decisions`` logs denied cancels.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

# Alembic's newest revision, so that a start needs alembic only when there is something to migrate.
REVISION = "0001"

metadata = MetaData()

# SQLite numbers rows by itself only in a column that is spelt INTEGER.
_Number = BigInteger().with_variant(Integer(), "sqlite")

events = Table(
    "events",
    metadata,
    Column("seq", _Number, primary_key=True, autoincrement=False),
    Column("time", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("cancellation_id", Text, nullable=False),  # empty where it is about none
    Column("body", Text, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    UniqueConstraint("hash", name="uq_events_hash"),
    Index("ix_events_cancellation", "cancellation_id", "seq"),
)

cancellations = Table(
    "cancellations",
    metadata,
    Column("cancellation_id", Text, primary_key=True),
    Column("created", _Number, nullable=False),  # seq of the first event: the order of history
    Column("latest", _Number, nullable=False),  # seq of the newest event
    Column("caller_id", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("update_id", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("pending", Boolean, nullable=False),
    Column("record", Text, nullable=False),  # projection.Record
    UniqueConstraint("caller_id", "request_id", name="uq_cancellations_request"),
    UniqueConstraint("created", name="uq_cancellations_created"),
    Index("ix_cancellations_caller", "caller_id", "created"),
    Index("ix_cancellations_cluster", "account_id", "region", "cluster", "created"),
    Index("ix_cancellations_update", "account_id", "region", "cluster", "update_id", "created"),
    Index(
        "ix_cancellations_pending",
        "created",
        # SQLite uses it only for the very words of the query. PostgreSQL's are in the migration alone:
        # to name them here loads its dialect at every start.
        sqlite_where=text("pending = 1"),
    ),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("time", Text, nullable=False),
    Column("body", Text, nullable=False),  # model.Denial
)

# One row, written to learn whether writing works.
probe = Table(
    "probe",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("time", Text, nullable=False),
)
