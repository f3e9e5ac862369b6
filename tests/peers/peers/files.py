"""The folder with one model's files, and how a file gets there: once, and whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .checkpoint import Checkpoint, FloatArray, load_checkpoint, pixels


class Unavailable(Exception):
    """A contender cannot take part; the message says why, and stands in the report."""


@dataclass(frozen=True)
class ModelFolder:
    """Files of one model at one batch size; peers' graphs have fixed shapes, as suits them best."""

    #: Folder that `fresnel synth` wrote, with `model.safetensors`.
    checkpoint_folder: Path
    #: Folder for files that depend on the batch size.
    path: Path
    batch: int

    def checkpoint(self) -> Checkpoint:
        """The weights."""
        return load_checkpoint(self.checkpoint_folder)

    def input(self) -> FloatArray:
        """The pixels that contenders are given, [batch, 3, height, width]."""
        return pixels(self.checkpoint(), self.batch)

    def folder(self, name: str, write: Callable[[Path], None]) -> Path:
        """The subfolder `name`, filled by `write` unless an earlier call or run did it.

        Each file of a peer has a folder of its own, since some formats are two files.
        """
        folder = self.path / name
        if not folder.exists():
            unfinished = self.path / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            write(unfinished)
            unfinished.rename(folder)
        return folder


def size_in_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
