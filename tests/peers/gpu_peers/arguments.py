"""The command line of `compare_gpu.py`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from peers.arguments import MODELS, REPOSITORY, at_least_one

#: Widths of fresnel's files.
BITS = ("1.58", "2", "3", "4", "8", "16")

#: Compute modes of fresnel's rows.
COMPUTES = ("f32", "half", "int8")


@dataclass(frozen=True)
class Arguments:
    """What the user asked for."""

    work: Path
    programs: Path
    device: str
    models: tuple[str, ...]
    batches: tuple[int, ...]
    bits: tuple[str, ...]
    computes: tuple[str, ...]
    rounds: int
    repetitions: int
    products: bool
    json: Path | None
    markdown: Path | None


def parse(arguments: list[str]) -> Arguments:
    """Reads the command line; exits with usage when it cannot be read."""
    parser = argparse.ArgumentParser(
        prog="compare_gpu.py",
        description="Throughput and latency of fresnel, PyTorch and burn on one GPU, in turns.",
        epilog="Tables go to standard output, progress to standard error.",
    )
    add = parser.add_argument
    add("--work", type=Path, required=True, metavar="DIR", help="folder for models; kept between runs")
    add(
        "--programs",
        type=Path,
        default=REPOSITORY / "target" / "release",
        metavar="DIR",
        help="folder of fresnel, fresnel-run and examples/gpu_matmul_rate [default: the repository's]",
    )
    add("--device", default="gpu", help="fresnel's device, as `fresnel devices` names it [default: gpu]")
    add("--models", type=_choices(MODELS), default=("tiny", "base", "large"), metavar="NAMES")
    add("--batches", type=_batches, default=(1, 8, 64, 256), metavar="SIZES")
    add("--bits", type=_choices(BITS), default=BITS, metavar="WIDTHS")
    add("--computes", type=_choices(COMPUTES), default=COMPUTES, metavar="MODES")
    add("--rounds", type=at_least_one, default=5, metavar="N", help="turns of each contender [default: 5]")
    add("--repetitions", type=at_least_one, default=10, metavar="R", help="runs of a turn [default: 10]")
    add("--no-products", action="store_true", help="leave out the matrix products of fresnel and burn")
    add("--json", type=Path, metavar="FILE", help="every sample and the settings")
    add("--markdown", type=Path, metavar="FILE", help="the tables, as on standard output")
    parsed = parser.parse_args(arguments)
    return Arguments(
        work=parsed.work.resolve(),
        programs=parsed.programs.resolve(),
        device=parsed.device,
        models=parsed.models,
        batches=parsed.batches,
        bits=parsed.bits,
        computes=parsed.computes,
        rounds=parsed.rounds,
        repetitions=parsed.repetitions,
        products=not parsed.no_products,
        json=parsed.json,
        markdown=parsed.markdown,
    )


def _choices(known: tuple[str, ...]):
    """A parser of names separated by commas, out of those known."""

    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}, found {unknown[0]!r}")
        return chosen

    return names


def _batches(text: str) -> tuple[int, ...]:
    return tuple(at_least_one(part) for part in text.split(","))
