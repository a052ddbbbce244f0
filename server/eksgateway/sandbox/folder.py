"""The sandbox's folder: public keys, policy data, settings and variables, new at each start."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml

from eksgateway.file_writer import replace_file
from eksgateway.sandbox.clusters import HOME
from eksgateway.settings import IssuerSettings

# The callers and their groups. The grants are in grants.yaml.
CALLERS: Final[Mapping[str, tuple[str, ...]]] = {"oncall": ("oncall",), "viewer": ("viewer",), "outsider": ()}


# A user's own settings of `eksgateway`, which are for other gateways.
_OTHERS_OF_A_USER: Final = tuple(
    f"EKSGATEWAY_{name}"
    for name in ("CONTEXT", "CA", "PLAINTEXT", "CERTIFICATE", "KEY", "TOKEN_FILE", "TOKEN_COMMAND")
)


class SandboxFolder:
    """Its paths. ``bundle`` is what a user's OPA loads, made from ``policy_data``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.policy = path / "policy"
        self.policy_data = self.policy / "data.yaml"
        self.bundle = self.policy / "bundle.tar.gz"
        self.ledger = path / "ledger.db"
        self.variables = path / "env.sh"
        self.contexts = path / "contexts.yaml"
        self.jwks = path / "jwks.json"

    def config(self, name: str) -> Path:
        return self.path / f"{name}.yaml"

    def log(self, name: str) -> Path:
        return self.path / f"{name}.log"


def write_policy(folder: SandboxFolder, *, for_opa: bool) -> None:
    folder.policy.mkdir()
    grants = (files("eksgateway.sandbox") / "grants.yaml").read_bytes()
    replace_file(folder.policy_data, grants, mode=0o644)
    if for_opa:  # imported where used: these take 0.1 s
        from eksgateway.policy.bundle.archive import make_bundle  # noqa: PLC0415 - as above
        from eksgateway.policy.compiled_policy import compile_policy  # noqa: PLC0415 - as above
        from eksgateway.policy.source import read_sources  # noqa: PLC0415 - as above

        compiled = compile_policy(read_sources(folder.policy_data))
        replace_file(folder.bundle, make_bundle(compiled.data, compiled.revision), mode=0o644)


def gateway_settings(
    folder: SandboxFolder,
    *,
    simulator: str,
    issuer: IssuerSettings,
    opa_url: str | None,
    ledger: Mapping[str, str],
) -> dict[str, Any]:
    """The settings of each gateway, without its listener."""
    policy: dict[str, Any] = {"engine": "wasm", "data": str(folder.policy_data)}
    if opa_url:
        policy = {"engine": "opa", "opa": {"url": opa_url}}
    return {
        "reflection": "open",
        "identity": {"jwt": {"issuers": [issuer.model_dump(mode="json")]}},
        "policy": policy,
        "ledger": dict(ledger),
        # Simulated updates change within seconds, and the simulated EKS is not throttled by default.
        "eks": {"targets": [{**asdict(HOME), "endpoint_url": simulator}], "calls_per_s": 100},
        "watch": {"poll_s": 0.5, "follow_s": 2},
    }


def write_variables(
    folder: SandboxFolder, gateways: Sequence[str], variables: Mapping[str, str], tokens: Mapping[str, str]
) -> None:
    """Write the variables of the printed commands, and the contexts. ``gateways`` are addresses.

    `eksgateway` calls as oncall, and with `--context` as that caller.
    """
    address = gateways[0] if len(gateways) == 1 else f"ipv4:{','.join(gateways)}"  # the first that answers
    contexts = {}
    for name, token in tokens.items():
        replace_file(folder.path / f"{name}.token", token.encode())
        contexts[name] = {"address": address, "token_file": f"{name}.token"}
    replace_file(folder.contexts, yaml.safe_dump({"contexts": contexts}, sort_keys=False).encode())
    values = {
        "GATEWAY": gateways[0],
        "EKSGATEWAY_CONFIG": str(folder.contexts),
        "EKSGATEWAY_ADDRESS": address,
        "EKSGATEWAY_TOKEN": tokens["oncall"],
        **variables,
    }
    values |= {f"GATEWAY_{number}": each for number, each in enumerate(gateways[1:], 2)}
    values |= {name.upper(): token for name, token in tokens.items()}
    lines = [f"unset {' '.join(_OTHERS_OF_A_USER)}\n"]
    lines += [f"export {name}={shlex.quote(value)}\n" for name, value in values.items()]
    tools = (sys.executable, shutil.which("grpcurl"))
    places = dict.fromkeys(str(Path(tool).parent) for tool in tools if tool)
    lines.append(f"export PATH={shlex.quote(os.pathsep.join(places))}:$PATH\n")
    replace_file(folder.variables, "".join(lines).encode())


def gateway_environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The user's environment without its AWS variables, and with credentials of the simulated account.

    The access key names the account: see ``simulator.signatures``. It is not valid at AWS.
    """
    kept = {name: value for name, value in base.items() if not name.upper().startswith(("AWS_", "BOTO_"))}
    return kept | {
        "AWS_ACCESS_KEY_ID": f"AKIA{HOME.account_id}",
        "AWS_SECRET_ACCESS_KEY": "simulated",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
