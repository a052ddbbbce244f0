"""How credentials are refused: by naming the check that failed, and never what was sent."""

from __future__ import annotations

from eksgateway.errors import CredentialsInvalid


def invalid(check: str, message: str) -> CredentialsInvalid:
    """The refusal to raise; ``message`` is a fixed sentence."""
    error = CredentialsInvalid(message, metadata={"check": check})
    error.check = check
    return error
