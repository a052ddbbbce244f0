"""The commands that run a gateway, a simulated EKS, or both to try out."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from eksgateway.cli import serve_command
from eksgateway.cli.exit_codes import example
from eksgateway.cli.shared_options import StopOnStdinEofOption


def add_commands(app: typer.Typer) -> None:
    for command, shown in (
        (serve, "eksgateway serve --config config.yaml"),
        (simulate, "eksgateway simulate --port 8000 --speed 60"),
        (sandbox, "eksgateway sandbox --replicas 3"),
        (demo, "eksgateway demo"),
    ):
        app.command(epilog=example(shown))(command)


def serve(
    config: Annotated[Path, typer.Option(help="The settings file; see config.example.yaml.")],
    stop_on_stdin_eof: StopOnStdinEofOption = False,
) -> None:
    """Run the gateway against AWS (with boto3's default credential chain)."""
    serve_command.serve(config, stop_on_stdin_eof)


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


def demo(
    fleet: Annotated[
        bool, typer.Option("--fleet", help="Three gateways over one PostgreSQL, which are killed.")
    ] = False,
) -> None:
    """Play the main scenes on a simulated EKS in about a minute; exit 1 if a scene fails."""
    from eksgateway.sandbox import demo, fleet_demo  # noqa: PLC0415
    from eksgateway.sandbox.demo_screen import DemoScreen  # noqa: PLC0415

    sys.exit(asyncio.run((fleet_demo if fleet else demo).run(DemoScreen())))
