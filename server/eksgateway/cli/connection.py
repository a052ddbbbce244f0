"""Connects a command to a gateway: in plaintext, or over TLS with or without a client certificate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from eksgateway.client import Channels
from eksgateway.client.addresses import check_address
from eksgateway.settings import SettingsError


@dataclass(frozen=True, slots=True)
class GatewayConnection:
    """``ca`` is the CA bundle to trust, for TLS. ``pair`` is the client certificate and its key."""

    address: str
    ca: Path | None = None
    pair: tuple[Path, Path] | None = None

    def __post_init__(self) -> None:
        """Raise SettingsError for an address that grpc would misread."""
        try:
            check_address(self.address)
        except ValueError as exc:
            raise SettingsError(f"--address {exc}") from exc

    def channels(self) -> Channels:
        """Channels, not yet connected. Raises SettingsError for unreadable files."""
        return Channels(self.address, self.credentials())

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None for plaintext. Raises SettingsError for unreadable files."""
        if self.ca is None:
            return None
        return tls_credentials(_read(self.ca), self.pair)


def tls_credentials(trusted: bytes, pair: tuple[Path, Path] | None) -> grpc.ChannelCredentials:
    """From PEM certificates to trust, and the files of a client certificate and key. Raises SettingsError."""
    certificate, key = (_read(path) for path in pair) if pair else (None, None)
    return grpc.ssl_channel_credentials(trusted, key, certificate)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read: {exc.strerror}") from exc
