"""File descriptors: the process's limit, what connections may take of it, and a warning when few are left."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable
from contextlib import suppress

from eksgateway.clock import Clock
from eksgateway.logs import Log
from eksgateway.settings import Settings

log = Log(__name__)

# A hard limit may be a thousand million, and some libraries do work for each descriptor that may be open.
_MOST = 65_536
# For the ledger, policy, keys, metrics (100 connections), logs and what the libraries open.
_RESERVE = 200
_RESERVE_PER_THREAD = 2  # a connection to EKS, and one to STS
_INTERVAL_S = 1.0
_TIGHT, _EASED = 0.9, 0.8  # parts of the connections that a listener takes


def raise_limit() -> None:
    """Raise the soft limit to the hard one, as Go programs do: the default of 1,024 is for `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as exc:
            log.warning("descriptors.not_raised", limit=soft, wanted=wanted, fault=str(exc))
    log.info("descriptors.limit", before=soft, after=_limit(), hard=hard)


def connections_of(settings: Settings) -> int:
    """How many connections one listener may have, so that the process can always open what it needs beside
    them; ``limits.connections`` if that is less.
    """
    limit = _limit()
    reserve = _RESERVE + _RESERVE_PER_THREAD * settings.eks.threads * len(settings.eks.targets)
    left = max(limit - reserve, limit // 4) // len(settings.listeners)
    return max(1, min(left, settings.limits.connections))


async def watch(settings: Settings, clock: Clock, make_room: Callable[[], Awaitable[None]]) -> None:
    """Log once when a listener may have nearly all the connections that it takes, and once when that is over;
    ``make_room`` at each look in between. Runs until cancelled.
    """
    most = connections_of(settings)
    before = await asyncio.to_thread(_open)  # what is open without any connection
    tight = False
    while True:
        used = await asyncio.to_thread(_open)
        if not tight and used - before >= most * _TIGHT:
            tight = True
            log.warning("descriptors.tight", open=used, limit=_limit(), connections=most)
        elif tight and used - before < most * _EASED:
            tight = False
            log.info("descriptors.eased", open=used, limit=_limit(), connections=most)
        if tight:
            with suppress(OSError):  # no descriptor is left to look at the connections with: try again
                await make_room()
        await clock.sleep(_INTERVAL_S)


def _limit() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST if soft == resource.RLIM_INFINITY else soft


def _open() -> int:
    """How many descriptors are open; none where the system does not tell."""
    try:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208  names alone
    except FileNotFoundError:
        return 0
    except OSError:  # not even this one could be opened
        return _limit()
