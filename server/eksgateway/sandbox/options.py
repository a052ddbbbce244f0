"""The sandbox's options."""

from __future__ import annotations

import math
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from eksgateway.settings import SettingsError
from eksgateway.settings.postgres_url import check_postgres_url

DEFAULT_PORT: Final = 50051
DEFAULT_HTTP_PORT: Final = 8080  # if it is free, and the gateway's port is not chosen
MOST_REPLICAS: Final = 20  # each takes some 120 MB, and eight connections to PostgreSQL
_DEFAULT_OPA: Final = "http://127.0.0.1:8181"


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """``port`` None is the default port if it is free, else any; 0 is any. Raises SettingsError.

    ``replicas`` None is one gateway with a ledger in a file. A number of them share ``database``, or a
    PostgreSQL of their own.
    """

    port: int | None = None
    speed: float = 60.0
    info: Path | None = None
    engine: Literal["wasm", "opa"] = "wasm"
    opa_url: str | None = None
    replicas: int | None = None
    database: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.speed < math.inf:
            raise SettingsError(f"--speed {self.speed:g}: must be a number above 0")
        if self.engine != "opa" and self.opa_url is not None:
            raise SettingsError("--opa-url needs --policy-engine opa")
        if self.opa_url is not None and not re.fullmatch(r"https?://[^/\s]+", self.opa_url):
            raise SettingsError(f"--opa-url {self.opa_url}: write it as {_DEFAULT_OPA}")
        if self.port and not is_free(self.port):
            raise SettingsError(f"--port {self.port}: it is in use; --port 0 takes a free one")
        if self.replicas is not None and not 1 <= self.replicas <= MOST_REPLICAS:
            raise SettingsError(f"--replicas {self.replicas}: must be between 1 and {MOST_REPLICAS}")
        self._check_database()
        if self.info is not None and (self.info.is_dir() or not self.info.parent.is_dir()):
            raise SettingsError(f"--info {self.info}: must be a file in a folder that exists")

    def _check_database(self) -> None:
        if self.database is None:
            return
        if self.replicas is None:
            raise SettingsError("--database needs --replicas")
        try:
            check_postgres_url(self.database)
        except ValueError as exc:
            raise SettingsError(f"--database: {exc}") from None  # the URL may have a password

    @property
    def opa(self) -> str | None:
        return (self.opa_url or _DEFAULT_OPA) if self.engine == "opa" else None


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
