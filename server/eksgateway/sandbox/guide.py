"""Texts that a sandbox prints: where things are, and commands to copy. At most 80 columns."""

from __future__ import annotations

import shlex
import textwrap
from importlib.resources import files
from string import Template
from typing import Any
from urllib.parse import urlsplit

from eksgateway.sandbox.clusters import CLUSTERS, HOME, SandboxCluster
from eksgateway.sandbox.folder import SandboxFolder


class _UsageTemplate(Template):
    delimiter = "@"  # the commands are full of $ and braces


def opa_instructions(url: str, folder: SandboxFolder) -> str:
    address = urlsplit(url).netloc
    return (
        f"The policy engine is the OPA server at {url}. Start it with\n\n"
        f"  opa run --server --watch --addr {address} {shlex.quote(str(folder.policy))}\n\n"
        "The gateway is ready as soon as OPA answers."
    )


def usage(info: dict[str, Any], folder: SandboxFolder, speed: float) -> str:
    """``info`` is that of ``Sandbox.info``."""
    text = (files("eksgateway.sandbox") / "usage.txt").read_text(encoding="utf-8")
    return _UsageTemplate(text.rstrip("\n")).substitute(
        grpc=info["grpc"],
        simulator=info["simulator"],
        speed=f"{speed:g}",
        account=HOME.account_id,
        region=HOME.region,
        clusters="\n".join(map(_describe, CLUSTERS)),
        variables=shlex.quote(str(folder.variables)),
        data=folder.policy_data,
        ledger=folder.ledger,
        log=folder.log("gateway"),
        pid=info["pids"]["gateway"],
    )


def _describe(cluster: SandboxCluster) -> str:
    about = textwrap.fill(cluster.about, 76, initial_indent="      ", subsequent_indent="      ")
    return f"  {cluster.name}, update {cluster.update_id}\n{about}"
