"""The commands and their options. Each command calls a module of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:  # grpc is imported by the commands that need it
    from eksgateway.cli.connection import Connection

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
ledger_app = typer.Typer(
    help="List, verify and copy a ledger, also while it is in use.", no_args_is_help=True
)
policy_app = typer.Typer(help="Check and try policy data before it is in force.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")
app.add_typer(policy_app, name="policy")

Address = Annotated[str, typer.Option(help="host:port of the gateway.", envvar="EKSGATEWAY_ADDRESS")]
Ca = Annotated[Path | None, typer.Option(help="CA bundle to trust, if the gateway serves TLS.")]
Certificate = Annotated[
    Path | None, typer.Option(help="Client certificate, if the gateway demands one; needs --ca and --key.")
]
Key = Annotated[Path | None, typer.Option(help="The key of --certificate.")]
ClusterName = Annotated[str, typer.Argument(help="The cluster's name.")]
UpdateId = Annotated[str, typer.Argument(help="The update's id.")]
Account = Annotated[str, typer.Option(help="The cluster's account. Default: the gateway's home target.")]
Region = Annotated[str, typer.Option(help="The cluster's region. Default: the gateway's home target.")]
TokenFile = Annotated[
    Path | None, typer.Option(help="File with the bearer token. Default: the token in EKSGATEWAY_TOKEN.")
]
StopOnStdinEof = Annotated[bool, typer.Option("--stop-on-stdin-eof", hidden=True)]


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


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Print errors that the user can correct without a traceback; any other error is a bug."""
    from eksgateway.errors import GatewayError, StartError  # noqa: PLC0415

    try:
        yield
    except (StartError, GatewayError) as exc:
        logging.shutdown()  # writes what is logged, so that this message is the last one
        text = exc if isinstance(exc, StartError) else f"{exc.message} {exc.detail}".rstrip()
        sys.exit(f"eksgateway: {text}")


@contextmanager
def _client_errors() -> Iterator[None]:
    """For commands that call a gateway: clear errors, without lines of grpc's core."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read when grpc is imported
    with _clear_errors():
        try:
            yield
        except KeyboardInterrupt:
            sys.exit(130)
        except UnicodeEncodeError:
            sys.exit("eksgateway: an argument is not text: write it in UTF-8")


def _connection(address: str, ca: Path | None, certificate: Path | None, key: Path | None) -> Connection:
    from eksgateway.cli.connection import Connection  # noqa: PLC0415

    if (certificate is None) != (key is None) or (certificate and ca is None):
        raise typer.BadParameter("--certificate needs --key, and both need --ca")
    return Connection(address, ca, (certificate, key) if certificate and key else None)


@app.command()
def serve(
    config: Annotated[Path, typer.Option(help="The settings file; see config.example.yaml.")],
    stop_on_stdin_eof: StopOnStdinEof = False,
) -> None:
    """Run the gateway against AWS (with boto3's default credential chain)."""
    gc.disable()  # until it is ready, which saves 0.15 of 1.4 s of CPU at the start
    from eksgateway.cli.serve import run  # noqa: PLC0415

    with _clear_errors():
        asyncio.run(run(config, stop_on_stdin_eof=stop_on_stdin_eof))


@app.command()
def health(  # noqa: PLR0913  each is an option
    address: Address = "127.0.0.1:50051",
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    service: Annotated[str, typer.Option(help="Empty checks readiness; `liveness` checks the process.")] = "",
    *,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings of a gateway on this machine, instead of --address and --ca."),
    ] = None,
) -> None:
    """Exit 0 if a gateway serves, 1 if it does not (for container health checks)."""
    from eksgateway.cli.health import check, check_local  # noqa: PLC0415

    with _clear_errors():
        if config is None:
            sys.exit(check(_connection(address, ca, certificate, key), service))
        if ca is not None or (certificate is None) != (key is None):
            raise typer.BadParameter("--config takes no --ca, and --certificate only with --key")
        sys.exit(check_local(config, (certificate, key) if certificate and key else None, service))


@app.command()
def watch(  # noqa: PLR0913  each is an option
    cluster: ClusterName,
    update_id: UpdateId,
    *,
    address: Address = "127.0.0.1:50051",
    token_file: TokenFile = None,
    account: Account = "",
    region: Region = "",
    max_age: Annotated[
        float, typer.Option(min=0, help="Mark a state if EKS was not reached for this many seconds.")
    ] = 60,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
) -> None:
    """Print an update's states until it has ended, across broken streams and restarts of the gateway.

    Exit codes: 0 ended, 1 refused, 2 usage, 4 credentials, 5 no gateway, 130 interrupted.
    """
    with _client_errors():
        from eksgateway.cli.client import run_watch  # noqa: PLC0415
        from eksgateway.v1.update_pb2 import ClusterRef  # noqa: PLC0415

        ref = ClusterRef(name=cluster, account_id=account, region=region)
        connection = _connection(address, ca, certificate, key)
        sys.exit(asyncio.run(run_watch(connection, ref, update_id, token_file, max_age)))


@app.command()
def cancel(  # noqa: PLR0913  each is an option
    cluster: ClusterName,
    update_id: UpdateId,
    *,
    address: Address = "127.0.0.1:50051",
    token_file: TokenFile = None,
    account: Account = "",
    region: Region = "",
    reason: Annotated[str, typer.Option(help="The reason; the policy may require it.")] = "",
    ticket: Annotated[str, typer.Option(help="A ticket; the policy may require it.")] = "",
    request_id: Annotated[str, typer.Option(help="Repeats an earlier request. Default: a new request.")] = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to keep retrying.")] = 45,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
) -> None:
    """Cancel an update. Retries send one cancel to EKS at most. Use `watch` to see the update end.

    Exit codes: 0 EKS accepted it, 1 refused, 2 usage, 4 credentials, 5 no gateway, 124 timed out,
    130 interrupted. After 5, 124 and 130, repeat with the same --request-id to find out the outcome.
    """
    with _client_errors():
        from eksgateway.cli.client import CancelArguments, run_cancel  # noqa: PLC0415
        from eksgateway.v1.update_pb2 import ClusterRef  # noqa: PLC0415

        ref = ClusterRef(name=cluster, account_id=account, region=region)
        connection = _connection(address, ca, certificate, key)
        arguments = CancelArguments(ref, update_id, reason, ticket, request_id, timeout)
        sys.exit(asyncio.run(run_cancel(connection, arguments, token_file)))


@app.command()
def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    speed: Annotated[float, typer.Option(help="Speed of its clock; 1 is real time.")] = 1.0,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Allow a --host that is not loopback.")
    ] = False,
    stop_on_stdin_eof: StopOnStdinEof = False,
) -> None:
    """Run a simulated EKS for boto3 and the AWS CLI, until SIGTERM or SIGINT."""
    from eksgateway.cli.simulate import run  # noqa: PLC0415

    with _clear_errors():
        run(host, port, speed, allow_remote=allow_remote, stop_on_stdin_eof=stop_on_stdin_eof)


@app.command()
def sandbox(
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
) -> None:
    """Run a simulated EKS and a gateway on this machine, with callers and clusters to try out."""
    from eksgateway.sandbox.options import SandboxOptions  # noqa: PLC0415
    from eksgateway.sandbox.sandbox import run  # noqa: PLC0415

    with _clear_errors():
        options = SandboxOptions(port=port, speed=speed, info=info, engine=policy_engine, opa_url=opa_url)
        asyncio.run(run(options))


@app.command()
def demo() -> None:
    """Play the main scenes on a simulated EKS in under a minute; exit 1 if a scene fails."""
    from eksgateway.sandbox.demo import run  # noqa: PLC0415
    from eksgateway.sandbox.demo_screen import DemoScreen  # noqa: PLC0415

    with _clear_errors():
        sys.exit(asyncio.run(run(DemoScreen())))


@ledger_app.command("verify")
def ledger_verify(
    path: Annotated[Path, typer.Argument(help="The ledger's file.")],
    checkpoint: Annotated[
        str, typer.Option(help="seq:hash of an earlier run; detects a truncated ledger.")
    ] = "",
) -> None:
    """Recompute the hash chain and the projection; exit 1 at the first mismatch or missing event."""
    from eksgateway.cli.ledger import verify_ledger  # noqa: PLC0415

    with _clear_errors():
        sys.exit(verify_ledger(path, checkpoint))


@ledger_app.command("list")
def ledger_list(path: Annotated[Path, typer.Argument(help="The ledger's file.")]) -> None:
    """Print every event, oldest first."""
    from eksgateway.cli.ledger import list_ledger  # noqa: PLC0415

    with _clear_errors():
        list_ledger(path)


@ledger_app.command("backup")
def ledger_backup(
    path: Annotated[Path, typer.Argument(help="The ledger's file.")],
    copy: Annotated[Path, typer.Argument(help="The copy: a new file.")],
) -> None:
    """Copy a ledger into one file and verify the copy; also while a gateway writes the ledger."""
    from eksgateway.cli.ledger import back_up_ledger  # noqa: PLC0415

    with _clear_errors():
        back_up_ledger(path, copy)


Module = Annotated[Path | None, typer.Option(help="Your own policy.wasm. Default: the package's.")]


@policy_app.command("check")
def policy_check(
    file: Annotated[Path, typer.Argument(help="The data file: YAML or JSON.")], module: Module = None
) -> None:
    """Check policy data against the schema; exit 1 with the path of every fault.

    For valid data, print the revision that a gateway reports with it in force.
    """
    from eksgateway.cli.policy import check_data  # noqa: PLC0415

    with _clear_errors():
        sys.exit(check_data(file, module))


@policy_app.command("test")
def policy_test(
    file: Annotated[Path, typer.Argument(help="Inputs: one or a list in YAML or JSON, or JSON lines.")],
    data: Annotated[Path | None, typer.Option(help="The data file to decide by.")] = None,
    config: Annotated[Path | None, typer.Option(help="Or a gateway's settings, to use its data.")] = None,
    module: Module = None,
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
    module: Module = None,
) -> None:
    """Print every recorded decision on a cancel that other data would change, each decided at its own time.

    Exit 0 if no decision changes, 1 if one does, 2 if a file cannot be read.
    """
    from eksgateway.cli.policy import diff_decisions  # noqa: PLC0415

    sys.exit(diff_decisions(ledger, data, data_old, module))
