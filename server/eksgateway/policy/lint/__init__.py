"""Finds what is allowed in policy data, and is hardly meant."""
