"""Opens the policy engine that the settings name."""

from __future__ import annotations

from eksgateway.clock import Clock
from eksgateway.policy.engine import PolicyEngine
from eksgateway.policy.files import PolicyFiles
from eksgateway.settings import PolicySettings


async def open_engine(settings: PolicySettings, clock: Clock) -> PolicyEngine:
    """The engine, which its user closes.

    The engine wasm has answered once when this returns; raises PolicyLoadError if its data or
    module cannot be used. The engine opa may come up later than the gateway: see ``check``.
    """
    # Each engine is imported only where it is used: the OPA client alone takes a quarter of a second.
    if settings.engine == "opa":
        from eksgateway.policy.opa import OpaEngine  # noqa: PLC0415 - as above

        assert settings.opa is not None  # noqa: S101 - PolicySettings says so; for mypy
        return await OpaEngine.open(settings.opa, clock, timeout_s=settings.timeout_s)
    from eksgateway.policy.wasm import WasmEngine  # noqa: PLC0415 - as above

    assert settings.data is not None  # noqa: S101 - PolicySettings says so; for mypy
    files = PolicyFiles(settings.data, settings.module)
    return await WasmEngine.open(files, clock, timeout_s=settings.timeout_s)
