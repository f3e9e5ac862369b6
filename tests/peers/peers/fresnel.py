"""fresnel's own rows: files from `fresnel quantize`, turns by `fresnel-run bench`.

`bench` runs a model once untimed and then the number of times asked for, which is what a worker does in
its turn; that it is a new process each time costs nothing that is timed.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from .checkpoint import ARCHITECTURES, FloatArray
from .contender import Contender, Facts
from .files import ModelFolder, Unavailable, size_in_bytes


@dataclass
class Programs:
    """The programs `fresnel` and `fresnel-run`, and the model files made so far in this run."""

    folder: Path
    _made: dict[str, Path] = field(default_factory=dict)

    def synthesize(self, model: str, folder: Path) -> None:
        """Writes a checkpoint with random weights, unless it is there."""
        if not (folder / "model.safetensors").exists():
            self.call("fresnel", "synth", "--arch", ARCHITECTURES[model], "-o", str(folder), "--force")

    def quantized(self, models: ModelFolder, bits: str) -> Path:
        """The model's file at `bits` bit, made anew in each run, since the program may have changed.

        Round to nearest will do: speed does not depend on which codes are chosen.
        """
        if bits not in self._made:
            path = models.checkpoint_folder / f"{bits}-bit.fresnel"
            source = str(models.checkpoint_folder)
            options = ["--bits", bits, "--method", "rtn", "--device", "cpu", "--force"]
            self.call("fresnel", "quantize", source, *options, "-o", str(path))
            self._made[bits] = path
        return self._made[bits]

    def call(self, program: str, *arguments: str, isa: str | None = None) -> str:
        """Runs a program; returns its standard output. Raises `Unavailable` with its last message."""
        environment = {name: value for name, value in os.environ.items() if name != "FRESNEL_ISA"}
        if isa is not None:
            environment["FRESNEL_ISA"] = isa
        command = [str(self.folder / program), *arguments, "--quiet"]
        try:
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        except OSError as error:
            raise Unavailable(
                f"cannot start {program} in {self.folder} ({error.strerror}): "
                "build it with `cargo build --release`, or name its folder with --programs"
            ) from None
        if result.returncode != 0:
            lines = [line for line in result.stderr.splitlines() if line.strip()]
            last = lines[-1].removeprefix("error: ") if lines else f"exit status {result.returncode}"
            for argument in arguments:
                # Paths of the work folder say nothing in a report.
                last = last.replace(f"{argument}: ", "")
            raise Unavailable(f"{program}: {last}")
        return result.stdout


@dataclass
class Fresnel(Contender):
    """One width in one compute mode, on the best instruction set of the machine or a forced one."""

    name: str
    programs: Programs
    models: ModelFolder
    bits: str
    compute: str
    threads: int
    repetitions: int
    isa: str | None = None
    exact: bool = False
    device: str = "cpu"

    def start(self) -> Facts:
        """Quantizes the model, runs it on the common input, and benches it once for its memory."""
        path = self.programs.quantized(self.models, self.bits)
        logits = self._logits(path)
        report = self._bench()
        return Facts(
            file_bytes=size_in_bytes(path),
            peak_bytes=report["peak_rss_bytes"],
            peak_bytes_before_loading=None,
            runs_as=report["kernel"],
            logits=logits,
        )

    def turn(self) -> list[float]:
        """One `bench`, which reports the median of its repetitions."""
        return [float(self._bench()["median_ms"])]

    def stop(self) -> None:
        """Nothing runs between turns."""

    def _logits(self, path: Path) -> FloatArray:
        """What the model answers to the common input."""
        source = self.models.path / "pixels.safetensors"
        target = self.models.path / "logits.safetensors"
        save_file({"input": self.models.input()}, source)
        options = ["--input", str(source), "--output", str(target), "--force", *self._options()]
        self.programs.call("fresnel-run", "run", str(path), *options, isa=self.isa)
        return load_file(target)["logits"]

    def _bench(self) -> dict[str, Any]:
        path = self.programs.quantized(self.models, self.bits)
        options = ["--iterations", str(self.repetitions), "--batch", str(self.models.batch), "--json"]
        return dict(
            json.loads(
                self.programs.call(
                    "fresnel-run", "bench", str(path), *options, *self._options(), isa=self.isa
                )
            )
        )

    def _options(self) -> list[str]:
        options = ["--compute", self.compute, "--threads", str(self.threads)]
        return options if self.device == "cpu" else [*options, "--device", self.device]
