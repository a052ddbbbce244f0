"""A process that is killed while it writes leaves a sound ledger."""

from __future__ import annotations

import pytest

from eksgateway.clock import SystemClock
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.ledger.verify import verify
from eksgateway.model import OutcomeKind
from eksgateway.settings import LedgerSettings
from support.ledger import file_of, kill_after


@pytest.mark.parametrize("acknowledged", [1, 150])
async def test_a_killed_process_loses_no_acknowledged_intent(
    settings: LedgerSettings, acknowledged: int
) -> None:
    """The ledger is sound, and open cancellations are pending."""
    ids = kill_after(acknowledged, settings.url or file_of(settings))
    assert len(ids) >= acknowledged
    assert verify(settings.location).broken is None

    ledger = await open_ledger(settings, SystemClock())
    found = {each.id: each for each in [await ledger.get(each) for each in ids] if each is not None}
    assert found.keys() == set(ids)
    pending = await ledger.pending()
    assert {each.outcome and each.outcome.kind for each in (one.cancellation for one in pending)} <= {
        None,
        OutcomeKind.ACCEPTED,
    }
    await ledger.close()
    assert verify(settings.location).broken is None
