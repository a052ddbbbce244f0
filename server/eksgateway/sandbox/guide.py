"""Texts that a sandbox prints: where things are, and commands to copy. At most 80 columns."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator
from importlib.resources import files
from string import Template
from typing import Any
from urllib.parse import urlsplit

from eksgateway.sandbox.clusters import CLUSTERS, HOME, SandboxCluster
from eksgateway.sandbox.folder import SandboxFolder
from eksgateway.sandbox.restarts import SERVER_PAUSE_S
from eksgateway.settings.postgres_url import hide_password


class _UsageTemplate(Template):
    delimiter = "@"  # the commands are full of $ and braces


def opa_instructions(url: str, folder: SandboxFolder) -> str:
    address, bundle = urlsplit(url).netloc, shlex.quote(str(folder.bundle))
    return (
        f"The policy engine is the OPA server at {url}. Start it with\n\n"
        f"  opa run --server --watch --addr {address} --bundle {bundle}\n\n"
        "The gateway is ready as soon as OPA answers. After a change of the policy data, run\n\n"
        f"  eksgateway policy bundle {shlex.quote(str(folder.policy_data))} -o {bundle}"
    )


def usage(info: dict[str, Any], folder: SandboxFolder, speed: float) -> str:
    """``info`` is that of ``Sandbox.info``."""
    text = _read("usage.txt") + _read("usage_one.txt" if "ledger" in info else "usage_replicas.txt")
    paragraphs = text.rstrip("\n").split("\n\n")
    if len(info.get("gateways", ())) < 2:
        paragraphs = [each for each in paragraphs if "$GATEWAY_2" not in each]
    if "postgres" not in info["pids"]:  # it is the user's
        paragraphs = [each for each in paragraphs if "@postgres" not in each]
    return _UsageTemplate("\n\n".join(paragraphs)).substitute(
        places="\n".join(f"{name + ':':<15} {place}" for name, place in _list_places(info, folder, speed)),
        account=HOME.account_id,
        region=HOME.region,
        clusters="\n".join(map(_describe, CLUSTERS)),
        variables=shlex.quote(str(folder.variables)),
        data=folder.policy_data,
        verify=f"eksgateway ledger verify {info['ledger']}"
        if "ledger" in info
        else "PGPASSWORD=$DATABASE_PASSWORD eksgateway ledger verify --url $DATABASE",
        ledger=info.get("ledger"),
        pid=info["pids"]["gateway"],
        postgres=info["pids"].get("postgres"),
        pause=f"{SERVER_PAUSE_S:g}",
    )


def _read(name: str) -> str:
    return (files("eksgateway.sandbox") / name).read_text(encoding="utf-8")


def _list_places(info: dict[str, Any], folder: SandboxFolder, speed: float) -> Iterator[tuple[str, str]]:
    if "ledger" in info:
        yield "Gateway", f"{info['grpc']} (gRPC, plaintext, reflection open)"
        yield "Page and JSON", f"{info['http']}/"
    else:
        for number, gateway in enumerate(info["gateways"], 1):
            yield f"Gateway {number}", f"{gateway['grpc']}, {gateway['http']}/, pid {gateway['pid']}"
    yield "Simulated EKS", f"{info['simulator']} (not AWS; at {speed:g} times real speed)"
    yield "Policy data", info["policy_data"]
    yield "Ledger", info.get("ledger") or hide_password(info["database"]).partition("?")[0]
    if "ledger" in info:
        yield "Gateway's log", str(folder.log("gateway"))
    else:
        yield "Gateways' logs", str(folder.log("gateway-*"))


def _describe(cluster: SandboxCluster) -> str:
    about = textwrap.fill(cluster.about, 76, initial_indent="      ", subsequent_indent="      ")
    return f"  {cluster.name}, update {cluster.update_id}\n{about}"
