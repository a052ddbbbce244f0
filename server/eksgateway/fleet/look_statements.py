"""SQL of the table ``looks``. Each statement takes many keys. It orders or skips locks: none can deadlock.

A time that the database's clock has not reached (it was set back, or another server took over) counts as
absent. A replica that notices this removes the times of all looks (``void``): the clock will reach them. The
last column of a row, if any, is the database's time.

Commits do not wait for the disk: what a crash of PostgreSQL loses here is read from EKS again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, LiteralString

from psycopg import sql

_NEWEST: Final = sql.SQL("greatest(known.looked_at, known.failed_at)")  # when the newest look began
_PARTS: Final = {
    "newest": _NEWEST,
    "valid": sql.SQL("""coalesce(
        {newest} <= clock_timestamp()
        AND ({newest} > known.not_before OR known.not_before IS NULL OR known.not_before > clock_timestamp())
        , false)""").format(newest=_NEWEST),
    # The second of slack is for a claim that was committed while this statement waited for the row.
    "claimed": sql.SQL("""coalesce(
        known.claimed_by <> %(me)s
        AND known.claimed_until > clock_timestamp()
        AND known.claimed_until <= clock_timestamp() + %(claim)s + interval '1 s'
        , false)"""),
    # Rows are locked for the time of a statement. A longer wait must not go on in PostgreSQL.
    "fast": sql.SQL("""set_config('synchronous_commit', 'off', true) AS fast,
        set_config('lock_timeout', '1000', true) AS quick"""),
}

_READ: Final = """
SELECT known.key, known.body, known.failure, known.looked_at,
    extract(epoch FROM clock_timestamp() - {newest})::float8,
    extract(epoch FROM clock_timestamp() - known.changed_at)::float8,
    coalesce(known.looked_by = %(me)s, false), {valid}, {claimed},
    clock_timestamp()
FROM {looks} AS known WHERE known.key = ANY(%(keys)s)
"""

_CLAIM: Final = """
WITH asked AS (
    SELECT asked.* FROM {fast}, unnest(%(keys)s::text[], %(ages)s::float8[]) AS asked(key, max_age)
), added AS (
    INSERT INTO {looks} (key, claimed_by, claimed_until)
    SELECT key, %(me)s, clock_timestamp() + %(claim)s FROM asked
    WHERE NOT EXISTS (SELECT FROM {looks} AS known WHERE known.key = asked.key) ORDER BY key
    ON CONFLICT DO NOTHING RETURNING key, clock_timestamp() AS began
), free AS (
    SELECT known.key FROM {looks} AS known JOIN asked USING (key)
    WHERE NOT {claimed}
    AND NOT ({valid} AND {newest} > clock_timestamp() - make_interval(secs => asked.max_age))
    FOR UPDATE OF known SKIP LOCKED
), claimed AS (
    UPDATE {looks} AS known SET claimed_by = %(me)s, claimed_until = clock_timestamp() + %(claim)s
    FROM free WHERE known.key = free.key RETURNING known.key, clock_timestamp() AS began
)
SELECT key, began FROM added UNION ALL SELECT key, began FROM claimed
"""

_REPORT: Final = """
WITH made AS (
    SELECT made.* FROM {fast}, unnest(
        %(keys)s::text[], %(times)s::timestamptz[], %(bodies)s::text[], %(failures)s::text[]
    ) AS made(key, began, body, failure)
), new AS (
    SELECT made.*, known.body AS old_body, known.failure AS old_failure
    FROM {looks} AS known JOIN made USING (key)
    WHERE coalesce({newest} < made.began OR {newest} > clock_timestamp(), true)
    AND coalesce(known.not_before < made.began OR known.not_before > clock_timestamp(), true)
    ORDER BY known.key FOR UPDATE OF known
), written AS (
    UPDATE {looks} AS known SET
        body = coalesce(new.body, known.body),
        looked_at = CASE WHEN new.failure IS NULL THEN new.began
            WHEN known.looked_at < new.began THEN known.looked_at END,
        changed_at = CASE WHEN new.body <> known.body OR known.body IS NULL THEN new.began
            WHEN known.changed_at < new.began THEN known.changed_at ELSE new.began END,
        looked_by = %(me)s,
        failure = new.failure,
        failed_at = CASE WHEN new.failure IS NOT NULL THEN new.began END,
        not_before = NULL,
        claimed_until = CASE WHEN known.claimed_by = %(me)s THEN clock_timestamp()
            ELSE known.claimed_until END
    FROM new WHERE known.key = new.key
    RETURNING known.key, new.began, known.changed_at, known.body IS DISTINCT FROM new.old_body
        OR known.failure IS DISTINCT FROM new.old_failure AS has_changed
)
SELECT key, began, extract(epoch FROM clock_timestamp() - changed_at)::float8, has_changed,
    clock_timestamp()
FROM written
"""

_FREE: Final = """
UPDATE {looks} AS known SET claimed_until = clock_timestamp()
FROM {fast}, (
    SELECT key FROM {looks} WHERE key = ANY(%(keys)s) AND claimed_by = %(me)s ORDER BY key FOR UPDATE
) AS mine WHERE known.key = mine.key
"""

_FORGET: Final = """
UPDATE {looks} AS known SET not_before = clock_timestamp(), claimed_until = clock_timestamp()
FROM {fast}, (SELECT key FROM {looks} WHERE key = ANY(%(keys)s) ORDER BY key FOR UPDATE) AS named
WHERE known.key = named.key RETURNING known.key, clock_timestamp()
"""

_VOID: Final = """
UPDATE {looks} AS known SET looked_at = NULL, changed_at = NULL, failure = NULL, failed_at = NULL
FROM {fast}, (SELECT key FROM {looks} ORDER BY key FOR UPDATE) AS old WHERE known.key = old.key
"""

_CLEAN: Final = """
DELETE FROM {looks} AS known USING {fast}, (
    SELECT key FROM {looks}
    WHERE greatest(looked_at, failed_at, not_before, claimed_until) < clock_timestamp() - interval '1 h'
    LIMIT 1000 FOR UPDATE SKIP LOCKED
) AS old WHERE known.key = old.key
"""


@dataclass(frozen=True, slots=True)
class LookStatements:
    """For one schema. ``look_table`` has their parameters and rows."""

    read: sql.Composed
    claim: sql.Composed
    report: sql.Composed
    free: sql.Composed
    forget: sql.Composed
    void: sql.Composed
    clean: sql.Composed

    @classmethod
    def of_schema(cls, schema: str) -> LookStatements:
        looks = sql.Identifier(schema, "looks")

        def compose(text: LiteralString) -> sql.Composed:
            return sql.SQL(text).format(looks=looks, **_PARTS)

        return cls(*map(compose, (_READ, _CLAIM, _REPORT, _FREE, _FORGET, _VOID, _CLEAN)))
