"""The rights of the gateway's role: what `migrate` grants, and a start requires."""

from __future__ import annotations

from typing import Final

TABLES: Final[dict[str, tuple[str, ...]]] = {
    "alembic_version": ("SELECT",),
    "events": ("SELECT", "INSERT"),
    "cancellations": ("SELECT", "INSERT", "UPDATE"),
    "decisions": ("SELECT", "INSERT", "DELETE"),
    "replicas": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "looks": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "budget": ("SELECT", "INSERT", "UPDATE"),
}
FUNCTIONS: Final = ("draw",)
