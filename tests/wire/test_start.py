"""`eksgateway serve` that cannot serve reports why and leaves nothing running."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.gateway_process import AWS, GatewayFolder, fail_to_start, run_gateway_process
from support.processes import eksgateway_command, run_program


@pytest.fixture
async def place(tmp_path: Path) -> GatewayFolder:
    """A valid configuration. A start makes no EKS call."""
    return GatewayFolder(tmp_path, "http://127.0.0.1:1")


def change(place: GatewayFolder, **sections: Any) -> None:
    """Replace sections of the settings; None removes one."""
    raw = yaml.safe_load(place.config.read_text()) | sections
    kept = {name: value for name, value in raw.items() if value is not None}
    place.config.write_text(yaml.safe_dump(kept))


def set_missing_ledger_folder(place: GatewayFolder) -> None:
    change(place, ledger={"path": str(place.path / "missing" / "ledger.db")})


def write_text_as_ledger(place: GatewayFolder) -> None:
    place.ledger.write_text("These are my notes. " * 500)


def create_other_database(place: GatewayFolder) -> None:
    with sqlite3.connect(place.ledger) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()


def write_faulty_data(place: GatewayFolder) -> None:
    data = yaml.safe_load((place.path / "data.yaml").read_text())
    data["eksgateway"]["grants"][1]["actions"] = ["cancle"]
    (place.path / "data.yaml").write_text(yaml.safe_dump(data))


def set_missing_tls_files(place: GatewayFolder) -> None:
    tls = {"certificate": str(place.path / "tls.crt"), "key": str(place.path / "tls.key")}
    change(place, listeners=[{"address": "127.0.0.1:0", "tls": tls}])


def write_faulty_data_and_ledger(place: GatewayFolder) -> None:
    write_faulty_data(place)
    write_text_as_ledger(place)


REFUSED: dict[str, tuple[Callable[[GatewayFolder], object], tuple[str, ...]]] = {
    "no identity source": (lambda place: change(place, identity=None), ("identity.jwt.issuers",)),
    "plaintext on every address": (
        lambda place: change(place, listeners=[{"address": "0.0.0.0:0"}]),
        ("0.0.0.0:0", "tls.certificate", "mesh_terminates_tls"),
    ),
    "unknown setting": (lambda place: change(place, polcy={}), ("polcy", "unknown setting")),
    "unknown setting in a section": (
        lambda place: change(place, watch={"pol_s": 1}),
        ("watch.pol_s", "unknown setting"),
    ),
    "faulty policy data": (write_faulty_data, ("data.yaml", "eksgateway.grants[1].actions[0]", "cancle")),
    "policy data missing": (
        lambda place: (place.path / "data.yaml").unlink(),
        ("data.yaml", "cannot be read"),
    ),
    "ledger's folder missing": (set_missing_ledger_folder, ("ledger.db", "is not a folder", "ledger.path")),
    "ledger is no database": (write_text_as_ledger, ("ledger.db", "not a database", "ledger.path")),
    "ledger is another database": (create_other_database, ("ledger.db",)),
    "policy and ledger, of which the policy is told": (write_faulty_data_and_ledger, ("data.yaml", "cancle")),
    "TLS files missing": (set_missing_tls_files, ("tls.crt", "No such file")),
    "settings missing": (lambda place: place.config.unlink(), ("config.yaml", "cannot be read")),
    "settings not YAML": (lambda place: place.config.write_text("a: [b"), ("config.yaml", "is not YAML")),
    "settings empty": (lambda place: place.config.write_text(""), ("config.yaml", "config.example.yaml")),
}


@pytest.mark.parametrize(("spoil", "told"), REFUSED.values(), ids=REFUSED)
async def test_serve_with_bad_settings_fails_with_one_message(
    place: GatewayFolder, spoil: Callable[[GatewayFolder], object], told: tuple[str, ...]
) -> None:
    """No traceback, exit code 1."""
    spoil(place)
    message = await fail_to_start(place.config)
    assert [text for text in told if text not in message] == [], message


NOT_READY: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "credentials that do not exist": (
        {"AWS_PROFILE": "no-such-profile"},
        ("AWS credentials cannot be used", "ProfileNotFound"),
    ),
    "a value that boto3 does not know": (
        {"AWS_STS_REGIONAL_ENDPOINTS": "somewhere"},
        ("boto3", "InvalidSTSRegionalEndpointsConfigError", "AWS_"),
    ),
}


@pytest.mark.parametrize(("variables", "expected"), NOT_READY.values(), ids=NOT_READY)
async def test_serve_with_unusable_aws_settings_ends_before_readiness(
    place: GatewayFolder, variables: dict[str, str], expected: tuple[str, ...]
) -> None:
    command = eksgateway_command("serve", "--config", str(place.config))
    async with run_program(*command, env=AWS | variables) as running:
        assert await running.end() == 1
        told = [line for line in running.err.splitlines() if line.startswith("eksgateway: ")]
        assert len(told) == 1
        assert [text for text in expected if text not in told[0]] == [], told[0]
        assert "Traceback" not in running.err
        assert "health.readiness" not in running.err


async def test_serve_on_a_taken_port_fails_and_releases_the_ledger(place: GatewayFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        change(place, listeners=[{"address": listen}])
        message = await fail_to_start(place.config)
        *logged, told = message.splitlines()
        assert listen in told
        assert [json.loads(line)["level"] for line in logged] == ["info"] * len(logged)
    async with run_gateway_process(place) as served:
        assert await served.end() == 0


async def test_second_process_on_a_ledger_is_refused(place: GatewayFolder) -> None:
    async with run_gateway_process(place) as first:
        message = await fail_to_start(place.config)
        assert "another gateway process uses this ledger" in message
        assert await first.end() == 0
    async with run_gateway_process(place) as second:
        assert await second.end() == 0


async def test_health_exits_with_0_only_while_the_gateway_serves(place: GatewayFolder) -> None:

    async def health(*arguments: str) -> tuple[int, str, str]:
        async with run_program(*eksgateway_command("health", *arguments)) as running:
            return await running.end(), running.out.strip(), running.err

    async with run_gateway_process(place) as served:
        address = ("--address", served.address)
        async with asyncio.timeout(60):
            while (ready := await health(*address))[0] != 0:
                pass
        assert ready == (0, "SERVING", "")
        alive, unknown = await asyncio.gather(
            health(*address, "--service", "liveness"), health(*address, "--service", "no.such.Service")
        )
        assert alive == (0, "SERVING", "")
        assert unknown == (
            1,
            f"not serving: {served.address}: NOT_FOUND: This gateway has no health service of that name.",
            "",
        )
        assert await served.end() == 0
        code, out, err = await health(*address)
        assert (code, err) == (1, "")
        assert out.startswith(f"not serving: {served.address}: UNAVAILABLE: ")
        assert "Connection refused" in out
    code, _, err = await health("--ca", str(place.path / "ca.pem"))
    assert code == 1
    assert "ca.pem" in err
    assert "Traceback" not in err
