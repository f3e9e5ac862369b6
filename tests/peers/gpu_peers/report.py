"""Tables in Markdown, and everything as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from peers.checkpoint import ARCHITECTURES, Checkpoint
from peers.rounds import Result

from .pytorch import Peaks

#: What other rows are compared with: the fastest way that PyTorch's users know.
BASELINE = "PyTorch f16, CUDA graph"

_HEAD = (
    f"| contender | median ms | images/s | TFLOP/s | of the f16 peak | speed, of {BASELINE} |",
    "|---|---:|---:|---:|---:|---:|",
)


@dataclass(frozen=True)
class Group:
    """One model at one batch size, and what its contenders took."""

    model: str
    batch: int
    #: Multiplications and additions of one image.
    operations: int
    results: list[Result]


def operations(checkpoint: Checkpoint) -> int:
    """Multiplications and additions of one image: all products with weights, scores and weighted values."""
    tokens, width = checkpoint.tokens, checkpoint.width
    blocks = [tensor for name, tensor in checkpoint.tensors.items() if name.startswith("blocks.")]
    weights = sum(tensor.size for tensor in blocks if tensor.ndim == 2)
    patches = (tokens - 1) * checkpoint["patch_embed.proj.weight"].size
    attention = 2 * tokens * tokens * width * checkpoint.depth
    return 2 * (tokens * weights + patches + attention + checkpoint["head.weight"].size)


def markdown(peaks: Peaks | None, groups: list[Group], products: str | None) -> str:
    """One table for each model and batch size."""
    lines = []
    if peaks is not None:
        lines += [
            f"{peaks.device}: f16 product of side 8192 {peaks.tera_flops:.0f} TFLOP/s, "
            f"copy {peaks.tera_bytes:.2f} TB/s, both by PyTorch in the same run.",
            "",
        ]
    for group in groups:
        lines += [f"### {ARCHITECTURES[group.model]}, batch {group.batch}", "", *_HEAD]
        baseline = next((each for each in group.results if each.name == BASELINE and not each.reason), None)
        lines += [_row(group, result, baseline, peaks) for result in group.results if not result.reason]
        lines += ["", *(f"- {each.name}: {each.reason}" for each in group.results if each.reason), ""]
    if products is not None:
        lines += ["### Matrix products", "", products]
    return "\n".join(lines)


def _row(group: Group, result: Result, baseline: Result | None, peaks: Peaks | None) -> str:
    milliseconds = result.milliseconds()
    rate = group.operations * group.batch / milliseconds / 1e9
    cells = [
        result.name,
        f"{milliseconds:.2f}",
        f"{group.batch / milliseconds * 1e3:.0f}",
        f"{rate:.1f}",
        f"{100 * rate / peaks.tera_flops:.0f} %" if peaks is not None else "?",
        f"{1 / result.ratio(baseline):.2f}" if baseline is not None else "?",
    ]
    return f"| {' | '.join(cells)} |"


def as_json(peaks: Peaks | None, groups: list[Group], products: str | None) -> dict[str, Any]:
    """Every sample."""
    return {
        "peaks": asdict(peaks) if peaks is not None else None,
        "groups": [
            {
                "model": ARCHITECTURES[group.model],
                "batch": group.batch,
                "operations_per_image": group.operations,
                "contenders": [_entry(result) for result in group.results],
            }
            for group in groups
        ],
        "products": products,
    }


def _entry(result: Result) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": result.name,
        "reason_not_measured": result.reason,
        "logit_error": result.logit_error,
        "milliseconds": result.rounds,
    }
    if result.facts is not None:
        facts = asdict(result.facts)
        del facts["logits"]
        entry |= facts
    return entry
