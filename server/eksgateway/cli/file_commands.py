"""`eksgateway ledger` and `eksgateway policy`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

ledger_app = typer.Typer(
    help="List, verify, copy and migrate a ledger, also while it is in use.", no_args_is_help=True
)
policy_app = typer.Typer(help="Check and try policy data before it is in force.", no_args_is_help=True)


@ledger_app.command("verify")
def ledger_verify(
    path: Annotated[Path, typer.Argument(help="The ledger's file.")],
    checkpoint: Annotated[
        str, typer.Option(help="seq:hash of an earlier run; detects a truncated ledger.")
    ] = "",
) -> None:
    """Recompute the hash chain and the projection; exit 1 at the first mismatch or missing event."""
    from eksgateway.cli.ledger import verify_ledger  # noqa: PLC0415

    sys.exit(verify_ledger(path, checkpoint))


@ledger_app.command("list")
def ledger_list(path: Annotated[Path, typer.Argument(help="The ledger's file.")]) -> None:
    """Print every event, oldest first."""
    from eksgateway.cli.ledger import list_ledger  # noqa: PLC0415

    list_ledger(path)


@ledger_app.command("backup")
def ledger_backup(
    path: Annotated[Path, typer.Argument(help="The ledger's file.")],
    copy: Annotated[Path, typer.Argument(help="The copy: a new file.")],
) -> None:
    """Copy a ledger into one file and verify the copy; also while a gateway writes the ledger."""
    from eksgateway.cli.ledger import back_up_ledger  # noqa: PLC0415

    back_up_ledger(path, copy)


OwnerUrlOption: TypeAlias = Annotated[
    str, typer.Option("--url", help="postgresql://OWNER@HOST/DATABASE; the password: PGPASSFILE, PGPASSWORD.")
]
SchemaOption: TypeAlias = Annotated[str, typer.Option(help="The ledger's schema in PostgreSQL.")]
RoleOption: TypeAlias = Annotated[str, typer.Option(help="The gateway's role, which exists.")]


@ledger_app.command("migrate")
def ledger_migrate(
    url: OwnerUrlOption, schema: SchemaOption = "eksgateway", role: RoleOption = "eksgateway"
) -> None:
    """Create or migrate a ledger in PostgreSQL, and grant the gateway's role its rights; also in use."""
    from eksgateway.cli.ledger import migrate_ledger  # noqa: PLC0415

    migrate_ledger(url, schema, role)


ModuleOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Your own policy.wasm. Default: the package's.")
]


@policy_app.command("check")
def policy_check(
    file: Annotated[Path, typer.Argument(help="The data file: YAML or JSON.")], module: ModuleOption = None
) -> None:
    """Check policy data against the schema; exit 1 with the path of every fault.

    For valid data, print the revision that a gateway reports with it in force.
    """
    from eksgateway.cli.policy import check_data  # noqa: PLC0415

    sys.exit(check_data(file, module))


@policy_app.command("test")
def policy_test(
    file: Annotated[Path, typer.Argument(help="Inputs: one or a list in YAML or JSON, or JSON lines.")],
    data: Annotated[Path | None, typer.Option(help="The data file to decide by.")] = None,
    config: Annotated[Path | None, typer.Option(help="Or a gateway's settings, to use its data.")] = None,
    module: ModuleOption = None,
) -> None:
    """Decide recorded or hand-written inputs, and explain; exit 2 if a file cannot be read."""
    from eksgateway.cli.policy import decide_inputs  # noqa: PLC0415

    sys.exit(decide_inputs(file, data, config, module))


@policy_app.command("diff")
def policy_diff(
    ledger: Annotated[Path, typer.Option(help="The ledger whose cancels are decided again.")],
    data: Annotated[Path, typer.Option(help="The candidate: a data file.")],
    data_old: Annotated[
        Path | None, typer.Option(help="Compare with this data file instead of the recorded decisions.")
    ] = None,
    module: ModuleOption = None,
) -> None:
    """Print every recorded decision on a cancel that other data would change, each decided at its own time.

    Exit 0 if no decision changes, 1 if one does, 2 if a file cannot be read.
    """
    from eksgateway.cli.policy import diff_decisions  # noqa: PLC0415

    sys.exit(diff_decisions(ledger, data, data_old, module))
