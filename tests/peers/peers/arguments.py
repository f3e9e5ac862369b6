"""The command line, shared by `compare.py` (any Python) and the program in the virtual environment."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

#: The repository this program lies in.
REPOSITORY = Path(__file__).resolve().parents[3]

#: Models that `--model` offers.
MODELS = ("tiny", "small", "base", "large")

#: Those of x86-64 with integer kernels of their own, fastest first.
FORCED_ISAS = ("amx", "avx512vnni", "avxvnni", "avx2")


@dataclass(frozen=True)
class Arguments:
    """What the user asked for."""

    work: Path
    programs: Path
    model: str
    threads: int
    batch: int
    rounds: int
    repetitions: int
    isas: tuple[str, ...]
    only: tuple[str, ...]
    torch: bool
    list: bool
    json: Path | None


def parse(arguments: list[str]) -> Arguments:
    """Reads the command line; exits with usage when it cannot be read."""
    parser = argparse.ArgumentParser(
        prog="compare.py",
        description="Latency, file size and memory of fresnel and of other CPU runtimes, in one run.",
        epilog="The table goes to standard output, progress to standard error.",
    )
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the virtual environment and the models; kept between runs",
    )
    parser.add_argument(
        "--programs",
        type=Path,
        default=REPOSITORY / "target" / "release",
        metavar="DIR",
        help="folder of the programs fresnel and fresnel-run [default: the repository's target/release]",
    )
    parser.add_argument("--model", choices=MODELS, default="base", help="size [default: base]")
    _positive(parser, "--threads", "T", 1, "threads that each contender computes with")
    _positive(parser, "--batch", "B", 1, "images in one inference")
    _positive(parser, "--rounds", "N", 15, "rounds; each contender has one turn in each")
    _positive(parser, "--repetitions", "R", 3, "timed inferences of a turn, after one that is not timed")
    parser.add_argument(
        "--isas",
        type=_names,
        default=FORCED_ISAS,
        metavar="NAMES",
        help="instruction sets forced through FRESNEL_ISA in rows of their own "
        f"[default: {','.join(FORCED_ISAS)}]",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="contenders to run besides ONNX Runtime f32, as 'fresnel*' or 'OpenVINO int?'; may be repeated",
    )
    parser.add_argument("--torch", action="store_true", help="install and measure PyTorch as well")
    parser.add_argument("--list", action="store_true", help="name the contenders and stop")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every sample, version and reason here as well"
    )
    parsed = parser.parse_args(arguments)
    return Arguments(
        work=parsed.work.resolve(),
        programs=parsed.programs.resolve(),
        model=parsed.model,
        threads=parsed.threads,
        batch=parsed.batch,
        rounds=parsed.rounds,
        repetitions=parsed.repetitions,
        isas=parsed.isas,
        only=tuple(parsed.only),
        torch=parsed.torch,
        list=parsed.list,
        json=parsed.json.resolve() if parsed.json else None,
    )


def _positive(parser: argparse.ArgumentParser, flag: str, letter: str, default: int, text: str) -> None:
    """Adds an option that takes a whole number of at least one."""
    parser.add_argument(
        flag, type=at_least_one, default=default, metavar=letter, help=f"{text} [default: {default}]"
    )


def at_least_one(text: str) -> int:
    """Reads a whole number of at least one."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, found {text}")
    return value


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)
