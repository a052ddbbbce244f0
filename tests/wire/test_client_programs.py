"""The programs of README.md and docs/clients.md, copied without changes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from support.gateway import RunningGateway
from support.processes import run_program
from support.waiting import wait_until

ROOT = Path(__file__).parents[2]
NAMES = ("README.md", "docs/clients.md")


def read_programs(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


@pytest.mark.parametrize("name", NAMES)
async def test_program_of_the_docs_cancels_and_watches_to_the_end(gateway: RunningGateway, name: str) -> None:
    update_id = gateway.eks.rollback("staging-1", update_id="rollback-staging-1", node_replacing_s=60)
    token = gateway.issuer.token("oncall", ("oncall",))
    environment = {"GATEWAY": gateway.address, "ONCALL": token}
    (program,) = read_programs(name)
    async with run_program(sys.executable, "-W", "error", "-u", "-c", program, env=environment) as shown:
        await wait_until(lambda: "Cancelling" in shown.out or shown.process.returncode is not None)
        gateway.eks.advance(61)
        assert await shown.end() == 0, shown.err
    first, *states = shown.out.splitlines()
    assert first.startswith("EKS accepted the cancel ")
    assert states == ["1 Cancelling fresh", "2 Cancelled fresh"]
    assert shown.err == ""
    assert [call.update_id for call in gateway.eks.calls("CancelUpdate")] == [update_id]


async def test_program_of_the_docs_ends_with_the_denial(gateway: RunningGateway) -> None:
    gateway.eks.rollback("staging-1", update_id="rollback-staging-1")
    environment = {"GATEWAY": gateway.address, "ONCALL": gateway.issuer.token("outsider", ())}
    (program,) = read_programs("docs/clients.md")
    async with run_program(sys.executable, "-W", "error", "-c", program, env=environment) as shown:
        assert await shown.end() == 1
    assert re.fullmatch(r"PERMISSION_DENIED POLICY_DENIED [0-9a-f-]{36}\n", shown.err)
