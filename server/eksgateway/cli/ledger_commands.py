"""`eksgateway ledger`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from eksgateway.cli.exit_codes import example

ledger_app = typer.Typer(
    help="List, verify, copy and migrate a ledger, also while it is in use.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=example("eksgateway ledger verify ledger.db"),
)

LedgerArgument: TypeAlias = Annotated[Path | None, typer.Argument(help="The ledger's file, without --url.")]
UrlOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="postgresql://USER@HOST/DATABASE. The password comes from PGPASSFILE or PGPASSWORD."),
]
OwnerUrlOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--url", help="postgresql://OWNER@HOST/DATABASE. The password comes from PGPASSFILE or PGPASSWORD."
    ),
]
SchemaOption: TypeAlias = Annotated[str, typer.Option(help="The ledger's schema in PostgreSQL.")]


@ledger_app.command("verify", epilog=example("eksgateway ledger verify ledger.db"))
def ledger_verify(
    path: LedgerArgument = None,
    url: UrlOption = None,
    schema: SchemaOption = "eksgateway",
    checkpoint: Annotated[
        str, typer.Option(help="seq:hash of an earlier run; detects a truncated ledger.")
    ] = "",
) -> None:
    """Recompute the hash chain and the projection; exit 1 at the first mismatch or missing event."""
    from eksgateway.cli.ledger import verify_ledger  # noqa: PLC0415
    from eksgateway.cli.ledger_location import locate  # noqa: PLC0415

    sys.exit(verify_ledger(locate(path, url, schema), checkpoint))


@ledger_app.command("list", epilog=example("eksgateway ledger list ledger.db"))
def ledger_list(
    path: LedgerArgument = None, url: UrlOption = None, schema: SchemaOption = "eksgateway"
) -> None:
    """Print every event, oldest first."""
    from eksgateway.cli.ledger import list_ledger  # noqa: PLC0415
    from eksgateway.cli.ledger_location import locate  # noqa: PLC0415

    list_ledger(locate(path, url, schema))


@ledger_app.command("backup", epilog=example("eksgateway ledger backup ledger.db copy.db"))
def ledger_backup(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE COPY", help="The ledger's file, and the copy: a new file. With --url the copy only."
        ),
    ],
    url: UrlOption = None,
    schema: SchemaOption = "eksgateway",
) -> None:
    """Copy a ledger into one file and verify the copy; also while gateways write the ledger."""
    from eksgateway.cli.ledger import back_up_ledger  # noqa: PLC0415
    from eksgateway.cli.ledger_location import locate  # noqa: PLC0415

    *paths, copy = files
    if len(paths) > 1:
        raise typer.BadParameter("name the ledger's file, and the copy's")
    back_up_ledger(locate(paths[0] if paths else None, url, schema), copy)


@ledger_app.command("migrate", epilog=example("eksgateway ledger migrate --url postgresql://owner@db/ledger"))
def ledger_migrate(
    url: OwnerUrlOption,
    schema: SchemaOption = "eksgateway",
    role: Annotated[str, typer.Option(help="The gateways' role, which exists.")] = "eksgateway",
) -> None:
    """Create or migrate a ledger in PostgreSQL, and grant the gateways' role its rights; also in use."""
    from eksgateway.cli.ledger import migrate_ledger  # noqa: PLC0415
    from eksgateway.cli.ledger_location import locate_url  # noqa: PLC0415

    migrate_ledger(locate_url(url, schema), role)


@ledger_app.command(
    "copy", epilog=example("eksgateway ledger copy --from ledger.db --url postgresql://owner@db/ledger")
)
def ledger_copy(
    path: Annotated[Path, typer.Option("--from", help="The ledger's file, which no gateway uses.")],
    url: OwnerUrlOption,
    schema: SchemaOption = "eksgateway",
) -> None:
    """Copy a file, also a backup, into an empty ledger in PostgreSQL, and verify the copy."""
    from eksgateway.cli.ledger import copy_ledger  # noqa: PLC0415
    from eksgateway.cli.ledger_location import locate_url  # noqa: PLC0415

    copy_ledger(path, locate_url(url, schema))
