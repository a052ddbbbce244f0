"""Connects a command to a gateway: in plaintext, or over TLS with or without a client certificate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
import typer

from eksgateway.client import Channels
from eksgateway.client.addresses import check_address
from eksgateway.errors import SettingsError


@dataclass(frozen=True, slots=True)
class GatewayConnection:
    """``ca`` is the CA bundle to trust, for TLS.

    Raises BadParameter for an option that needs another, and SettingsError for an address that grpc would
    misread.
    """

    address: str
    ca: Path | None
    certificate: Path | None
    key: Path | None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None) or (self.certificate and self.ca is None):
            raise typer.BadParameter("--certificate needs --key, and both need --ca")
        try:
            check_address(self.address)
        except ValueError as exc:
            raise SettingsError(f"--address {exc}") from exc

    def channels(self) -> Channels:
        """Raises SettingsError for unreadable files."""
        return Channels(self.address, self.credentials())

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None for plaintext. Raises SettingsError for unreadable files."""
        if self.ca is None:
            return None
        return tls_credentials(_read(self.ca), self.certificate, self.key)


def tls_credentials(trusted: bytes, certificate: Path | None, key: Path | None) -> grpc.ChannelCredentials:
    """``trusted`` is PEM. Raises SettingsError for unreadable files."""
    return grpc.ssl_channel_credentials(
        trusted, _read(key) if key else None, _read(certificate) if certificate else None
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read: {exc.strerror}") from exc
