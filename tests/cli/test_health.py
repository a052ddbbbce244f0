"""`eksgateway health --config`: checks the gateway that has these settings."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from eksgateway.cli.local_health import check_local
from eksgateway.errors import SettingsError
from support.authority import CLIENT, SERVER, Authority, Shape, uri
from support.gateway import run_gateway
from support.mtls import build_listeners
from support.simulator import SimulatedEks

ROOT = Path(__file__).parent.parent.parent
NAMES: dict[str, Sequence[x509.GeneralName] | None] = {
    "host": (x509.DNSName("gateway.corp.example"),),
    "wildcard": (x509.DNSName("*.corp.example"),),
    "another address": (x509.IPAddress(ipaddress.ip_address("10.1.2.3")),),
    "SPIFFE": (uri("spiffe://corp.example/gateway"),),
    "none": None,
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def write(config: Path, *listening: dict[str, Any]) -> None:
    """The example's settings with these listeners."""
    raw = yaml.safe_load((ROOT / "config.example.yaml").read_text())
    config.write_text(yaml.safe_dump(raw | {"listeners": list(listening)}))


def plain(listener: dict[str, Any], port: int) -> dict[str, Any]:
    """A listener as an operator writes it in a container, with its bound port."""
    tls = {name: str(path) for name, path in listener["tls"].items()}
    return listener | {"address": f"0.0.0.0:{port}", "tls": tls}


async def health(config: Path, pair: tuple[Path, Path] | None = None) -> int:
    return await asyncio.to_thread(check_local, config, pair, "liveness")


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("demands", [("jwt",), ("mtls", "jwt"), ("both",)], ids="+".join)
async def test_health_trusts_the_served_certificate(
    tmp_path: Path,
    config: Path,
    demands: tuple[str, ...],
    names: Sequence[x509.GeneralName] | None,
) -> None:
    """With any names, for each `demand`."""
    authority = Authority()
    listening = build_listeners(tmp_path, authority, *demands)
    authority.issue(Shape(names=names, extended=(SERVER, CLIENT))).write(tmp_path)
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks, listeners=listening) as here:
        write(config, *map(plain, listening, (each.port for each in here.gateway.listeners)))
        assert await health(config) == 0


async def test_health_shows_another_certificate_if_given(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a gateway whose own certificate is for servers only; without one the check fails."""
    authority = Authority()
    listening = build_listeners(tmp_path, authority, "mtls")
    (folder := tmp_path / "own").mkdir()
    pair = authority.issue().write(folder)
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks, listeners=listening) as here:
        address = f"127.0.0.1:{here.gateway.listeners[0].port}"
        write(config, plain(listening[0], here.gateway.listeners[0].port))
        assert await health(config) == 1
        assert capsys.readouterr().out.splitlines()[-1].startswith(f"not serving: {address}: UNAVAILABLE: ")
        assert await health(config, pair) == 0
    assert await health(config, pair) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"not serving: {address}: Connection refused"


async def test_health_checks_plaintext_on_loopback(tmp_path: Path, config: Path) -> None:
    """A port that the system chooses cannot be checked."""
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks) as here:
        write(config, {"address": here.address})
        assert await health(config) == 0
    write(config, {"address": "127.0.0.1:0"})
    with pytest.raises(SettingsError, match="takes any port"):
        await health(config)


async def test_health_explains_plaintext_where_the_settings_have_tls(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the fault instead of OpenSSL's constant."""
    listening = build_listeners(tmp_path, Authority(), "jwt")
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks) as here:
        write(config, plain(listening[0], int(here.address.rpartition(":")[2])))
        assert await health(config) == 1
    assert "no TLS is spoken there, and the settings have `tls`" in capsys.readouterr().out
