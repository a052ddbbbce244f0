"""`eksgateway policy`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from eksgateway.cli.exit_codes import example
from eksgateway.cli.ledger_commands import SchemaOption, UrlOption
from eksgateway.model import Action

policy_app = typer.Typer(
    help="Check and try policy data before it is in force.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=example("eksgateway policy check new.yaml"),
)

ModuleOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Your own policy.wasm. Default: the package's.")
]
DataOption: TypeAlias = Annotated[Path | None, typer.Option(help="The policy data: a file or a folder.")]
ConfigOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Or a gateway's settings, to use its data.")
]
AtOption: TypeAlias = Annotated[
    str, typer.Option(metavar="TIME", help="As in 2026-12-01T12:00:00Z. Default: now.")
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@policy_app.command(
    "check",
    epilog=example(
        "eksgateway policy check new.yaml", "eksgateway policy check policies/ --strict --config config.yaml"
    ),
)
def policy_check(  # noqa: PLR0913  each is an option
    *,
    file: Annotated[Path, typer.Argument(metavar="PATH", help="A file, YAML or JSON, or a folder.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings too.")] = False,
    config: Annotated[
        Path | None, typer.Option(help="A gateway's settings: warn of names that they do not have.")
    ] = None,
    at: Annotated[str, typer.Option(metavar="TIME", help="Warn of what is over then. Default: now.")] = "",
    as_json: JsonOption = False,
    module: ModuleOption = None,
) -> None:
    """Check whether a gateway would put policy data in force.

    Exit 1 with every fault if not. For good data, print its revision, and warnings of what can never match or
    undoes something else. Exit 2 if the settings cannot be used.
    """
    from eksgateway.cli.policy_arguments import read_time  # noqa: PLC0415
    from eksgateway.cli.policy_check import CheckOptions, check_data  # noqa: PLC0415

    options = CheckOptions(module, config, read_time(at), strict=strict, as_json=as_json)
    sys.exit(check_data(file, options))


@policy_app.command(
    "who",
    epilog=example(
        "eksgateway policy who --cluster prod-1 --action cancel --data new.yaml",
        "eksgateway policy who --cluster prod-1 --action get --config config.yaml",
    ),
)
def policy_who(  # noqa: PLR0913  each is an option
    *,
    cluster: Annotated[str, typer.Option(metavar="CLUSTER", help="NAME or ACCOUNT/REGION/NAME.")],
    action: Annotated[Action, typer.Option(help="The action.")] = Action.CANCEL,
    account: Annotated[str, typer.Option(help="The cluster's account. Default: any.")] = "",
    region: Annotated[str, typer.Option(help="The cluster's region. Default: any.")] = "",
    at: AtOption = "",
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print everyone who may do an action on a cluster.

    Each with the grant, its conditions, and its end. Callers are printed as the grants name them. Denials and
    freezes in force are printed too, and callers that they hold back. Exit 0, or 2 if a file cannot be used.
    """
    from eksgateway.cli.policy_arguments import read_time  # noqa: PLC0415
    from eksgateway.cli.policy_rights import Source, read_where, show_allowed_callers  # noqa: PLC0415

    source = Source(data, config, as_json)
    sys.exit(show_allowed_callers(source, read_where(cluster, account, region), action.value, read_time(at)))


@policy_app.command(
    "can",
    epilog=example(
        "eksgateway policy can jwt:corp:dana --group corp:platform --data new.yaml",
        "eksgateway policy can spiffe://corp.example/robot --config config.yaml",
    ),
)
def policy_can(  # noqa: PLR0913  each is an option
    *,
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="jwt:ISSUER:SUB or spiffe://DOMAIN/PATH.")
    ],
    group: Annotated[
        list[str] | None, typer.Option(metavar="ISSUER:GROUP", help="A group of the caller. Repeatable.")
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A claim of its token. Repeatable. Default: any value that fits."
        ),
    ] = None,
    via: Annotated[str, typer.Option(help="SPIFFE ID of its connection. Default: any that fits.")] = "",
    at: AtOption = "",
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a caller may do on which clusters.

    Each right with the grant, its conditions, and its end. Denials and freezes in force for the caller are
    printed too, and the rights that they hold back. Exit 0, or 2 if a file cannot be used.
    """
    from eksgateway.cli.policy_arguments import read_time  # noqa: PLC0415
    from eksgateway.cli.policy_rights import Source, read_reviewed_caller, show_permissions  # noqa: PLC0415

    caller = read_reviewed_caller(subject, group or (), claim or (), via)
    sys.exit(show_permissions(Source(data, config, as_json), caller, read_time(at)))


@policy_app.command("test", epilog=example("eksgateway policy test input.yaml --data new.yaml"))
def policy_test(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Inputs: one or a list in YAML or JSON, or JSON lines.")
    ],
    data: Annotated[Path | None, typer.Option(help="The data (a file or a folder) to decide by.")] = None,
    config: ConfigOption = None,
    module: ModuleOption = None,
) -> None:
    """Decide recorded or hand-written inputs, and explain.

    Exit 2 if a file cannot be read.
    """
    from eksgateway.cli.policy_decisions import decide_inputs  # noqa: PLC0415

    sys.exit(decide_inputs(file, data, config, module))


@policy_app.command("diff", epilog=example("eksgateway policy diff --data new.yaml --ledger ledger.db"))
def policy_diff(  # noqa: PLR0913  each is an option
    *,
    data: Annotated[Path, typer.Option(help="The candidate: a data file or a folder.")],
    ledger: Annotated[
        Path | None, typer.Option(help="The ledger whose cancels are decided again, without --url.")
    ] = None,
    url: UrlOption = None,
    schema: SchemaOption = "eksgateway",
    data_old: Annotated[
        Path | None, typer.Option(help="Compare with this data instead of the recorded decisions.")
    ] = None,
    module: ModuleOption = None,
) -> None:
    """Print recorded decisions that other data would change.

    Cancels and denials of them, each decided at its own time. Exit 0 if no decision changes, 1 if one does, 2
    if a file cannot be read.
    """
    from eksgateway.cli.ledger_location import locate  # noqa: PLC0415
    from eksgateway.cli.policy_decisions import diff_decisions  # noqa: PLC0415

    sys.exit(diff_decisions(locate(ledger, url, schema), data, data_old, module))


@policy_app.command(
    "bundle", epilog=example("eksgateway policy bundle policy.yaml -o b.tar.gz --signing-key policy.pem")
)
def policy_bundle(
    data: Annotated[Path, typer.Argument(metavar="PATH", help="A file, YAML or JSON, or a folder.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The bundle. An older one is replaced in one step.")
    ] = Path("bundle.tar.gz"),
    signing_key: Annotated[
        Path | None,
        typer.Option(help="Sign with the key in this file: RSA or EC in PEM, or the secret of an HMAC."),
    ] = None,
    signing_key_id: Annotated[
        str, typer.Option(help="The name of the key in the `keys` of OPA's configuration.")
    ] = "default",
    signing_alg: Annotated[
        str | None, typer.Option(help="As RS256, PS256, ES256 or HS256. Default: what fits the key.")
    ] = None,
) -> None:
    """Write an OPA bundle, and sign it.

    It has the policy's Rego, the compiled data, the manifest and the signature. Exit 1 if the data is
    refused, as by `check`; 2 if the key or the output cannot be used.
    """
    from eksgateway.cli.policy_bundle import BundleOptions, write_bundle  # noqa: PLC0415

    if signing_key is None and (signing_alg is not None or signing_key_id != "default"):
        raise typer.BadParameter("--signing-alg and --signing-key-id need --signing-key")
    sys.exit(write_bundle(BundleOptions(data, output, signing_key, signing_alg, signing_key_id)))
