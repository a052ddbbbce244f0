"""Options and arguments that several commands have, and how a command gets them in one value."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_type_hints

import typer

from eksgateway.cli.completion import complete_cluster, complete_context, complete_update
from eksgateway.cli.exit_codes import MEANINGS, example


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class Wanted(StrEnum):
    """The end of an update that is waited for.

    ``EXPECTED``: cancelled if there is a cancellation, else successful or cancelled.
    """

    EXPECTED = "expected"
    CANCELLED = "cancelled"
    SUCCESSFUL = "successful"
    ENDED = "ended"


AccountOption: TypeAlias = Annotated[
    str, typer.Option(help="The cluster's account. Default: the home target's.")
]
RegionOption: TypeAlias = Annotated[
    str, typer.Option(help="The cluster's region. Default: the home target's.")
]
UpdateArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="UPDATE", help="The update's id.", autocompletion=complete_update)
]
ReasonOption: TypeAlias = Annotated[str, typer.Option(help="The reason; the policy may require it.")]
TicketOption: TypeAlias = Annotated[str, typer.Option(help="A ticket; the policy may require it.")]
StopOnStdinEofOption: TypeAlias = Annotated[bool, typer.Option("--stop-on-stdin-eof", hidden=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """How a gateway is reached."""

    context: Annotated[
        str, typer.Option(help="A gateway by its name in the contexts.", autocompletion=complete_context)
    ] = ""
    address: Annotated[str, typer.Option(help="host:port of a gateway, instead of a context.")] = ""
    ca: Annotated[Path | None, typer.Option(help="CA bundle to trust, instead of the system's.")] = None
    plaintext: Annotated[
        bool, typer.Option("--plaintext", help="No TLS. To loopback that is the default, without --ca.")
    ] = False
    certificate: Annotated[Path | None, typer.Option(help="Client certificate; needs --key.")] = None
    key: Annotated[Path | None, typer.Option(help="The key of --certificate.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions(ConnectionOptions):
    """Of each command that calls the API."""

    token_file: Annotated[
        Path | None, typer.Option(help="File with the bearer token, instead of EKSGATEWAY_TOKEN.")
    ] = None
    token_command: Annotated[
        str, typer.Option(help="Program with arguments that prints the token. No shell runs it.")
    ] = ""
    output: Annotated[Format, typer.Option("--output", "-o", help="How results are printed.")] = Format.TABLE
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Seconds after which the command gives up. Default: 45 to cancel, none to watch, else 35.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """A cluster: NAME in the gateway's home target, ACCOUNT/REGION/NAME, or with options."""

    cluster: Annotated[
        str,
        typer.Argument(
            metavar="CLUSTER", help="NAME or ACCOUNT/REGION/NAME.", autocompletion=complete_cluster
        ),
    ]
    account: AccountOption = ""
    region: RegionOption = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalClusterOptions:
    """The same; without a cluster, all are meant."""

    cluster: Annotated[
        str,
        typer.Argument(
            metavar="[CLUSTER]",
            help="NAME or ACCOUNT/REGION/NAME. Default: all.",
            autocompletion=complete_cluster,
            show_default=False,
        ),
    ] = ""
    account: AccountOption = ""
    region: RegionOption = ""

    def to_cluster(self) -> ClusterOptions:
        return ClusterOptions(cluster=self.cluster, account=self.account, region=self.region)


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """The same command, with each parameter of a dataclass above replaced by the dataclass's fields."""
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    groups: dict[str, Any] = {
        each.name: each.annotation for each in parameters if is_dataclass(each.annotation)
    }

    @wraps(command)
    def run(**values: Any) -> None:
        made = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**made, **values)

    # The ways to connect come last in the help.
    ordered = sorted(parameters, key=lambda each: groups.get(each.name) in (ConnectionOptions, CallOptions))
    expanded = [one for each in ordered for one in _expand(each)]
    run.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    return run


def _expand(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    group = parameter.annotation
    if not is_dataclass(group):
        yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        return
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
        )


def epilog(*commands: str, codes: dict[int, str] | None = None) -> str:
    """Examples, and the exit codes; ``codes`` replaces meanings."""
    shown = MEANINGS | (codes or {})
    lines = [f"  {code:>3}  {meaning}" for code, meaning in shown.items()]
    return "\n".join([example(*commands), "", "\b", "Exit codes:", *lines])
