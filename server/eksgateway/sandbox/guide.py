"""Texts that a sandbox prints: where things are, and commands to copy. At most 80 columns."""

from __future__ import annotations

import shlex
import textwrap
from typing import Any, Final
from urllib.parse import urlsplit

from eksgateway.sandbox.folder import SandboxFolder


def opa_instructions(url: str, folder: SandboxFolder) -> str:
    """How to start the OPA server for the engine opa."""
    address = urlsplit(url).netloc
    return (
        f"The policy engine is the OPA server at {url}. Start it with\n\n"
        f"  opa run --server --watch --addr {address} {shlex.quote(str(folder.policy))}\n\n"
        "The gateway is ready as soon as OPA answers."
    )


def usage(info: dict[str, Any], folder: SandboxFolder, speed: float) -> str:
    """Addresses, files, clusters, callers, and commands to copy."""
    # Not str.format: the commands are full of braces.
    text = _USAGE.replace("CLUSTERS", _clusters(info["clusters"]))
    values = {
        "@grpc": info["grpc"],
        "@simulator": info["simulator"],
        "@speed": f"{speed:g}",
        "@account": info["clusters"][0]["account_id"],
        "@region": info["clusters"][0]["region"],
        "@variables": shlex.quote(str(folder.variables)),
        "@data": info["policy_data"],
        "@ledger": info["ledger"],
        "@log": str(folder.log("gateway")),
        "@pid": str(info["pids"]["gateway"]),
    }
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _clusters(clusters: list[dict[str, Any]]) -> str:
    blocks = []
    for cluster in clusters:
        about = textwrap.fill(cluster["about"], 76, initial_indent="      ", subsequent_indent="      ")
        blocks.append(f"  {cluster['name']}, update {cluster['update_id']}\n{about}")
    return "\n".join(blocks)


_USAGE: Final = """\
Gateway:        @grpc (gRPC, plaintext, reflection open)
Simulated EKS:  @simulator (not AWS; at @speed times real speed)
Policy data:    @data
Ledger:         @ledger
Gateway's log:  @log

Clusters, in account @account, @region
CLUSTERS

Callers, by token (valid for 12 hours)
  $ONCALL    everything on prod-* (a cancel needs a reason and a ticket) and
             on staging-*
  $VIEWER    may get, list and watch everything, and cancel nothing
  $OUTSIDER  nothing

Set the variables that the commands below use. Then copy any of them.
  . @variables

List the methods:
  grpcurl -plaintext $GATEWAY list
  grpcurl -plaintext $GATEWAY describe eksgateway.v1.UpdateService

Check whether a cancel would be allowed, and could succeed now:
  grpcurl -plaintext -H "authorization: Bearer $ONCALL" -d '{
    "cluster": {"name": "prod-1"}, "update_id": "rollback-prod-1",
    "reason": "bad AMI", "ticket": "OPS-12"
  }' $GATEWAY eksgateway.v1.UpdateService/CheckCancelUpdate

Cancel without a ticket, which is denied:
  grpcurl -plaintext -H "authorization: Bearer $ONCALL" -d '{
    "cluster": {"name": "prod-1"}, "update_id": "rollback-prod-1",
    "reason": "bad AMI"
  }' $GATEWAY eksgateway.v1.UpdateService/CancelUpdate

Watch an update until it ends (in another terminal, before the cancel):
  grpcurl -plaintext -H "authorization: Bearer $VIEWER" -d '{
    "cluster": {"name": "prod-1"}, "update_id": "rollback-prod-1"
  }' $GATEWAY eksgateway.v1.UpdateService/WatchUpdate

Cancel:
  grpcurl -plaintext -H "authorization: Bearer $ONCALL" -d '{
    "cluster": {"name": "prod-1"}, "update_id": "rollback-prod-1",
    "request_id": "try-1", "reason": "bad AMI", "ticket": "OPS-12"
  }' $GATEWAY eksgateway.v1.UpdateService/CancelUpdate

Cancel and watch without grpcurl. `watch` ends when the update has ended.
  EKSGATEWAY_TOKEN=$ONCALL eksgateway cancel staging-1 rollback-staging-1
  EKSGATEWAY_TOKEN=$VIEWER eksgateway watch staging-1 rollback-staging-1

List the cancellations with their callers and outcomes, and verify the ledger:
  grpcurl -plaintext -H "authorization: Bearer $ONCALL" \\
    $GATEWAY eksgateway.v1.CancellationService/ListCancellations
  eksgateway ledger verify @ledger

Add another cluster to the simulated EKS (or prod-1 again, under its name),
and advance its clock by six hours:
  curl $SIMULATOR/_simulator/clusters -d '{
    "name": "prod-9", "tags": {"environment": "production"},
    "updates": [{"id": "rollback-prod-9", "node_phase_s": 36000}]
  }'
  curl $SIMULATOR/_simulator/clock -d '{"advance_s": 21600}'

Change the grants: edit the policy data. It is in force some two seconds later,
unless it has a fault, which the gateway's log and the first command name. The
second command prints the recorded decisions that the new data would change.
  eksgateway policy check @data
  eksgateway policy diff --ledger @ledger \\
    --data @data

Stop the gateway (`kill -9` is like a crash). It is started again on the same
port, with the same ledger, keys and grants.
  kill @pid

Ctrl-C or SIGTERM ends the sandbox and removes its folder."""
