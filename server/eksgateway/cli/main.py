"""The commands on gateways and simulations, and their options."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from eksgateway.cli.file_commands import ledger_app, policy_app
from eksgateway.cli.options import (
    AccountOption,
    AddressOption,
    CaOption,
    CertificateOption,
    ClusterArgument,
    KeyOption,
    RegionOption,
    StopOnStdinEofOption,
    TokenFileOption,
    UpdateArgument,
)
from eksgateway.errors import GatewayError, StartError


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Print errors that the user can correct without a traceback; any other error is a bug."""
        try:
            return super().invoke(ctx)
        except (StartError, GatewayError) as exc:
            logging.shutdown()  # writes what is logged, so that this message is the last one
            text = exc if isinstance(exc, StartError) else f"{exc.message} {exc.detail}".rstrip()
            sys.exit(f"eksgateway: {text}")


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
app.add_typer(ledger_app, name="ledger")
app.add_typer(policy_app, name="policy")


@contextmanager
def _text_arguments() -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError:  # gRPC sends UTF-8
        sys.exit("eksgateway: an argument is not text: write it in UTF-8")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"eksgateway {version('eksgateway')}")
        raise typer.Exit


@app.callback()
def global_options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Cancel Amazon EKS updates under an OPA policy, with a durable record of every intent."""


@app.command()
def serve(
    config: Annotated[Path, typer.Option(help="The settings file; see config.example.yaml.")],
    stop_on_stdin_eof: StopOnStdinEofOption = False,
) -> None:
    """Run the gateway against AWS (with boto3's default credential chain)."""
    gc.disable()  # until it is ready, which saves 0.15 of 1.4 s of CPU at the start
    from eksgateway.cli.serve import run  # noqa: PLC0415

    asyncio.run(run(config, stop_on_stdin_eof=stop_on_stdin_eof))


@app.command()
def health(  # noqa: PLR0913  each is an option
    address: AddressOption = "127.0.0.1:50051",
    ca: CaOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    service: Annotated[str, typer.Option(help="Empty checks readiness; `liveness` checks the process.")] = "",
    *,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings of a gateway on this machine, instead of --address and --ca."),
    ] = None,
) -> None:
    """Exit 0 if a gateway serves, 1 if it does not (for container health checks)."""
    if config is None:
        from eksgateway.cli.connection import GatewayConnection  # noqa: PLC0415
        from eksgateway.cli.health import check  # noqa: PLC0415

        sys.exit(check(GatewayConnection(address, ca, certificate, key), service))
    if ca is not None or (certificate is None) != (key is None):
        raise typer.BadParameter("--config takes no --ca, and --certificate only with --key")
    from eksgateway.cli.local_health import check_local  # noqa: PLC0415

    sys.exit(check_local(config, (certificate, key) if certificate and key else None, service))


@app.command()
def watch(  # noqa: PLR0913  each is an option
    cluster: ClusterArgument,
    update_id: UpdateArgument,
    *,
    address: AddressOption = "127.0.0.1:50051",
    token_file: TokenFileOption = None,
    account: AccountOption = "",
    region: RegionOption = "",
    max_age: Annotated[
        float, typer.Option(min=0, help="Mark a state if EKS was not reached for this many seconds.")
    ] = 60,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
) -> None:
    """Print an update's states until it has ended, across broken streams and restarts of the gateway.

    Exit codes: 0 ended, 1 refused, 2 usage, 4 credentials, 5 no gateway, 130 interrupted.
    """
    with _text_arguments():
        from eksgateway.cli.client import run_watch  # noqa: PLC0415
        from eksgateway.cli.connection import GatewayConnection  # noqa: PLC0415
        from eksgateway.v1.update_pb2 import ClusterRef  # noqa: PLC0415

        ref = ClusterRef(name=cluster, account_id=account, region=region)
        connection = GatewayConnection(address, ca, certificate, key)
        sys.exit(asyncio.run(run_watch(connection, ref, update_id, token_file, max_age)))


@app.command()
def cancel(  # noqa: PLR0913  each is an option
    cluster: ClusterArgument,
    update_id: UpdateArgument,
    *,
    address: AddressOption = "127.0.0.1:50051",
    token_file: TokenFileOption = None,
    account: AccountOption = "",
    region: RegionOption = "",
    reason: Annotated[str, typer.Option(help="The reason; the policy may require it.")] = "",
    ticket: Annotated[str, typer.Option(help="A ticket; the policy may require it.")] = "",
    request_id: Annotated[str, typer.Option(help="Repeats an earlier request. Default: a new request.")] = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to keep retrying.")] = 45,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
) -> None:
    """Cancel an update. Retries send one cancel to EKS at most. Use `watch` to see the update end.

    Exit codes: 0 EKS accepted it, 1 refused, 2 usage, 4 credentials, 5 no gateway, 124 timed out,
    130 interrupted. After 5, 124 and 130, repeat with the same --request-id to find out the outcome.
    """
    with _text_arguments():
        from eksgateway.cli.client import run_cancel  # noqa: PLC0415
        from eksgateway.cli.connection import GatewayConnection  # noqa: PLC0415
        from eksgateway.v1.update_pb2 import ClusterRef  # noqa: PLC0415
        from eksgateway.v1.update_service_pb2 import CancelUpdateRequest  # noqa: PLC0415

        ref = ClusterRef(name=cluster, account_id=account, region=region)
        connection = GatewayConnection(address, ca, certificate, key)
        request = CancelUpdateRequest(
            cluster=ref, update_id=update_id, reason=reason, ticket=ticket, request_id=request_id
        )
        sys.exit(asyncio.run(run_cancel(connection, request, token_file, timeout)))


@app.command()
def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    speed: Annotated[float, typer.Option(help="Speed of its clock; 1 is real time.")] = 1.0,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Allow a --host that is not loopback.")
    ] = False,
    stop_on_stdin_eof: StopOnStdinEofOption = False,
) -> None:
    """Run a simulated EKS for boto3 and the AWS CLI, until SIGTERM or SIGINT."""
    from eksgateway.cli.simulate import run  # noqa: PLC0415

    run(host, port, speed, allow_remote=allow_remote, stop_on_stdin_eof=stop_on_stdin_eof)


@app.command()
def sandbox(  # noqa: PLR0913, PLR0917 - an option each
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The gateway's port. Default: 50051 if it is free, else any."),
    ] = None,
    speed: Annotated[float, typer.Option(help="Speed of the simulated clock; 1 is real time.")] = 60.0,
    info: Annotated[
        Path | None, typer.Option(help="JSON file to write for programs, once the sandbox is ready.")
    ] = None,
    policy_engine: Annotated[Literal["wasm", "opa"], typer.Option(help="The policy engine.")] = "wasm",
    opa_url: Annotated[
        str | None, typer.Option(help="The OPA server. Default: http://127.0.0.1:8181")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="This many gateways over one PostgreSQL, instead of one gateway.")
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            help="URL of a PostgreSQL, of a role that may create roles and databases: the sandbox creates a"
            " database and two roles, and drops them at its end. Default: a PostgreSQL of its own."
        ),
    ] = None,
) -> None:
    """Run a simulated EKS and a gateway on this machine, with callers and clusters to try out."""
    from eksgateway.sandbox.options import SandboxOptions  # noqa: PLC0415
    from eksgateway.sandbox.sandbox import run  # noqa: PLC0415

    options = SandboxOptions(
        port=port,
        speed=speed,
        info=info,
        engine=policy_engine,
        opa_url=opa_url,
        replicas=replicas,
        database=database,
    )
    asyncio.run(run(options))


@app.command()
def demo(
    fleet: Annotated[
        bool, typer.Option("--fleet", help="Three gateways over one PostgreSQL, which are killed.")
    ] = False,
) -> None:
    """Play the main scenes on a simulated EKS in about a minute; exit 1 if a scene fails."""
    from eksgateway.sandbox import demo, fleet_demo  # noqa: PLC0415
    from eksgateway.sandbox.demo_screen import DemoScreen  # noqa: PLC0415

    sys.exit(asyncio.run((fleet_demo if fleet else demo).run(DemoScreen())))
