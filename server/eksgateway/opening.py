"""Opens a gateway from settings. boto3 is loaded once calls are answered, which saves 0.1 s of the start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from eksgateway.app import build_gateway
from eksgateway.clock import Clock, SystemClock
from eksgateway.eks.adapter import BotoEks, is_permanent
from eksgateway.errors import EksNotReached, StartError, UpstreamCredentials
from eksgateway.gateway import Gateway
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.logs import Log
from eksgateway.metrics import Metrics
from eksgateway.policy.factory import open_policy_engine
from eksgateway.settings import Settings

if TYPE_CHECKING:
    from eksgateway.fleet.fleet import Fleet

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

        policy = await keep(open_policy_engine(settings.policy, clock))
        ledger = await keep(open_ledger(settings.ledger, clock))
        fleet = await keep(_open_fleet(settings, ledger.replica, clock)) if settings.ledger.url else None
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


async def _open_fleet(settings: Settings, name: str, clock: Clock) -> Fleet:
    from eksgateway.fleet.fleet import open_fleet  # noqa: PLC0415 - psycopg alone takes 75 ms

    return await open_fleet(settings, name, clock)


async def _warm(eks: BotoEks) -> None:
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
