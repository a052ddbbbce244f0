"""The policy engine: compiled into this process (wasm), or an OPA server."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, PositiveFloat, Tag, model_validator

from eksgateway.revocation import MAX_POLL_AND_TIMEOUT_S, MAX_TIMEOUT_S, REVOKED_WITHIN_S
from eksgateway.settings.section import FilePath, Section


class WasmPolicySettings(Section):
    """``data`` is the operators' file (YAML or JSON), or their folder of such files.

    ``module`` replaces the package's compiled policy.
    """

    engine: Literal["wasm"] = "wasm"
    data: FilePath
    module: FilePath | None = None
    timeout_s: PositiveFloat = 2


class OpaSettings(Section):
    """``bundle`` names the bundle that it must have loaded, if any."""

    url: Annotated[str, Field(pattern=r"^https?://[^/]+$")]
    bundle: str = ""
    poll_s: PositiveFloat = 1  # between polls of the revision in force


class OpaPolicySettings(Section):
    """OPA loads policy and data itself, from its bundle."""

    engine: Literal["opa"] = "opa"
    opa: OpaSettings
    timeout_s: PositiveFloat = 2

    @model_validator(mode="after")
    def _check_revocation_time(self) -> Self:
        """Bound the time that a slow OPA takes to end a watch, as ``revocation`` derives it."""
        timeout_s, poll_s = self.timeout_s, self.opa.poll_s
        if timeout_s <= MAX_TIMEOUT_S and timeout_s + poll_s <= MAX_POLL_AND_TIMEOUT_S:
            return self
        raise ValueError(
            f"with `timeout_s: {timeout_s:g}` and `opa.poll_s: {poll_s:g}` a watch that is no"
            f" longer allowed could go on for more than {REVOKED_WITHIN_S:g} s: set `timeout_s` to"
            f" {MAX_TIMEOUT_S:g} at most, and `opa.poll_s` so that both together are"
            f" {MAX_POLL_AND_TIMEOUT_S:g} at most"
        )


_OWN: Final = {"wasm": ("data", "module"), "opa": ("opa",)}


def _engine_of(value: Any) -> Any:
    return value.get("engine", "wasm") if isinstance(value, dict) else getattr(value, "engine", "wasm")


def _check_engine(value: Any) -> Any:
    """Refuse settings of the other engine, which its section would only call unknown."""
    if not isinstance(value, dict):
        return value
    engine = _engine_of(value)
    if engine not in ("wasm", "opa"):
        raise ValueError("`engine` must be wasm or opa")
    other = "opa" if engine == "wasm" else "wasm"
    for name in _OWN[other]:
        if value.get(name) is not None:
            raise ValueError(
                f"`{name}` is for the engine {other}, and the engine is {engine}, which would ignore it:"
                f" remove `{name}`, or set `engine: {other}`"
            )
    return {name: each for name, each in value.items() if name not in _OWN[other]}


PolicySettings: TypeAlias = Annotated[
    Annotated[WasmPolicySettings, Tag("(wasm)")] | Annotated[OpaPolicySettings, Tag("(opa)")],
    Discriminator(lambda value: f"({_engine_of(value)})"),
    BeforeValidator(_check_engine),
]
