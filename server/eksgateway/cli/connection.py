"""How a command reaches a gateway: in plaintext, or by TLS with or without a certificate of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from eksgateway.settings import SettingsError


@dataclass(frozen=True, slots=True)
class Connection:
    """``ca``: the CA bundle of a gateway that serves TLS. ``own``: the caller's certificate and its key."""

    address: str
    ca: Path | None = None
    own: tuple[Path, Path] | None = None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None for plaintext. Raises SettingsError for files that cannot be read."""
        if self.ca is None:
            return None
        certificate, key = (_read(path) for path in self.own) if self.own else (None, None)
        return grpc.ssl_channel_credentials(_read(self.ca), key, certificate)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read: {exc.strerror}") from exc
