"""Raises the limit on file descriptors, bounds connections by it, and warns when few are left."""

from __future__ import annotations

import os
import resource
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from eksgateway.blocking import run_blocking
from eksgateway.clock import Clock
from eksgateway.logs import Log
from eksgateway.settings import Settings

log = Log(__name__)

# A hard limit may be 10**9, and some libraries do work for each descriptor up to the limit.
_MAX_LIMIT: Final = 65_536
# For the ledger, policy, keys, metrics (100 connections), logs and libraries.
_RESERVE: Final = 200
_RESERVE_PER_THREAD: Final = 2  # a connection to EKS, and one to STS
_INTERVAL_S: Final = 1.0
_TIGHT: Final = 0.9  # of the connections of one listener
_EASED: Final = 0.8


def raise_limit() -> None:
    """Raise the soft limit to the hard one. The default of 1,024 exists for `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _MAX_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as exc:
            log.warning("descriptors.not_raised", limit=soft, wanted=wanted, fault=str(exc))
    log.info("descriptors.limit", before=soft, after=_limit(), hard=hard)


def max_connections(settings: Settings) -> int:
    """How many connections each listener, and the HTTP edge, may accept: ``limits.connections``, or fewer, to
    keep descriptors for the process itself.
    """
    limit = _limit()
    reserve = _RESERVE + _RESERVE_PER_THREAD * settings.eks.threads * len(settings.eks.targets)
    accepting = len(settings.listeners) + (settings.http.listen is not None)
    left = max(limit - reserve, limit // 4) // accepting
    return max(1, min(left, settings.limits.connections))


async def watch(settings: Settings, clock: Clock, make_room: Callable[[], Awaitable[None]]) -> None:
    """Log when a listener may have nearly all its connections, and when that has eased; call ``make_room``
    each second in between. Runs until cancelled.
    """
    most = max_connections(settings)
    before = await run_blocking(_count_open)  # without any connection
    tight = False
    while True:
        with suppress(OSError, RuntimeError):  # no descriptor or no thread is left for this: try again
            used = await run_blocking(_count_open)
            if not tight and used - before >= most * _TIGHT:
                tight = True
                log.warning("descriptors.tight", open=used, limit=_limit(), connections=most)
            elif tight and used - before < most * _EASED:
                tight = False
                log.info("descriptors.eased", open=used, limit=_limit(), connections=most)
            if tight:
                await make_room()
        await clock.sleep(_INTERVAL_S)


def _limit() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MAX_LIMIT if soft == resource.RLIM_INFINITY else soft


def _count_open() -> int:
    try:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208  names alone
    except FileNotFoundError:  # on a system without it
        return 0
    except OSError:  # no descriptor is left to open the folder
        return _limit()
