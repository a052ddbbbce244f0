"""`eksgateway policy`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from eksgateway.cli.exit_codes import example
from eksgateway.cli.ledger_commands import SchemaOption, UrlOption

policy_app = typer.Typer(
    help="Check and try policy data before it is in force.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=example("eksgateway policy check new.yaml"),
)

ModuleOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Your own policy.wasm. Default: the package's.")
]


@policy_app.command("check", epilog=example("eksgateway policy check new.yaml"))
def policy_check(
    file: Annotated[Path, typer.Argument(help="The data file: YAML or JSON.")], module: ModuleOption = None
) -> None:
    """Check policy data against the schema; exit 1 with the path of every fault.

    For valid data, print the revision that a gateway reports with it in force.
    """
    from eksgateway.cli.policy import check_data  # noqa: PLC0415

    sys.exit(check_data(file, module))


@policy_app.command("test", epilog=example("eksgateway policy test input.yaml --data new.yaml"))
def policy_test(
    file: Annotated[Path, typer.Argument(help="Inputs: one or a list in YAML or JSON, or JSON lines.")],
    data: Annotated[Path | None, typer.Option(help="The data file to decide by.")] = None,
    config: Annotated[Path | None, typer.Option(help="Or a gateway's settings, to use its data.")] = None,
    module: ModuleOption = None,
) -> None:
    """Decide recorded or hand-written inputs, and explain; exit 2 if a file cannot be read."""
    from eksgateway.cli.policy import decide_inputs  # noqa: PLC0415

    sys.exit(decide_inputs(file, data, config, module))


@policy_app.command("diff", epilog=example("eksgateway policy diff --data new.yaml --ledger ledger.db"))
def policy_diff(  # noqa: PLR0913  each is an option
    *,
    data: Annotated[Path, typer.Option(help="The candidate: a data file.")],
    ledger: Annotated[
        Path | None, typer.Option(help="The ledger whose cancels are decided again, without --url.")
    ] = None,
    url: UrlOption = None,
    schema: SchemaOption = "eksgateway",
    data_old: Annotated[
        Path | None, typer.Option(help="Compare with this data file instead of the recorded decisions.")
    ] = None,
    module: ModuleOption = None,
) -> None:
    """Print every recorded decision on a cancel that other data would change, each decided at its own time.

    Exit 0 if no decision changes, 1 if one does, 2 if a file cannot be read.
    """
    from eksgateway.cli.ledger_location import locate  # noqa: PLC0415
    from eksgateway.cli.policy import diff_decisions  # noqa: PLC0415

    sys.exit(diff_decisions(locate(ledger, url, schema), data, data_old, module))
