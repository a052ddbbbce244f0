"""Shared by tests: real components, started on port 0 and stopped afterwards."""
