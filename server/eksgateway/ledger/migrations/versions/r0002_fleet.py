"""Several gateways over one PostgreSQL: who forwards a cancel, and the tables that they share."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Times are of the database's clock. `looks` and `budget` change all the time: with room in each page and no
# index but the key, PostgreSQL changes their rows in place (HOT).
_TABLES = """
CREATE TABLE replicas (
    id uuid PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
);
CREATE TABLE looks (
    key text COLLATE "C" PRIMARY KEY,
    body text COLLATE "C",
    looked_at timestamptz,
    changed_at timestamptz,
    looked_by uuid,
    failure text COLLATE "C",
    failed_at timestamptz,
    not_before timestamptz,
    claimed_by uuid,
    claimed_until timestamptz
) WITH (fillfactor = 50);
CREATE TABLE budget (
    target text COLLATE "C" PRIMARY KEY,
    whole float8 NOT NULL,
    rate float8 NOT NULL,
    size float8 NOT NULL,
    reserve float8 NOT NULL,
    tokens float8 NOT NULL,
    at timestamptz NOT NULL,
    halved_at timestamptz
) WITH (fillfactor = 20);
"""


def upgrade() -> None:
    op.add_column("cancellations", sa.Column("replica", _text()))
    op.add_column("cancellations", sa.Column("forward_before", sa.DateTime(timezone=True)))
    if op.get_bind().dialect.name == "postgresql":
        op.drop_table("probe")  # the row in `replicas` is the test whether writing works
        draw = Path(__file__).with_name("r0002_draw.sql").read_text("utf-8")
        # Over the driver's own cursor, which takes several statements and reads no parameters in them.
        cursor = op.get_bind().connection.cursor()
        for statements in (_TABLES, draw):
            cursor.execute(statements)


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
