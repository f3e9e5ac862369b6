"""Weights for PyTorch: the checkpoint as it is, or in bf16."""

from __future__ import annotations

from pathlib import Path

from .files import ModelFolder

#: Name of the weights in their folder.
MODEL = "model.safetensors"


def weights_file(models: ModelFolder, bfloat16: bool) -> Path:
    """The checkpoint itself, or a copy of it in bf16."""
    source = models.checkpoint_folder / MODEL
    if not bfloat16:
        return source

    def write(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = {name: tensor.bfloat16() for name, tensor in load_file(source).items()}
        save_file(tensors, folder / MODEL)

    return models.folder("torch-bf16", write) / MODEL
