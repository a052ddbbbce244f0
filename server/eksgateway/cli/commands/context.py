"""`eksgateway context`: the gateways that are known by name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from eksgateway.cli.completion import complete_context
from eksgateway.cli.exit_codes import USAGE, CommandError, example

context_app = typer.Typer(
    help="Name gateways, and choose the one that commands call.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=example(
        "eksgateway context add prod --address gateway.example:443", "eksgateway context use prod"
    ),
)


@context_app.command("list", epilog=example("eksgateway context list"))
def list_contexts() -> None:
    """List the contexts; `*` marks the current one."""
    from eksgateway.cli.contexts import read_contexts  # noqa: PLC0415
    from eksgateway.cli.notes import note  # noqa: PLC0415
    from eksgateway.cli.output.printer import print_table  # noqa: PLC0415
    from eksgateway.cli.output.views import context_table  # noqa: PLC0415

    found = read_contexts(os.environ)
    print_table(context_table(found))
    if not found.by_name:
        note(f"no contexts in {found.path}: `eksgateway context add NAME --address host:port` adds one")


@context_app.command("current", epilog=example("eksgateway context current"))
def print_current() -> None:
    """Print the name of the current context; exit 1 without one."""
    from eksgateway.cli.contexts import read_contexts  # noqa: PLC0415

    found = read_contexts(os.environ)
    if not found.current:
        raise CommandError(f"{found.path} has no current context: choose one with `eksgateway context use`")
    print(found.current)


@context_app.command("use", epilog=example("eksgateway context use prod"))
def use_context(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_context)],
) -> None:
    """Make a context the current one."""
    from eksgateway.cli.contexts import read_contexts  # noqa: PLC0415

    found = read_contexts(os.environ)
    found.get(name)
    found.current = name
    found.write()
    _report(f"current context: {name}")


@context_app.command(
    "add",
    epilog=example("eksgateway context add prod --address gateway:443 --token-file token"),
)
def add_context(  # noqa: PLR0913  each is an option
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    address: Annotated[str, typer.Option(help="host:port of the gateway.")],
    ca: Annotated[Path | None, typer.Option(help="CA bundle to trust, instead of the system's.")] = None,
    plaintext: Annotated[bool, typer.Option("--plaintext", help="No TLS.")] = False,
    certificate: Annotated[Path | None, typer.Option(help="Client certificate; needs --key.")] = None,
    key: Annotated[Path | None, typer.Option(help="The key of --certificate.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the bearer token.")] = None,
    token_command: Annotated[str, typer.Option(help="Program with arguments that prints the token.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace the context of this name.")] = False,
) -> None:
    """Add a context. The first one becomes the current one."""
    from eksgateway.cli.connection_settings import (  # noqa: PLC0415
        OPTIONS,
        ConnectionSettings,
        split_command,
    )
    from eksgateway.cli.contexts import contexts_to_change  # noqa: PLC0415
    from eksgateway.client.addresses import check_address  # noqa: PLC0415

    settings = ConnectionSettings(
        address=address,
        ca=_absolute(ca),
        plaintext=plaintext,
        certificate=_absolute(certificate),
        key=_absolute(key),
        token_file=_absolute(token_file),
        token_command=split_command(token_command, "--token-command", USAGE),
    )
    try:
        settings.check(OPTIONS)
        check_address(address)
    except CommandError as exc:
        raise CommandError(str(exc), USAGE) from exc
    except ValueError as exc:
        raise CommandError(f"--address: {exc}") from exc
    found = contexts_to_change(os.environ)
    if name in found.by_name and not replace:
        raise CommandError(f"context {name!r} exists in {found.path}: --replace replaces it")
    if not name.strip() or not name.isprintable():
        raise CommandError(f"{name!r} is no name of a context: write a word")
    found.by_name[name] = settings
    found.current = found.current or name
    found.write()
    _report(f"{found.path}: context {name} added; current is {found.current}")


@context_app.command("remove", epilog=example("eksgateway context remove prod"))
def remove_context(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_context)],
) -> None:
    """Remove a context."""
    from eksgateway.cli.contexts import read_contexts  # noqa: PLC0415

    found = read_contexts(os.environ)
    found.get(name)
    del found.by_name[name]
    if found.current == name:
        found.current = ""
    found.write()
    _report(
        f"context {name} removed; " + (f"current is {found.current}" if found.current else "none is current")
    )


def _absolute(path: Path | None) -> Path | None:
    from eksgateway.cli.contexts import expand_home  # noqa: PLC0415

    return expand_home(path).absolute() if path else None


def _report(text: str) -> None:
    print(text, file=sys.stderr)
