"""The ledger's tables, as the migrations create them.

``cancellations`` is a projection of ``events``; ``decisions`` is the log of denied cancels. The tables of a
fleet (``replicas``, ``looks``, ``budget``) are on PostgreSQL only, and only in the migration.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

# Alembic's newest revision: a start with nothing to migrate does not load alembic.
REVISION: Final = "0002"

metadata: Final = MetaData()

# SQLite numbers rows by itself only in a column of the type INTEGER.
_NUMBER: Final = BigInteger().with_variant(Integer(), "sqlite")


def _texts(*names: str) -> list[Column[str]]:
    return [Column(name, Text, nullable=False) for name in names]


events: Final = Table(
    "events",
    metadata,
    Column("seq", _NUMBER, primary_key=True, autoincrement=False),
    *_texts("time", "kind", "cancellation_id", "body", "prev_hash", "hash"),
    UniqueConstraint("hash", name="uq_events_hash"),
    Index("ix_events_cancellation", "cancellation_id", "seq"),
)

cancellations: Final = Table(
    "cancellations",
    metadata,
    Column("cancellation_id", Text, primary_key=True),
    Column("created", _NUMBER, nullable=False),  # seq of the first event: the order of history
    Column("latest", _NUMBER, nullable=False),  # seq of the newest event
    *_texts("caller_id", "request_id", "account_id", "region", "cluster", "update_id", "phase"),
    Column("pending", Boolean, nullable=False),
    *_texts("record"),  # projection.CancellationRecord
    # Who forwards it, and until when, by the database's clock. NULL on SQLite, which has one gateway.
    Column("replica", Text),
    Column("forward_before", DateTime(timezone=True)),
    UniqueConstraint("caller_id", "request_id", name="uq_cancellations_request"),
    UniqueConstraint("created", name="uq_cancellations_created"),
    Index("ix_cancellations_caller", "caller_id", "created"),
    Index("ix_cancellations_cluster", "account_id", "region", "cluster", "created"),
    Index("ix_cancellations_update", "account_id", "region", "cluster", "update_id", "created"),
    Index(
        "ix_cancellations_pending",
        "created",
        # SQLite uses the index only for this exact condition. PostgreSQL's is in the migration only, as
        # naming it here would load its dialect at every start.
        sqlite_where=text("pending = 1"),
    ),
)

decisions: Final = Table(
    "decisions",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=False),
    *_texts("time", "body"),  # the body is a model.Denial
)

# One row, for tests whether writing works. SQLite only: on PostgreSQL the row in ``replicas`` is the test.
probe: Final = Table(
    "probe",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    *_texts("time"),
)
