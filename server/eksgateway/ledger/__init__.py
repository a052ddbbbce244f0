"""The append-only, hash-chained record of intents, outcomes and observations, in an SQL database.

``sql_ledger.open_ledger`` opens it for a gateway; ``verify`` and ``inspection`` read it from outside.
"""
