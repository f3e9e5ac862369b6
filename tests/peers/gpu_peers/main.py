"""Builds the models, lets all contenders of a model and batch size take turns, and prints the tables."""

from __future__ import annotations

import json
import sys

from peers.files import ModelFolder, Unavailable
from peers.fresnel import Fresnel, Programs
from peers.rounds import measure

from . import arguments as command_line
from . import fresnel, pytorch, report
from .arguments import Arguments


def main(words: list[str]) -> int:
    """Returns the exit status."""
    arguments = command_line.parse(words)
    try:
        peaks = pytorch.peaks()
    except Unavailable as error:
        print(f"no peaks of the device: {error}", file=sys.stderr)
        peaks = None
    groups: list[report.Group] = []
    for model in arguments.models:
        # Holds the files of one model.
        programs = Programs(arguments.programs)
        for batch in arguments.batches:
            print(f"{model}, batch {batch}", file=sys.stderr)
            try:
                groups.append(_group(arguments, programs, model, batch))
            except Unavailable as error:
                print(f"no reference to check the contenders against: {error}", file=sys.stderr)
                return 1
            _write(arguments, peaks, groups, None)
    products = _products(Programs(arguments.programs), arguments.device) if arguments.products else None
    _write(arguments, peaks, groups, products)
    print(report.markdown(peaks, groups, products))
    return 0


def _group(arguments: Arguments, programs: Programs, model: str, batch: int) -> report.Group:
    """Measures one model at one batch size."""
    folder = arguments.work / "models" / model
    models = ModelFolder(folder, folder / f"batch-{batch}", batch)
    models.path.mkdir(parents=True, exist_ok=True)
    programs.synthesize(model, folder)
    reference = Fresnel("reference", programs, models, "32", "f32", 0, 1).start().logits
    lineup = [
        *pytorch.lineup(models, arguments.repetitions),
        *fresnel.lineup(arguments, models, programs),
    ]
    results = measure(lineup, reference, arguments.rounds)
    return report.Group(model, batch, report.operations(models.checkpoint()), results)


def _products(programs: Programs, device: str) -> str | None:
    """The table of `gpu_matmul_rate`, fresnel's products beside burn's."""
    try:
        return programs.call("examples/gpu_matmul_rate", "--device", device)
    except Unavailable as error:
        print(f"no matrix products: {error}", file=sys.stderr)
        return None


def _write(
    arguments: Arguments, peaks: pytorch.Peaks | None, groups: list[report.Group], products: str | None
) -> None:
    """Writes the files asked for; called after every group, so that an interrupted run leaves what it has."""
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.as_json(peaks, groups, products), indent=2) + "\n")
    if arguments.markdown is not None:
        arguments.markdown.write_text(report.markdown(peaks, groups, products) + "\n")
