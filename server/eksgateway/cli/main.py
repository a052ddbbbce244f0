"""Every command and its options; what a command does is in the module that it calls."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Cancels Amazon EKS updates under an OPA policy, with a durable record of every intent.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
ledger_app = typer.Typer(help="Reads and verifies a ledger, also while it is in use.", no_args_is_help=True)
policy_app = typer.Typer(help="Checks the operators' policy data.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")
app.add_typer(policy_app, name="policy")

StopOnStdinEof = Annotated[bool, typer.Option("--stop-on-stdin-eof", hidden=True)]


@contextmanager
def _clear_errors() -> Iterator[None]:
    """What the user can mend is said in one line, without a traceback; anything else is a bug."""
    from eksgateway.errors import GatewayError, StartError  # noqa: PLC0415

    try:
        yield
    except StartError as exc:
        sys.exit(f"eksgateway: {exc}")
    except GatewayError as exc:
        sys.exit(f"eksgateway: {exc.message} {exc.detail}".rstrip())


@app.command()
def serve(
    config: Annotated[Path, typer.Option(help="The settings file; see config.example.yaml.")],
    stop_on_stdin_eof: StopOnStdinEof = False,
) -> None:
    """Serve the gateway against real AWS (boto3's default credential chain)."""
    from eksgateway.cli.serve import run  # noqa: PLC0415

    with _clear_errors():
        asyncio.run(run(config, stop_on_stdin_eof=stop_on_stdin_eof))


@app.command()
def health(
    address: Annotated[str, typer.Option(help="host:port of the gateway.")] = "127.0.0.1:50051",
    ca: Annotated[Path | None, typer.Option(help="CA bundle, when it serves TLS.")] = None,
    service: Annotated[str, typer.Option(help="Empty is readiness; `liveness` is the process.")] = "",
) -> None:
    """Exit 0 when a gateway serves, 1 when it does not (for container health checks)."""
    from eksgateway.cli.health import check  # noqa: PLC0415

    with _clear_errors():
        sys.exit(check(address, ca, service))


@ledger_app.command("verify")
def ledger_verify(
    path: Annotated[Path, typer.Argument(help="The ledger's file.")],
    checkpoint: Annotated[str, typer.Option(help="seq:hash of an earlier run; shows a cut tail.")] = "",
) -> None:
    """Recompute the hash chain and the projection; exit 1 at the first thing that does not fit."""
    from eksgateway.cli.ledger import verify_ledger  # noqa: PLC0415

    with _clear_errors():
        sys.exit(verify_ledger(path, checkpoint))


@ledger_app.command("list")
def ledger_list(path: Annotated[Path, typer.Argument(help="The ledger's file.")]) -> None:
    """Print every event, oldest first."""
    from eksgateway.cli.ledger import list_ledger  # noqa: PLC0415

    with _clear_errors():
        list_ledger(path)


@policy_app.command("check")
def policy_check(file: Annotated[Path, typer.Argument(help="The data file: YAML or JSON.")]) -> None:
    """Check operators' data against the schema; exit 1 with the path of every fault."""
    from eksgateway.cli.policy import check_data  # noqa: PLC0415

    sys.exit(check_data(file))
