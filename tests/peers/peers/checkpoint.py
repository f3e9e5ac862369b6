"""The checkpoint that all contenders are built from: weights under timm's names, and the architecture.

`fresnel synth` writes it. The shape of the network is read from the tensors themselves, so that there is
one source of truth; only the number of heads, which no tensor shows, follows timm's rule for these models
(64 channels a head).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

FloatArray = NDArray[np.float32]

#: timm's name of the architecture behind each value of `--model`.
ARCHITECTURES = {
    "tiny": "deit_tiny_patch16_224",
    "small": "deit_small_patch16_224",
    "base": "deit_base_patch16_224",
    "large": "vit_large_patch16_224",
}

#: Channels of one attention head in every model of `ARCHITECTURES`.
HEAD_CHANNELS = 64

#: Epsilon of timm's layer normalizations in Vision Transformers.
EPSILON = 1e-6


@dataclass(frozen=True)
class Checkpoint:
    """Weights and shape of a plain Vision Transformer: class token, learned positions, GELU by erf."""

    tensors: dict[str, FloatArray]
    patch_size: int
    image_size: int
    width: int
    depth: int
    classes: int

    @property
    def heads(self) -> int:
        """Attention heads of a block."""
        return self.width // HEAD_CHANNELS

    @property
    def tokens(self) -> int:
        """Tokens of one image, the class token included."""
        return (self.image_size // self.patch_size) ** 2 + 1

    def __getitem__(self, name: str) -> FloatArray:
        return self.tensors[name]


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads `model.safetensors` in `folder`.

    Raises `ValueError` when it holds tensors that the graph builders do not know: a peer that left them
    out would compute another function.
    """
    tensors = load_file(folder / "model.safetensors")
    width, channels, patch_size, _ = tensors["patch_embed.proj.weight"].shape
    depth = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
    positions = tensors["pos_embed"].shape[1]
    checkpoint = Checkpoint(
        tensors=tensors,
        patch_size=patch_size,
        image_size=patch_size * round((positions - 1) ** 0.5),
        width=width,
        depth=depth,
        classes=tensors["head.weight"].shape[0],
    )
    unknown = set(tensors) - _known_names(depth)
    if unknown or channels != 3 or width % HEAD_CHANNELS:
        raise ValueError(f"{folder}: not a plain Vision Transformer; unknown tensors: {sorted(unknown)[:4]}")
    return checkpoint


def _known_names(depth: int) -> set[str]:
    """Names of all tensors of a plain Vision Transformer with `depth` blocks."""
    layers = ["patch_embed.proj", "norm", "head"]
    for block in range(depth):
        parts = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        layers += [f"blocks.{block}.{part}" for part in parts]
    names = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    return names | {"cls_token", "pos_embed"}


def pixels(checkpoint: Checkpoint, batch: int) -> FloatArray:
    """Normalised pixels that every contender of a run is given, [batch, 3, height, width]."""
    side = checkpoint.image_size
    generator = np.random.default_rng(0)
    return generator.standard_normal((batch, 3, side, side)).astype(np.float32)
