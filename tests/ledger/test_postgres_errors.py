"""An error of PostgreSQL has a hint and a reach."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from eksgateway.ledger.postgres.errors import explain, fails_every_write, is_ended


@pytest.mark.parametrize(
    ("state", "whole", "hint"),
    [
        ("28P01", True, "PGPASSFILE"),
        ("3D000", True, "create it"),
        ("3F000", True, "ledger migrate"),
        ("42P01", True, "ledger migrate"),
        ("42501", True, "lacks a right"),
        ("53100", True, "free some space"),
        ("53300", True, "max_connections"),
        ("25006", True, "standby"),
        ("55P03", True, "holds the lock"),
        ("57P01", True, "wait for it"),
        ("57P03", True, "wait for it"),
        ("57014", True, "too slow"),
        ("58030", True, "disk of PostgreSQL"),
        ("25P03", False, "stopped for too long"),
        ("25P04", False, "stopped for too long"),
        ("XX001", False, "backup"),
        ("23505", False, ""),
        ("22P05", False, ""),
    ],
)
def test_errors_have_a_hint_and_a_reach(state: str, whole: bool, hint: str) -> None:
    """The reach: whether other writes would fail too. SQLAlchemy's errors are those that they wrap."""
    error = psycopg.errors.lookup(state)("in PostgreSQL's words")
    for each in (error, OperationalError("SELECT 1", {}, error)):
        assert fails_every_write(each) is whole
        assert explain(each).startswith("in PostgreSQL's words")
        assert hint in explain(each)
        assert ("(" in explain(each)) == bool(hint)


@pytest.mark.parametrize(
    "text", ["", "the connection is lost", "server closed the connection\n\tunexpectedly"]
)
def test_a_lost_connection_fails_every_write(text: str) -> None:
    """Its text is never empty, and has one line."""
    error = psycopg.OperationalError(text)
    assert fails_every_write(error)
    assert is_ended(error)
    assert "see that it runs" in explain(error)
    assert "\n" not in explain(error)
    assert explain(error)[0] != "("


@pytest.mark.parametrize(
    ("state", "ended"), [("57P01", True), ("57P05", True), ("57P03", False), ("23505", False)]
)
def test_only_an_ended_connection_is_replaced_at_once(state: str, ended: bool) -> None:
    """A server that starts would refuse the next one as well."""
    assert is_ended(psycopg.errors.lookup(state)()) is ended
