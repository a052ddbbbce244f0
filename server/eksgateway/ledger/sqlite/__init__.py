"""The ledger's database in SQLite. Only ``ledger.sql_ledger`` and ``ledger.inspection`` import from here."""
