"""`make bench`, or `make bench ONLY=name`: measures every ratio, one, or those of a group (``fleet``).

`make bench ONLY=name ROUNDS=1` makes at most so many rounds. The module that measures a ratio lists it.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import takewhile
from typing import Final

from bench import (
    calls,
    cancels,
    edge,
    fleet,
    growth,
    lone,
    policy,
    policy_reload,
    policy_widest,
    start,
    starvation,
    verify,
    watches,
)
from bench.report import MissingProgram, Ratio, Result, write

RATIOS: Final[tuple[Ratio, ...]] = (
    *watches.RATIOS,
    *calls.RATIOS,
    *cancels.RATIOS,
    *lone.RATIOS,
    *starvation.RATIOS,
    *start.RATIOS,
    *edge.RATIOS,
    *growth.RATIOS,
    *verify.RATIOS,
    *fleet.RATIOS,
    *policy.RATIOS,
    *policy_widest.RATIOS,
    *policy_reload.RATIOS,
)


async def main(only: str = "", rounds_at_most: str = "") -> int:
    chosen = [ratio for ratio in RATIOS if only in ("", ratio.name, _group(ratio))]
    if not chosen:
        print(f"no ratio is named {only}: choose one of {', '.join(ratio.name for ratio in RATIOS)}")
        return 2
    results, missing = [], False
    most = int(rounds_at_most or sys.maxsize)
    rounds: dict[str, list[float]] = {ratio.name: [] for ratio in chosen}
    # Rounds are interleaved, so that a busy minute of the machine affects every ratio.
    for number in range(min(most, max(ratio.rounds for ratio in chosen))):
        for ratio in chosen:
            if number < ratio.rounds:
                try:
                    value = await ratio.measure()
                except MissingProgram as exc:
                    missing = True
                    print(f"{ratio.name}: not measured: {exc}", flush=True)
                    continue
                rounds[ratio.name].append(value)
                print(f"{ratio.name}: round {number + 1} of {ratio.rounds}: {value:.3f}", flush=True)
    results = [Result(ratio, rounds[ratio.name]) for ratio in chosen if rounds[ratio.name]]
    write(results)
    return 1 if missing else 0


def _group(ratio: Ratio) -> str:
    """The letters that its name begins with: ``policy`` of ``policy_wasm``, ``lone`` of ``lone50``."""
    return "".join(takewhile(str.isalpha, ratio.name))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
