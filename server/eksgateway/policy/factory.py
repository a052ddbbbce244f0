"""Opens the policy engine that the settings name."""

from __future__ import annotations

from eksgateway.clock import Clock
from eksgateway.policy.engine import PolicyEngine
from eksgateway.policy.files import PolicyFiles
from eksgateway.settings import OpaPolicySettings, PolicySettings


async def open_policy_engine(settings: PolicySettings, clock: Clock) -> PolicyEngine:
    """An engine, which the caller closes. Raises PolicyLoadError for the engine wasm.

    The OPA of the engine opa may start after the gateway: use ``check``.
    """
    # Imported where used: the OPA client alone takes a quarter of a second.
    if isinstance(settings, OpaPolicySettings):
        from eksgateway.policy.opa import OpaEngine  # noqa: PLC0415 - as above

        return await OpaEngine.open(settings.opa, clock, timeout_s=settings.timeout_s)
    from eksgateway.policy.wasm import WasmEngine  # noqa: PLC0415 - as above

    files = PolicyFiles(settings.data, settings.module)
    return await WasmEngine.open(files, clock, timeout_s=settings.timeout_s)
