"""An edge that would be unsafe does not start, and one that is off costs nothing."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from eksgateway.settings import HttpSettings, Settings, SettingsError
from support.edge import RunningEdge, run_edge
from support.gateway import run_gateway
from support.gateway_process import GatewayFolder, fail_to_start
from support.simulator import SimulatedEks

TLS = {"certificate": "tls.crt", "key": "tls.key", "client_ca": "ca.crt"}


def listener(demand: str, address: str = "127.0.0.1:1") -> dict[str, Any]:
    if demand == "jwt":
        return {"address": address, "mesh_terminates_tls": True}
    return {"address": address, "demand": demand, "tls": TLS, "trust_domain": "corp.example"}


def settings(http: dict[str, Any], *listeners: dict[str, Any]) -> Settings:
    issuer = {"name": "corp", "issuer": "https://idp.example", "audience": "eksgateway", "jwks": "jwks.json"}
    return Settings.model_validate(
        {
            "listeners": listeners or [listener("jwt")],
            "identity": {"jwt": {"issuers": [issuer]}},
            "policy": {"engine": "wasm", "data": "data.yaml"},
            "ledger": {"path": "ledger.db"},
            "eks": {"targets": [{"account_id": "111122223333", "region": "us-east-1"}]},
            "http": http,
        }
    )


ANYWHERE = {"listen": "0.0.0.0:8080", "proxy_terminates_tls": True}
HERE = {"listen": "127.0.0.1:8080"}


@pytest.mark.parametrize("demands", [["mtls"], ["both"], ["both", "mtls"]], ids=str)
def test_edge_beside_certificates_alone_is_refused(demands: list[str]) -> None:
    """A token alone must not do what needs a certificate elsewhere."""
    with pytest.raises(ValidationError, match="every listener demands a certificate"):
        settings(HERE, *map(listener, demands))


@pytest.mark.parametrize("demand", ["mtls", "both"])
def test_edge_takes_tokens_only_where_a_listener_does(demand: str) -> None:
    """A listener for tokens on loopback opens no edge on the network."""
    listeners = [listener(demand, "0.0.0.0:2"), listener("jwt")]
    assert settings(HERE, *listeners).http.listen
    with pytest.raises(ValidationError, match=r"from where `http\.listen: 0\.0\.0\.0:8080` is reached"):
        settings(ANYWHERE, *listeners)
    assert settings(ANYWHERE, *listeners, listener("jwt", "0.0.0.0:3")).http.listen


@pytest.mark.parametrize(
    ("http", "named"),
    [
        ({"listen": "0.0.0.0:8080"}, "proxy_terminates_tls"),
        ({"listen": "gateway.example:80"}, "tokens would cross the network"),
        ({"listen": "8080"}, "host:port"),
        ({"listen": "unix:/tmp/socket"}, "host:port"),
        ({"listen": "127.0.0.1:8080", "streams": 0}, "greater than 0"),
        ({"listen": "127.0.0.1:8080", "calls": True}, "must be a number"),
        ({"listen": "127.0.0.1:8080", "tls": {}}, "Extra inputs"),
        ("127.0.0.1:8080", "valid dictionary"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(http: Any, named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        settings(http)


@pytest.mark.parametrize("demand", ["mtls", "both"])
async def test_process_names_the_fault(tmp_path: Path, eks: SimulatedEks, demand: str) -> None:
    place = GatewayFolder(tmp_path, eks.url)
    text = place.config.read_text().replace(
        "- address: 127.0.0.1:0",
        f"- {{address: '127.0.0.1:0', demand: {demand}, trust_domain: corp.example,"
        " tls: {certificate: a, key: b, client_ca: c}}",
    )
    place.config.write_text(text + "http: {listen: '127.0.0.1:0'}\n")
    errors = await fail_to_start(place.config)
    assert "demands a certificate" in errors
    assert "`http.listen`" in errors


async def test_address_in_use_is_named(edge: RunningEdge, tmp_path: Path, eks: SimulatedEks) -> None:
    address = edge.url.removeprefix("http://")
    (tmp_path / "second").mkdir()
    with pytest.raises(SettingsError, match=f"cannot listen on {address}: .*http.listen"):
        async with run_edge(tmp_path / "second", eks, {"listen": address}):
            pass


async def test_readiness_is_that_of_the_gateway(edge: RunningEdge) -> None:
    """The edge is no part of it, and serves before it."""
    assert "http" not in edge.gateway.gateway.checks
    await edge.gateway.wait_for_readiness()


async def test_without_an_edge_nothing_of_it_is_imported(tmp_path: Path, eks: SimulatedEks) -> None:
    code = "import sys, eksgateway.app, eksgateway.gateway; print('eksgateway.edge' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert (await process.communicate())[0] == b"False\n"
    async with run_gateway(tmp_path, eks) as gateway:
        assert gateway.gateway.edge is None
    assert HttpSettings().listen is None
