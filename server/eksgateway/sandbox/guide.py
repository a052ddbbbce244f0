"""What a sandbox prints for its user: where things are, and commands to copy. At most 80 columns."""

from __future__ import annotations

import shlex
import textwrap
from typing import Any
from urllib.parse import urlsplit

from eksgateway.sandbox.folder import Folder


def about_opa(url: str, folder: Folder) -> str:
    """How to start the OPA that a sandbox with the engine opa asks."""
    address = urlsplit(url).netloc
    return (
        f"Policy: decided by the OPA at {url}. Start it with\n\n"
        f"  opa run --server --watch --addr {address} {shlex.quote(str(folder.policy))}\n\n"
        "The gateway is ready as soon as OPA answers."
    )


def usage(info: dict[str, Any], folder: Folder, speed: float) -> str:
    """All that a user needs to try things by hand."""
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


_USAGE = """\
Gateway:        @grpc (gRPC, plaintext, reflection open)
Simulated EKS:  @simulator (not AWS; at @speed times real speed)
Policy data:    @data
Ledger:         @ledger
Gateway's log:  @log

Clusters, in account @account, @region
CLUSTERS

Callers, by token (good for 12 hours)
  $ONCALL    everything on prod-* (a cancel needs a reason and a ticket) and
             on staging-*
  $VIEWER    may look at and watch everything, and cancel nothing
  $OUTSIDER  nothing

Set the variables that the commands below use; then copy any of them.
  . @variables

What there is to call:
  grpcurl -plaintext $GATEWAY list
  grpcurl -plaintext $GATEWAY describe eksgateway.v1.UpdateService

Would a cancel be allowed, and could it work now?
  grpcurl -plaintext -H "authorization: Bearer $ONCALL" -d '{
    "cluster": {"name": "prod-1"}, "update_id": "rollback-prod-1",
    "reason": "bad AMI", "ticket": "OPS-12"
  }' $GATEWAY eksgateway.v1.UpdateService/CheckCancelUpdate

A cancel that is denied, with the reason:
  grpcurl -plaintext -H "authorization: Bearer $ONCALL" -d '{
    "cluster": {"name": "prod-1"}, "update_id": "rollback-prod-1",
    "reason": "bad AMI"
  }' $GATEWAY eksgateway.v1.UpdateService/CancelUpdate

Watch an update until it ends (in a terminal of its own, before the cancel):
  grpcurl -plaintext -H "authorization: Bearer $VIEWER" -d '{
    "cluster": {"name": "prod-1"}, "update_id": "rollback-prod-1"
  }' $GATEWAY eksgateway.v1.UpdateService/WatchUpdate

A cancel that works:
  grpcurl -plaintext -H "authorization: Bearer $ONCALL" -d '{
    "cluster": {"name": "prod-1"}, "update_id": "rollback-prod-1",
    "request_id": "try-1", "reason": "bad AMI", "ticket": "OPS-12"
  }' $GATEWAY eksgateway.v1.UpdateService/CancelUpdate

The same without grpcurl. `watch` ends when the update has ended.
  EKSGATEWAY_TOKEN=$ONCALL eksgateway cancel staging-1 rollback-staging-1
  EKSGATEWAY_TOKEN=$VIEWER eksgateway watch staging-1 rollback-staging-1

What was cancelled, by whom, and what became of it:
  grpcurl -plaintext -H "authorization: Bearer $ONCALL" \\
    $GATEWAY eksgateway.v1.CancellationService/ListCancellations
  eksgateway ledger verify @ledger

The simulated EKS: another cluster to cancel (or prod-1 afresh, under its
name), and six hours that pass at once.
  curl $SIMULATOR/_simulator/clusters -d '{
    "name": "prod-9", "tags": {"environment": "production"},
    "updates": [{"id": "rollback-prod-9", "node_phase_s": 36000}]
  }'
  curl $SIMULATOR/_simulator/clock -d '{"advance_s": 21600}'

Change the grants: edit the policy data. Some two seconds later it is in force,
unless it has a fault: the gateway's log and the first command name it. The
second command prints the recorded decisions that the change would change.
  eksgateway policy check @data
  eksgateway policy diff --ledger @ledger \\
    --data @data

End the gateway (`kill -9` ends it as a crash does). It is started again, on the
same port, with the same ledger, keys and grants.
  kill @pid

To end all this, and to remove its folder: Ctrl-C, or SIGTERM."""
