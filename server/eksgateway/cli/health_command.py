"""`eksgateway health` and its options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from eksgateway.cli.exit_codes import CommandError
from eksgateway.cli.shared_options import ConnectionOptions, expand_options


@expand_options
def health(
    connection: ConnectionOptions,
    *,
    service: Annotated[str, typer.Option(help="Empty checks readiness; `liveness` checks the process.")] = "",
    config: Annotated[
        Path | None,
        typer.Option(help="Settings of a gateway on this machine, instead of --address and --ca."),
    ] = None,
) -> None:
    """Exit 0 if a gateway serves, 1 if it does not (for container health checks)."""
    if config is None:
        from eksgateway.cli.health import check  # noqa: PLC0415

        sys.exit(check(connection, service))
    from eksgateway.cli.local_health import check_local  # noqa: PLC0415

    certificate, key = connection.certificate, connection.key
    if connection.ca is not None or (certificate is None) != (key is None):
        raise CommandError("--config takes no --ca, and --certificate only with --key", 2)
    sys.exit(check_local(config, (certificate, key) if certificate and key else None, service))
