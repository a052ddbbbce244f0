"""What was done: intents, outcomes and observations, append-only and hash-chained, on SQL.

``sql_ledger.open_ledger`` opens it for a gateway; ``verify`` and ``listing`` read it from outside.
"""
