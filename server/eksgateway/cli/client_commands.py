"""The commands that call a gateway, and their options. Each imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from eksgateway.cli.completion import SHELLS, script
from eksgateway.cli.exit_codes import CommandError, example
from eksgateway.cli.shared_options import (
    CallOptions,
    ClusterOptions,
    OptionalClusterOptions,
    ReasonOption,
    TicketOption,
    UpdateArgument,
    Wanted,
    epilog,
    expand_options,
)


def add_commands(app: typer.Typer) -> None:
    app.command(
        epilog=epilog(
            "eksgateway cancel prod-1 UPDATE --reason 'bad AMI' --ticket OPS-12 --watch",
            codes={3: "the update has ended, and not Cancelled"},
        )
    )(expand_options(cancel))
    app.command(
        epilog=epilog(
            "eksgateway check prod-1 UPDATE --ticket OPS-12", codes={1: "not possible now, or failed"}
        )
    )(expand_options(check))
    app.command(epilog=epilog("eksgateway get prod-1 UPDATE -o json"))(expand_options(get))
    app.command("list", epilog=epilog("eksgateway list prod-1"))(expand_options(list_updates))
    app.command(
        epilog=epilog(
            "eksgateway cancellable",
            "eksgateway cancellable -o name | xargs -n 2 eksgateway check",
            codes={1: "failed, or some account and region could not be read"},
        )
    )(expand_options(cancellable))
    app.command(
        epilog=epilog(
            "eksgateway watch prod-1 UPDATE --for cancelled --timeout 3600",
            codes={3: "the update has ended otherwise than --for says"},
        )
    )(expand_options(watch))
    app.command(epilog=epilog("eksgateway history prod-1 --limit 5"))(expand_options(history))
    app.command(epilog=epilog("eksgateway show CANCELLATION", "eksgateway show --request-id REQUEST"))(
        expand_options(show)
    )
    app.command(epilog=example('eval "$(eksgateway completion bash)"'))(completion)


def cancel(  # noqa: PLR0913  each is an option
    where: ClusterOptions,
    update_id: UpdateArgument,
    call: CallOptions,
    *,
    reason: ReasonOption = "",
    ticket: TicketOption = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the update to its end.")] = False,
    request_id: Annotated[str, typer.Option(help="Repeats an earlier request. Default: a new one.")] = "",
) -> None:
    """Cancel an update.

    Without --watch this ends once EKS has accepted the cancel. Retries send one cancel to EKS at most. After
    the exit codes 5, 124 and 130, repeat with the same --request-id to find out the outcome.
    """
    from eksgateway.cli.commands.cancel import CancelOptions, run  # noqa: PLC0415

    options = CancelOptions(
        update_id=update_id, reason=reason, ticket=ticket, request_id=request_id, watch=watch
    )
    run(call, where, options)


def check(
    where: ClusterOptions,
    update_id: UpdateArgument,
    call: CallOptions,
    *,
    reason: ReasonOption = "",
    ticket: TicketOption = "",
) -> None:
    """Check whether a cancel would be allowed, and could succeed now. Nothing is cancelled."""
    from eksgateway.cli.commands.check import run  # noqa: PLC0415

    run(call, where, update_id, reason, ticket)


def get(where: ClusterOptions, update_id: UpdateArgument, call: CallOptions) -> None:
    """Show one update."""
    from eksgateway.cli.commands.get import run  # noqa: PLC0415

    run(call, where, update_id)


def list_updates(where: ClusterOptions, call: CallOptions) -> None:
    """List a cluster's updates."""
    from eksgateway.cli.commands.list_updates import run  # noqa: PLC0415

    run(call, where)


def cancellable(call: CallOptions) -> None:
    """List the updates that can be cancelled now, in all accounts and regions of the gateway."""
    from eksgateway.cli.commands.cancellable import run  # noqa: PLC0415

    run(call)


def watch(
    where: ClusterOptions,
    update_id: UpdateArgument,
    call: CallOptions,
    *,
    wanted: Annotated[
        Wanted,
        typer.Option(
            "--for",
            help="The end that is waited for. expected: Cancelled, or Successful without a cancellation.",
        ),
    ] = Wanted.EXPECTED,
    max_age: Annotated[
        float, typer.Option(min=0, help="Mark a state if EKS was not reached for this many seconds.")
    ] = 60,
) -> None:
    """Follow an update to its end, across broken streams and restarts of the gateway."""
    from eksgateway.cli.commands.watch import run  # noqa: PLC0415

    run(call, where, update_id, wanted, max_age)


def history(
    where: OptionalClusterOptions,
    call: CallOptions,
    *,
    caller: Annotated[str, typer.Option(help="Only those of this caller, as jwt:corp:deploy-bot.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="The newest so many; 0 lists all.")] = 50,
) -> None:
    """List cancellations, newest first: of a cluster, or of all."""
    from eksgateway.cli.commands.history import run  # noqa: PLC0415

    run(call, where.to_cluster() if where.cluster else None, caller, limit)


def show(
    call: CallOptions,
    cancellation_id: Annotated[
        str, typer.Argument(metavar="[CANCELLATION]", help="The cancellation's id.", show_default=False)
    ] = "",
    *,
    request_id: Annotated[str, typer.Option(help="A request of your own, instead of CANCELLATION.")] = "",
) -> None:
    """Show one cancellation: caller, decision and outcome."""
    from eksgateway.cli.commands.show import run  # noqa: PLC0415

    if bool(cancellation_id) == bool(request_id):
        raise CommandError("name a cancellation, or give --request-id", 2)
    run(call, cancellation_id, request_id)


def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", autocompletion=lambda: list(SHELLS))],
) -> None:
    """Print a script that completes commands, clusters and updates in a shell."""
    if shell not in SHELLS:
        raise CommandError(f"{shell}: there is no completion for it: take {', '.join(SHELLS)}", 2)
    print(script(shell))
