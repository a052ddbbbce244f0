"""Shared by all sections of the settings: strictness, and the types of paths and addresses."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator

from eksgateway.addresses import is_loopback, split_address

_HOST_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]*")
_SCHEMES: Final = {"unix", "unix-abstract", "vsock"}  # grpc reads `unix:1` as a path


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a boolean for a number: Python takes it for 0 or 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError("must be a number, and YAML reads on, off, yes and no as a boolean")
        return value


def resolve_path(value: Path, info: ValidationInfo) -> Path:
    """Make a path absolute; relative paths are relative to the settings file."""
    base: Path = (info.context or {}).get("base", Path.cwd())
    return value if value.is_absolute() else base / value


def _check_address(value: str) -> str:
    with suppress(ValueError):
        host, _ = split_address(value)
        if ":" in host or (_HOST_NAME.fullmatch(host) and host.lower() not in _SCHEMES):
            return value
    raise ValueError(
        "write it as host:port, for example 127.0.0.1:50051 or [::1]:50051; the host is an IP address or a"
        " host name"
    )


FilePath: TypeAlias = Annotated[Path, AfterValidator(resolve_path)]
Address: TypeAlias = Annotated[str, AfterValidator(_check_address)]


def is_local(address: Address) -> bool:
    """Whether only this machine reaches the address."""
    return is_loopback(split_address(address)[0])
