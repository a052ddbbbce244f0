"""Connects a command to a gateway: which address, which TLS, which token."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import grpc

from eksgateway.addresses import is_loopback
from eksgateway.cli.connection_settings import (
    OPTIONS,
    VARIABLES,
    ConnectionSettings,
    from_environment,
)
from eksgateway.cli.exit_codes import USAGE, CommandError
from eksgateway.cli.token_sources import TokenCommand, TokenFile, TokenSource, TokenText
from eksgateway.client.addresses import check_address

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
# Where Linux distributions keep the system's bundle, if OpenSSL does not know.
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True, slots=True)
class Connection:
    """``context`` is the name of the context that the settings are from, or empty."""

    settings: ConnectionSettings
    context: str = ""
    token: TokenSource | None = None

    @property
    def address(self) -> str:
        return self.settings.address

    @property
    def plaintext(self) -> bool:
        """In so many words, or to this machine without a CA or a client certificate."""
        given = self.settings
        return given.plaintext or not (given.ca or given.certificate or not is_local(given.address))

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None for plaintext. Raises CommandError for unreadable files."""
        if self.plaintext:
            return None
        trusted = _read(self.settings.ca) if self.settings.ca else system_roots()
        return tls_credentials(trusted, self.settings.certificate, self.settings.key)


def connect(
    options: ConnectionSettings,
    context: str,
    environment: Mapping[str, str],
    report: Callable[[str], None],
) -> Connection:
    """Options over environment over the current context. Raises CommandError.

    A context that an option names is over the environment too. Where an option or the environment gives an
    address, the current context is not used: its token is not for that address.
    """
    try:
        options.check(OPTIONS)
    except CommandError as exc:
        raise CommandError(str(exc), USAGE) from exc
    variables = from_environment(environment)
    named = context or ("" if options.address else environment.get("EKSGATEWAY_CONTEXT", ""))
    base = ConnectionSettings()
    if named or not (options.address or variables.address):
        from eksgateway.cli.contexts import read_contexts  # noqa: PLC0415  imports PyYAML, which is slow

        contexts = read_contexts(environment)
        if name := named or contexts.current:
            named, base = name, contexts.find(name)
    if context:
        settings = options.over(base).over(variables.only_token())
    else:
        settings = options.over(variables).over(base)
    settings = settings.over(ConnectionSettings(address=DEFAULT_ADDRESS))
    try:
        check_address(settings.address)
    except ValueError as exc:
        name = (OPTIONS if options.address else VARIABLES)("address")
        raise CommandError(f"{name}: {exc}") from exc
    return Connection(settings, named, _token_source(settings, report))


def _token_source(settings: ConnectionSettings, report: Callable[[str], None]) -> TokenSource | None:
    if settings.token:
        return TokenText(settings.token, VARIABLES("token"))
    if settings.token_file:
        return TokenFile(settings.token_file, f"token file {settings.token_file}")
    if settings.token_command:
        return TokenCommand(settings.token_command, "token command", report)
    return None


def is_local(address: str) -> bool:
    """Whether no call to this address leaves the machine."""
    scheme, _, rest = address.partition(":")
    if scheme in ("unix", "unix-abstract"):
        return True
    if scheme in ("ipv4", "ipv6"):
        return all(_is_loopback(each) for each in unquote(rest).removeprefix("///").split(","))
    if scheme == "dns":
        return _is_loopback(rest.rpartition("/")[2])
    return _is_loopback(address)


def _is_loopback(address: str) -> bool:
    return is_loopback(address.rpartition(":")[0].strip("[]"))


def system_roots() -> bytes | None:
    """The certificates that this machine trusts, PEM; None for those that grpc brings.

    By itself grpc's Python package trusts its own list only. SSL_CERT_FILE and SSL_CERT_DIR are respected.
    """
    paths = ssl.get_default_verify_paths()
    files = [paths.cafile, *(() if os.environ.get(paths.openssl_capath_env) else _BUNDLES)]
    for file in files:
        if file and Path(file).is_file():
            return _read(Path(file))
    if paths.capath:
        hashed = sorted(Path(paths.capath).glob("*.[0-9]"))
        return b"\n".join(each.read_bytes() for each in hashed if each.is_file()) or None
    return None


def tls_credentials(
    trusted: bytes | None, certificate: Path | None, key: Path | None
) -> grpc.ChannelCredentials:
    """``trusted`` is PEM. Raises CommandError for unreadable files."""
    return grpc.ssl_channel_credentials(
        trusted, _read(key) if key else None, _read(certificate) if certificate else None
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise CommandError(f"{path}: cannot be read: {exc.strerror}") from exc
