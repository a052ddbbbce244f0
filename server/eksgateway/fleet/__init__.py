"""The state that several gateways share over one PostgreSQL, beside the ledger."""
