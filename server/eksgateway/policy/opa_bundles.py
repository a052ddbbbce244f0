"""Follows whether OPA loads its bundles, and why it does not.

OPA reports it at /v1/status, if its configuration has `status` and its authorization allows it.
"""

from __future__ import annotations

import asyncio
import math
import re
from typing import Any, Final

from eksgateway.clock import Clock
from eksgateway.errors import GatewayError
from eksgateway.logs import Log
from eksgateway.policy.engine import Reloads
from eksgateway.policy.opa_client import OpaClient

log = Log(__name__)

_POLL_S: Final = 5.0
_ANSWER_S: Final = 2.0
_MAX_TEXT: Final = 400
_OWN_PORT: Final = re.compile(r":\d+->")  # as in "read tcp 10.0.0.1:41234->10.0.0.2:443: connection reset"
_NEVER: Final = "0001-"  # Go's zero time

# Parts of OPA's messages, and how to correct the cause.
_REMEDIES: Final = {
    "missing .signatures.json": "sign the bundle: `eksgateway policy bundle --signing-key`",
    "verify JWT signature": "sign the bundle with the private key of the public one in OPA's `keys`",
    "verification key": "sign the bundle with the --signing-key-id of a key in OPA's `keys`",
    "digest mismatch": "the bundle was changed after it was signed: make it again",
    "bundle signature": "the bundle was changed after it was signed: make it again",
    "request failed": "check the bundles' server, and its address in OPA's `services`",
    "server replied": "check the bundles' server, and the address in OPA's `services` and `bundles`",
}


class BundleLoads:
    """Counts and logs failed loads while an older bundle is in force."""

    def __init__(self, client: OpaClient, bundle: str, clock: Clock, reloads: Reloads) -> None:
        self._client = client
        self._bundle = bundle  # its name; empty for all of OPA's
        self._clock = clock
        self._reloads = reloads
        self._logged = ""
        self._read_at = -math.inf
        self._reading: asyncio.Task[None] | None = None

    async def explain(self) -> str:
        """Why OPA has not loaded the bundle, and how to correct it."""
        problem = f"OPA has not loaded the bundle {self._bundle!r}"
        try:
            bundles = await self._read_bundles()
        except GatewayError:
            return f"{problem}: its log has the cause (with `status` in OPA's configuration this has it too)"
        if self._bundle not in bundles:
            names = ", ".join(sorted(bundles)) or "none"
            return f"{problem}: its configuration has {names}; correct policy.opa.bundle, or OPA's `bundles`"
        return f"{problem}: {_describe_failure(bundles[self._bundle]) or 'it has just started'}"

    async def describe_failures(self) -> str:
        """Why OPA did not load bundles the last time; empty without a failure, or if OPA reports none."""
        try:
            return self._join_failures(await self._read_bundles())
        except GatewayError:
            return ""

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def refresh(self) -> None:
        """Read the status in the background, at most every 5 s."""
        now = self._clock.monotonic()
        if now - self._read_at >= _POLL_S and (self._reading is None or self._reading.done()):
            self._read_at = now
            self._reading = asyncio.create_task(self._refresh(), name="policy-bundles")

    async def _refresh(self) -> None:
        try:
            self._note(await self._read_bundles())
        except GatewayError:
            pass  # OPA does not report it, or does not answer, which the engine notices
        except Exception:
            log.exception("policy.unexpected")

    async def _read_bundles(self) -> dict[str, Any]:
        status = (await self._client.read_status(_ANSWER_S)).get("result")
        bundles = status.get("bundles") if isinstance(status, dict) else None
        return bundles if isinstance(bundles, dict) else {}

    def _note(self, bundles: dict[str, Any]) -> None:
        followed = self._select(bundles)
        in_force = {name: each for name, each in followed.items() if _is_in_force(each)}
        detail = self._join_failures(in_force)
        self._reloads.failing = bool(detail)
        # An OPA that was started again without its bundle has not recovered: readiness has the cause.
        if detail == self._logged or (not detail and (not in_force or in_force != followed)):
            return
        self._logged = detail
        if detail:
            self._reloads.refused += 1
            note = "A bundle that OPA loaded before stays in force."
            log.error("policy.bundle_failed", engine="opa", detail=detail, note=note)
        else:
            log.info("policy.bundle_recovered", engine="opa", note="OPA loads its bundle again.")

    def _join_failures(self, bundles: dict[str, Any]) -> str:
        failures = {name: _describe_failure(each) for name, each in self._select(bundles).items()}
        return "; ".join(f"{name}: {failure}" for name, failure in failures.items() if failure)

    def _select(self, bundles: dict[str, Any]) -> dict[str, Any]:
        return {name: each for name, each in sorted(bundles.items()) if self._bundle in ("", name)}


def _is_in_force(bundle: Any) -> bool:
    """Whether OPA has loaded it once. Before, readiness reports the failure."""
    activated = bundle.get("last_successful_activation") if isinstance(bundle, dict) else None
    return isinstance(activated, str) and not activated.startswith(_NEVER)


def _describe_failure(bundle: Any) -> str:
    """Why OPA did not load a bundle the last time, by its status; empty if it did."""
    if not isinstance(bundle, dict) or not bundle.get("code"):
        return ""
    errors = bundle.get("errors")
    parts = [bundle, *(errors if isinstance(errors, list) else [])]
    messages = [str(part["message"]) for part in parts if isinstance(part, dict) and part.get("message")]
    text = (": ".join(messages[:2]) or str(bundle["code"]))[:_MAX_TEXT]
    text = _OWN_PORT.sub("->", text)  # or one failure would be logged as a new one at each try
    remedy = next((remedy for part, remedy in _REMEDIES.items() if part in text), "OPA's log has more")
    return f"{text} ({remedy})"
