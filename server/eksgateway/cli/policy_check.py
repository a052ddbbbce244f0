"""`eksgateway policy check`: would a gateway put the data in force, and is all of it meant?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from eksgateway.cli.output.terminal import print_lines
from eksgateway.cli.policy_arguments import REFUSED, describe_refusal, report_unusable
from eksgateway.eks.update_types import read_update_types
from eksgateway.errors import StartError
from eksgateway.policy.compiled_policy import CompiledPolicy
from eksgateway.policy.compiler.edges import MAX_EDGES_BYTES
from eksgateway.policy.compiler.index import MARKED
from eksgateway.policy.compiler.limits import MAX_DECISION_US, MAX_INDEX_BYTES
from eksgateway.policy.compiler.width import weigh_decision
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.evaluator import open_evaluator
from eksgateway.policy.files import read_module
from eksgateway.policy.lint.finding import Finding
from eksgateway.policy.lint.findings import find_all
from eksgateway.policy.source import MAX_BYTES, count_entries, parse_with_sets, read_sources
from eksgateway.policy.wasm_module import MAX_MEMORY_BYTES
from eksgateway.settings import Settings, load

_MAX_PRINTED: Final = 100


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """``strict``: warnings are faults. With ``config``, names are compared with a gateway's settings."""

    module: Path | None
    config: Path | None
    at: datetime  # the time at which entries are over
    strict: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Limit:
    used: float
    limit: float
    unit: str

    def __str__(self) -> str:
        return f"{self.used:.1f} of {self.limit:g} {self.unit}"


@dataclass(slots=True)
class _Report:
    file: Path
    faults: list[str] = field(default_factory=list)
    error: str = ""  # the faults as one text
    counts: str = ""
    revision: str = ""
    limits: dict[str, _Limit] = field(default_factory=dict)
    warnings: list[Finding] = field(default_factory=list)


def check_data(file: Path, options: CheckOptions) -> int:
    """Return the exit code: 0 if a gateway would put the data in force, else REFUSED.

    ``strict`` makes warnings REFUSED too. UNUSABLE for settings with faults.
    """
    try:
        settings = load(options.config) if options.config else None
    except StartError as exc:
        return report_unusable(exc)
    report = _check(file, options, settings)
    if options.as_json:
        print(json.dumps(_to_json(report), indent=2))
    else:
        print_lines(_describe(report, strict=options.strict))
    return REFUSED if report.faults or (options.strict and report.warnings) else 0


def _check(file: Path, options: CheckOptions, settings: Settings | None) -> _Report:
    report = _Report(file)
    try:
        sources = read_sources(file)
        content, unused_sets = parse_with_sets(sources)
        with open_evaluator(read_module(options.module), content) as evaluator:  # decides costly questions
            evaluator.compiled.check_rules(options.at)
            report.revision = evaluator.revision
            report.limits = {
                "data": _in_megabytes(sum(len(each.raw) for each in sources), MAX_BYTES),
                "compiled data": _in_megabytes(len(evaluator.compiled.data), MAX_INDEX_BYTES),
                "memory": _in_megabytes(evaluator.memory_bytes, MAX_MEMORY_BYTES),
                "edges": _Limit(len(evaluator.compiled.edges) / 1024, MAX_EDGES_BYTES / 1024, "KB"),
                "CPU time": _Limit(_weigh_decision(evaluator.compiled) / 1000, MAX_DECISION_US / 1000, "ms"),
            }
    except PolicyLoadError as exc:
        report.faults = list(exc.faults)
        report.error = describe_refusal(file, exc)
        return report
    report.counts = count_entries(content)
    report.warnings = [
        *find_all(content, options.at, read_update_types(), settings),
        *map(_finding_of, unused_sets),
    ]
    return report


def _weigh_decision(policy: CompiledPolicy) -> float:
    index = json.loads(policy.data)["eksgateway"]["index"]
    for name in MARKED:
        del index[name][""]
    return weigh_decision(index)


def _in_megabytes(used: int, limit: int) -> _Limit:
    return _Limit(used / (1 << 20), limit / (1 << 20), "MB")


def _finding_of(place: str) -> Finding:
    return Finding("unused-set", "set", place, "", "no list names it")


def _describe(report: _Report, *, strict: bool) -> Iterator[str]:
    if report.faults:
        yield from report.error.splitlines()
        return
    yield f"{report.file}: good: {report.counts}"
    yield f"In force, its revision is {report.revision}"
    yield f"It uses {', '.join(f'{each} of {name}' for name, each in report.limits.items())} for a decision"
    if report.warnings:
        refused = ", which --strict refuses" if strict else ""
        yield f"{len(report.warnings)} warning{'' if len(report.warnings) == 1 else 's'}{refused}:"
        yield from (f"  - {each}" for each in report.warnings[:_MAX_PRINTED])
        if (more := len(report.warnings) - _MAX_PRINTED) > 0:
            yield f"  - and {more} more"


def _to_json(report: _Report) -> dict[str, Any]:
    return {
        "path": str(report.file),
        "good": not report.faults,
        "faults": report.faults,
        "revision": report.revision or None,
        "limits": {name: asdict(each) for name, each in report.limits.items()},
        "warnings": [asdict(each) for each in report.warnings],
    }
