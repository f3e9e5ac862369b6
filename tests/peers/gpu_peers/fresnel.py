"""fresnel's rows on the GPU: each must answer as the same file does on the CPU in f32."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from peers.contender import Facts
from peers.files import ModelFolder, Unavailable
from peers.fresnel import Fresnel, Programs

from .arguments import Arguments

#: Largest difference of logits from the same file's on the CPU in f32, relative to the largest logit.
TOLERANCES = {"f32": 1e-3, "half": 3e-2, "int8": 2e-1}


@dataclass
class FresnelOnGpu(Fresnel):
    """One width in one compute mode."""

    def start(self) -> Facts:
        """Quantizes the model, runs it on both devices, and benches it once."""
        facts = super().start()
        path = self.programs.quantized(self.models, self.bits)
        reference = replace(self, device="cpu", compute="f32", threads=0)._logits(path)
        difference = np.abs(facts.logits - reference).max() / np.abs(reference).max()
        # Written so that a NaN fails as well.
        if not difference <= TOLERANCES[self.compute]:
            raise Unavailable(f"its logits differ from the CPU's by {difference:.1e} of the largest")
        return facts


def lineup(arguments: Arguments, models: ModelFolder, programs: Programs) -> list[Fresnel]:
    """Every width in every mode; 16-bit weights are multiplied in float only."""
    return [
        FresnelOnGpu(
            name=f"fresnel {bits} bit, {compute}",
            programs=programs,
            models=models,
            bits=bits,
            compute=compute,
            threads=0,
            repetitions=arguments.repetitions,
            device=arguments.device,
        )
        for bits in arguments.bits
        for compute in arguments.computes
        if (bits, compute) != ("16", "int8")
    ]
