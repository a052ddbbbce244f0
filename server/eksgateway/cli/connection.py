"""How a command reaches a gateway: in plaintext, or by TLS with or without a certificate of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from eksgateway.client import Channels
from eksgateway.client.addresses import check_address
from eksgateway.settings import SettingsError


@dataclass(frozen=True, slots=True)
class Connection:
    """``ca``: the CA bundle of a gateway that serves TLS. ``own``: the caller's certificate and its key."""

    address: str
    ca: Path | None = None
    own: tuple[Path, Path] | None = None

    def __post_init__(self) -> None:
        """Raises SettingsError for an address that grpc would misread."""
        try:
            check_address(self.address)
        except ValueError as exc:
            raise SettingsError(f"--address {exc}") from exc

    def channels(self) -> Channels:
        """Not connected yet. Raises SettingsError for files that cannot be read."""
        return Channels(self.address, self.credentials())

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None for plaintext. Raises SettingsError for files that cannot be read."""
        if self.ca is None:
            return None
        return credentials_of(_read(self.ca), self.own)


def credentials_of(trusted: bytes, own: tuple[Path, Path] | None) -> grpc.ChannelCredentials:
    """Of PEM certificates to trust, and the files of one to show. Raises SettingsError."""
    certificate, key = (_read(path) for path in own) if own else (None, None)
    return grpc.ssl_channel_credentials(trusted, key, certificate)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read: {exc.strerror}") from exc
