"""The trigger that refuses changes of events, by every role.

It stops accidents: an owner can drop it, and the hash chain shows what was changed then.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

TRIGGER: Final = "events_refuse_changes"

_STATE: Final = """
SELECT tgenabled::text FROM pg_trigger WHERE tgname = %s AND tgrelid = (
    SELECT oid FROM pg_class WHERE relname = 'events' AND relnamespace = to_regnamespace(%s))
"""
# ALWAYS: also with session_replication_role = replica.
_CREATE: Final = f"""
CREATE OR REPLACE FUNCTION "{{schema}}".refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are only ever appended';
END $$;
CREATE OR REPLACE TRIGGER {TRIGGER} BEFORE UPDATE OR DELETE OR TRUNCATE ON "{{schema}}".events
    FOR EACH STATEMENT EXECUTE FUNCTION "{{schema}}".refuse_change();
ALTER TABLE "{{schema}}".events ENABLE ALWAYS TRIGGER {TRIGGER};
"""


def protect_events(connection: psycopg.Connection[Any], schema: str) -> None:
    """Create or restore the trigger, as the owner. Locks the table only if it has to."""
    if find_weakness(connection, schema):
        connection.execute(_CREATE.format(schema=schema).encode())


def find_weakness(connection: psycopg.Connection[Any], schema: str) -> str:
    """Why the trigger does not refuse every change; empty if it does."""
    rows = connection.execute(_STATE, [TRIGGER, schema]).fetchall()
    if not rows:
        return f"the trigger {TRIGGER} is missing"
    return "" if rows[0][0] == "A" else f"the trigger {TRIGGER} is not enabled ALWAYS"
