"""Several gateways as processes over one PostgreSQL, and the proof that they keep the promise together."""
