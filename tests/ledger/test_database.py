"""Two modules of the ledger choose its database; the others know no SQLite. SQLAlchemy is loaded late."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import eksgateway.ledger.database

LEDGER = Path(eksgateway.ledger.database.__file__).parent
CHOOSING = {"sql_ledger.py", "inspection.py"}


@pytest.mark.parametrize("name", sorted({path.name for path in LEDGER.glob("*.py")} - CHOOSING))
def test_modules_that_do_not_choose_the_database_import_no_sqlite(name: str) -> None:
    imported = re.findall(r"^\s*(?:from|import) (\S+)", (LEDGER / name).read_text(), re.MULTILINE)
    assert not [each for each in imported if "sqlite" in each]


def test_only_migrations_load_sqlalchemy() -> None:
    """A gateway that has nothing to migrate starts without it, on both databases."""
    code = (
        "import sys, eksgateway.ledger.sql_ledger, eksgateway.ledger.postgres.database; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"alembic", "sqlalchemy"} & set(loaded.stdout.split())
