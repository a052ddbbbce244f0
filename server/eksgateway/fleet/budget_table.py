"""The statements on the table ``budget``, which has a row for each target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from eksgateway.fleet.connections import FleetConnection
from eksgateway.model import Target

_DRAW: Final = """
    SELECT n, granted_urgent, granted_other, wait_s, whole_rate, rate_now,
        extract(epoch FROM drawn_at)::float8, halved
    FROM unnest(%(targets)s::text[], %(urgent)s::int[], %(other)s::int[], %(back)s::float8[],
                %(throttled)s::float8[])
        WITH ORDINALITY AS asked (target, urgent, other, back, throttled, n),
    LATERAL {draw}(asked.target, asked.urgent, asked.other, asked.back, to_timestamp(asked.throttled))
"""
# Returns the targets that had another rate. A rate that throttling has lowered stays lowered in proportion.
_DECLARE: Final = """
    WITH before AS (SELECT target, whole FROM {budget} WHERE target = ANY(%(targets)s)),
    declared AS (
        INSERT INTO {budget} AS b (target, whole, rate, size, reserve, tokens, at)
        SELECT target, %(rate)s, %(rate)s, %(size)s, %(reserve)s, %(size)s, clock_timestamp()
        FROM unnest(%(targets)s::text[]) AS target ORDER BY target
        ON CONFLICT (target) DO UPDATE SET whole = excluded.whole, rate = b.rate * excluded.whole / b.whole,
            size = excluded.size, reserve = excluded.reserve, tokens = least(b.tokens, excluded.size)
        WHERE b.whole <> excluded.whole
        RETURNING target
    )
    SELECT target, whole FROM declared JOIN before USING (target)
"""


@dataclass(frozen=True, slots=True)
class Draw:
    """Tokens wanted from a target's row. ``back`` tokens are returned, or paid later where it is negative.

    ``throttled`` is when a call began that EKS throttled, by PostgreSQL's clock (POSIX seconds).
    """

    target: Target
    urgent: int = 0
    other: int = 0
    back: float = 0
    throttled: float | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """``wait`` is in seconds until the next token, if one was refused. ``rate`` is the row's now, and
    ``full_rate`` without throttling. ``time`` is PostgreSQL's (POSIX seconds).
    """

    urgent: int
    other: int
    wait: float
    full_rate: float
    rate: float
    time: float
    halved: bool


class BudgetTable:
    """Raises FleetUnavailable."""

    def __init__(self, connection: FleetConnection, schema: str) -> None:
        self._connection = connection
        self._draw = sql.SQL(_DRAW).format(draw=sql.Identifier(schema, "draw"))
        self._declare = sql.SQL(_DECLARE).format(budget=sql.Identifier(schema, "budget"))

    async def draw(self, draws: Sequence[Draw]) -> list[Drawn | None]:
        """One statement for all. None for a target that has no row."""
        # Every replica locks the rows in the same order, so that they cannot wait for one another.
        order = sorted(range(len(draws)), key=lambda index: _key(draws[index].target))
        each = [draws[index] for index in order]
        rows = await self._connection.fetch(
            self._draw,
            {
                "targets": [_key(draw.target) for draw in each],
                "urgent": [draw.urgent for draw in each],
                "other": [draw.other for draw in each],
                "back": [draw.back for draw in each],
                "throttled": [draw.throttled for draw in each],
            },
        )
        answers: list[Drawn | None] = [None] * len(draws)
        for n, *drawn in rows:
            answers[order[n - 1]] = Drawn(*drawn)
        return answers

    async def declare(
        self, targets: Sequence[Target], rate: float, reserve: float, size: float
    ) -> dict[Target, float]:
        """Create the targets' rows, or change their rate. Returns the earlier rates that were others."""
        keys = {_key(target): target for target in targets}
        values = {"targets": sorted(keys), "rate": rate, "reserve": reserve, "size": size}
        return {keys[key]: before for key, before in await self._connection.fetch(self._declare, values)}


def _key(target: Target) -> str:
    return f"{target.account_id}/{target.region}"
