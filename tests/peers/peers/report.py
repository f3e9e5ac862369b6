"""What a run gives: a table in Markdown, and everything as JSON."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from .arguments import Arguments
from .checkpoint import ARCHITECTURES
from .lineup import BASELINE
from .rounds import Result

_HEAD = (
    "| contender | median ms | of ONNX Runtime f32 | file MB | peak memory MB | runs as |",
    "|---|---:|---:|---:|---:|---|",
)


def markdown(arguments: Arguments, results: list[Result]) -> str:
    """The table, what it was measured with, and who is missing and why."""
    baseline = _baseline(results)
    measured = [result for result in results if result.reason is None]
    lines = [_conditions(arguments), "", *_HEAD]
    lines += [_row(result, baseline) for result in measured]
    missing = [f"- {result.name}: {result.reason}" for result in results if result.reason is not None]
    if missing:
        lines += ["", "Not measured:", "", *missing]
    return "\n".join(lines)


def as_json(arguments: Arguments, results: list[Result]) -> dict[str, Any]:
    """Every sample, with all that is needed to judge it."""
    baseline = _baseline(results)
    return {
        "architecture": ARCHITECTURES[arguments.model],
        "threads": arguments.threads,
        "batch": arguments.batch,
        "rounds": arguments.rounds,
        "repetitions": arguments.repetitions,
        "processor": processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {each.metadata["Name"]: each.version for each in distributions()},
        "contenders": [_entry(result, baseline) for result in results],
    }


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _baseline(results: list[Result]) -> Result | None:
    """The baseline, where it was measured."""
    return next((each for each in results if each.name == BASELINE and each.reason is None), None)


def _conditions(arguments: Arguments) -> str:
    parts = [
        ARCHITECTURES[arguments.model],
        _count(arguments.batch, "image"),
        _count(arguments.threads, "thread"),
        f"{_count(arguments.rounds, 'round')} of {_count(arguments.repetitions, 'inference')}",
        processor(),
    ]
    return ", ".join(parts)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _row(result: Result, baseline: Result | None) -> str:
    facts = result.facts
    if facts is None:
        raise ValueError(f"{result.name}: measured, yet never started")
    ratio = f"{result.ratio(baseline):.2f}" if baseline is not None else "?"
    memory = f"{facts.peak_bytes / 1e6:.0f}" if facts.peak_bytes is not None else "?"
    if facts.peak_bytes is not None and facts.peak_bytes_before_loading is not None:
        memory += f" ({facts.peak_bytes_before_loading / 1e6:.0f} before loading)"
    cells = [
        result.name,
        f"{result.milliseconds():.1f}",
        ratio,
        f"{facts.file_bytes / 1e6:.1f}",
        memory,
        facts.runs_as,
    ]
    return f"| {' | '.join(cells)} |"


def _entry(result: Result, baseline: Result | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": result.name, "reason_not_measured": result.reason}
    if result.facts is not None:
        facts = asdict(result.facts)
        del facts["logits"]
        entry |= facts
    entry |= {"logit_error": result.logit_error, "milliseconds": result.rounds}
    if result.reason is None:
        entry["median_ms"] = result.milliseconds()
        entry["ratio"] = result.ratio(baseline) if baseline is not None else None
    return entry
