"""What tests of several parts need: an STS, started once for those that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from support.sts import run_moto

# An example that takes over 200 ms is no failure on a loaded machine.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a moto server of this test process."""
    with run_moto(tmp_path_factory.mktemp("moto")) as url:
        yield url
