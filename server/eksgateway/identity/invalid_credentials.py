"""The error for invalid credentials. It repeats no part of them."""

from __future__ import annotations

from eksgateway.errors import CredentialsInvalid


def invalid_credentials(check: str, message: str) -> CredentialsInvalid:
    """``message`` is a fixed sentence."""
    error = CredentialsInvalid(message, metadata={"check": check})
    error.check = check
    return error
