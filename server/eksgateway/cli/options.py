"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

AddressOption: TypeAlias = Annotated[
    str, typer.Option(help="host:port of the gateway.", envvar="EKSGATEWAY_ADDRESS")
]
CaOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="CA bundle to trust, if the gateway serves TLS.")
]
CertificateOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Client certificate, if the gateway demands one; needs --ca and --key.")
]
KeyOption: TypeAlias = Annotated[Path | None, typer.Option(help="The key of --certificate.")]
ClusterArgument: TypeAlias = Annotated[str, typer.Argument(help="The cluster's name.")]
UpdateArgument: TypeAlias = Annotated[str, typer.Argument(help="The update's id.")]
AccountOption: TypeAlias = Annotated[
    str, typer.Option(help="The cluster's account. Default: the gateway's home target.")
]
RegionOption: TypeAlias = Annotated[
    str, typer.Option(help="The cluster's region. Default: the gateway's home target.")
]
TokenFileOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="File with the bearer token. Default: the token in EKSGATEWAY_TOKEN.")
]
StopOnStdinEofOption: TypeAlias = Annotated[bool, typer.Option("--stop-on-stdin-eof", hidden=True)]
