"""A user's environment for `eksgateway`."""

from __future__ import annotations

from pathlib import Path

from support.gateway import RunningGateway


def user_of(gateway: RunningGateway, subject: str, *groups: str) -> dict[str, str]:
    """Address and token in variables, and no contexts of the machine's user."""
    return {
        "EKSGATEWAY_ADDRESS": gateway.address,
        "EKSGATEWAY_TOKEN": gateway.issuer.token(subject, groups),
        **empty_home(gateway.path),
    }


def empty_home(folder: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(folder / "no-config")}
