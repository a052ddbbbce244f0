"""A process that is killed at full speed leaves a sound ledger with all that it acknowledged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eksgateway.clock import SystemClock
from eksgateway.ledger.sql import open_ledger
from eksgateway.ledger.verify import verify
from eksgateway.model import OutcomeKind
from eksgateway.settings import LedgerSettings

PROGRAM = Path(__file__).with_name("writing_process.py")
TESTS = PROGRAM.parent.parent


def killed_after(acknowledged: int, path: Path) -> list[str]:
    """The ids that a writing process had acknowledged when it was killed: at least that many."""
    child = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
    )
    with child:
        assert child.stdout is not None
        ids = [child.stdout.readline().strip() for _ in range(acknowledged)]
        child.kill()
        # What stood in the pipe was acknowledged as well; a last line may be torn.
        ids += [line.strip() for line in child.stdout if line.endswith("\n")]
    return ids


@pytest.mark.parametrize("acknowledged", [1, 150])
async def test_killed(settings: LedgerSettings, acknowledged: int) -> None:
    """Every intent that was acknowledged is there, the chain holds, and what is open is pending."""
    ids = killed_after(acknowledged, settings.path)
    assert len(ids) >= acknowledged
    assert verify(settings.path).broken is None

    ledger = await open_ledger(settings, SystemClock())
    found = {each.id: each for each in [await ledger.get(each) for each in ids] if each is not None}
    assert found.keys() == set(ids)
    pending = await ledger.pending()
    assert {each.outcome and each.outcome.kind for each in pending} <= {None, OutcomeKind.ACCEPTED}
    await ledger.close()
    assert verify(settings.path).broken is None
