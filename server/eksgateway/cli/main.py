"""The command line: all commands, and how their errors are printed."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from eksgateway.cli import client_commands, server_commands
from eksgateway.cli.command_errors import print_errors
from eksgateway.cli.commands.context import context_app
from eksgateway.cli.exit_codes import example
from eksgateway.cli.health_command import health
from eksgateway.cli.ledger_commands import ledger_app
from eksgateway.cli.policy_commands import policy_app


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        with print_errors():
            return super().invoke(ctx)


# Plain help is the same in a pipe and in any terminal, and costs no import of rich.
app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
client_commands.add_commands(app)
app.add_typer(context_app, name="context")
app.command(epilog=example("eksgateway health --address 127.0.0.1:50051"))(health)
server_commands.add_commands(app)
app.add_typer(ledger_app, name="ledger")
app.add_typer(policy_app, name="policy")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"eksgateway {version('eksgateway')}")
        raise typer.Exit


@app.callback(epilog=example("eksgateway cancel prod-1 UPDATE --reason 'bad AMI' --ticket OPS-12 --watch"))
def global_options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Cancel Amazon EKS updates under an OPA policy, with a durable record of every intent."""
