"""`eksgateway serve` as a process, with a simulated EKS in the test's process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from eksgateway.sandbox.issuer import ThrowawayIssuer
from support.gateway import ACCOUNT, POLICY_DATA, Client, settings_for
from support.processes import RunningProgram, eksgateway_command, run_program
from support.waiting import wait_until

# The default credential chain finds these only.
AWS = {
    "AWS_ACCESS_KEY_ID": f"AKIA{ACCOUNT}",
    "AWS_SECRET_ACCESS_KEY": "simulated",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class GatewayFolder:
    """The settings file and state of a gateway, which several processes may use in turn."""

    def __init__(self, path: Path, eks_url: str, **sections: Any) -> None:
        """Writes a settings file; ``sections`` as in ``settings_for``."""
        self.path = path
        self.issuer = ThrowawayIssuer("test")
        self.config = path / "config.yaml"
        self.ledger = path / "ledger.db"
        (path / "data.yaml").write_text(yaml.safe_dump(POLICY_DATA))
        settings = settings_for(path, eks_url, self.issuer, **sections)
        self.config.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_unset=True)))


class GatewayProcess(Client):
    """A running gateway process."""

    def __init__(self, running: RunningProgram, address: str, issuer: ThrowawayIssuer) -> None:
        super().__init__(address, issuer)
        self.program = running
        self.process = running.process

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log events. Raises ValueError for a line that is not JSON."""
        return [json.loads(line) for line in self.program.err.splitlines()]

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Its access log."""
        return [line for line in self.lines if line["event"] == "rpc.call"]

    async def end(self) -> int:
        """Send SIGTERM; returns the exit code."""
        self.process.terminate()
        return await self.program.end()


@asynccontextmanager
async def run_gateway_process(
    place: GatewayFolder, *within: str, shell: str = "", env: Mapping[str, str] = AWS
) -> AsyncIterator[GatewayProcess]:
    """Run a gateway process. ``within`` is a command that runs it; ``shell`` runs first, e.g. `ulimit`."""
    command = (*within, *eksgateway_command("serve", "--config", str(place.config)))
    if shell:
        command = ("bash", "-c", f'{shell}; exec "$@"', "bash", *command)
    async with run_program(*command, env=env) as running:
        await wait_until(lambda: running.out.endswith("\n") or running.process.returncode is not None)
        assert running.out.startswith("Serving gRPC on "), running.err
        served = GatewayProcess(running, running.out.split()[-1], place.issuer)
        try:
            yield served
        finally:
            await served.channel.close()


async def fail_to_start(config: Path) -> str:
    """Run a `serve` that fails; returns its standard error."""
    async with run_program(*eksgateway_command("serve", "--config", str(config)), env=AWS) as running:
        assert await running.end() == 1
        assert running.out == ""
        assert "Traceback" not in running.err
        assert running.err.count("eksgateway: ") == 1
        return running.err
