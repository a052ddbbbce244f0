"""`make bench`, or `make bench ONLY=name`: measures every ratio, one, or those of a group (``fleet``)."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from bench import calls, edge, fleet, lone, policy, policy_reload, policy_widest, starvation, watches
from bench.report import MissingProgram, Ratio, Result, write

RATIOS: Final = (
    Ratio(
        "eks_calls", "EKS calls with 5,000 watchers ÷ with 1", "at most", 1.00, 3, watches.measure_eks_calls
    ),
    Ratio("age", "age of knowledge, 1,000 pollers ÷ gateway", "at least", 300, 3, watches.measure_age),
    Ratio(
        "stalled", "p99 with 10 % stalled ÷ none, 1,000 watchers", "at most", 1.05, 5, watches.measure_stalled
    ),
    Ratio("memory", "memory per watcher ÷ bare stream handler", "at most", 1.10, 3, watches.measure_memory),
    Ratio("leak", "memory after 60,000 watches ÷ after 1,000", "at most", 1.02, 1, watches.measure_leak),
    Ratio("lost", "5,000 watches opened at once: lost", "at most", 0, 3, watches.measure_lost),
    Ratio("denied", "denied calls/s ÷ bare echo calls/s", "at least", 0.45, 5, calls.measure_denied),
    Ratio("cancels", "CancelUpdate/s ÷ plain boto3 loop", "at least", 0.90, 5, calls.measure_cancels),
    Ratio("lone0", "a lone CancelUpdate ÷ the glue", "at most", 1.0, 5, lone.measure_beside_glue),
    Ratio("lone50", "the same at 50 ms to EKS ÷ boto3 loop", "at most", 0.75, 3, lone.measure_at_50_ms),
    Ratio("lone150", "the same at 150 ms to EKS ÷ boto3 loop", "at most", 0.72, 3, lone.measure_at_150_ms),
    Ratio(
        "starve",
        "another caller's p95 in the worst flood ÷ calm",
        "at most",
        10,
        1,
        starvation.measure_starvation,
    ),
    Ratio("start", "start to first decision ÷ bare server", "at most", 6, 7, calls.measure_start),
    Ratio("http", "CPU of a call in JSON by HTTP ÷ by gRPC", "at most", 2, 5, edge.measure_unary),
    Ratio("fleet_calls", "EKS calls, 3 replicas ÷ 1", "at most", 1.05, 3, fleet.measure_calls),
    Ratio(
        "fleet_fanout",
        "a change at the last replica after the first: p99 in s",
        "at most",
        0.25,
        3,
        fleet.measure_fanout,
    ),
    Ratio(
        "fleet_kill", "kill -9 of a replica to the last next look, in s", "at most", 10, 3, fleet.measure_kill
    ),
    Ratio(
        "fleet_commits",
        "intents/s at 1 ms to the database ÷ a statement at a time",
        "at least",
        3,
        3,
        fleet.measure_commits,
    ),
    Ratio(
        "fleet_cancels",
        "CancelUpdate/s at 1 ms, 3 replicas ÷ 1",
        "at least",
        1,
        3,
        fleet.measure_cancels,
    ),
    Ratio("fleet_start", "start over PostgreSQL ÷ start over SQLite", "at most", 1.3, 5, fleet.measure_start),
    Ratio(
        "policy_wasm",
        "CPU of a decision: 10,000 grants, 200 groups ÷ 10, 1",
        "at most",
        3.5,
        5,
        policy.measure_grants_wasm,
    ),
    Ratio("policy_opa", "the same in an OPA server", "at most", 3.5, 3, policy.measure_grants_opa),
    Ratio(
        "policy_freezes_wasm",
        "CPU of a decision: 1,000 freezes ÷ none",
        "at most",
        1.5,
        5,
        policy.measure_freezes_wasm,
    ),
    Ratio("policy_freezes_opa", "the same in an OPA server", "at most", 1.5, 3, policy.measure_freezes_opa),
    Ratio(
        "policy_widest",
        "the costliest decision that is admitted, CPU in ms",
        "at most",
        2,
        3,
        policy_widest.measure_widest,
    ),
    Ratio("policy_memory", "MB of a module with 10,000 grants", "at most", 64, 1, policy.measure_memory),
    Ratio("policy_check", "policy check of 10,000 grants, CPU in s", "at most", 5, 3, policy.measure_check),
    Ratio(
        "policy_reload", "reload of 10,000 grants, CPU in s", "at most", 5, 3, policy_reload.measure_reload
    ),
    Ratio(
        "policy_loop",
        "event loop held up by that reload, in ms",
        "at most",
        10,
        1,
        policy_reload.measure_loop,
    ),
)


async def main(only: str) -> int:
    chosen = [ratio for ratio in RATIOS if only in ("", ratio.name, ratio.name.split("_")[0])]
    if not chosen:
        print(f"no ratio is named {only}: choose one of {', '.join(ratio.name for ratio in RATIOS)}")
        return 2
    results, missing = [], False
    rounds: dict[str, list[float]] = {ratio.name: [] for ratio in chosen}
    # Rounds are interleaved, so that a busy minute of the machine affects every ratio.
    for number in range(max(ratio.rounds for ratio in chosen)):
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


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "")))
