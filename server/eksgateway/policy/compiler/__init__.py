"""Compiles checked policy data (the content) to the form that the Rego reads (the index)."""
