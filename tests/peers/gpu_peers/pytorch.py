"""PyTorch on the GPU: eager, compiled, and compiled into a CUDA graph, in f16 and bf16."""

from __future__ import annotations

import importlib.metadata
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from peers.checkpoint import FloatArray
from peers.contender import Contender, Facts
from peers.files import ModelFolder, Unavailable, size_in_bytes

#: `torch.compile`'s mode for each way of running; `None` is eager.
MODES = {"eager": None, "compiled": "default", "CUDA graph": "reduce-overhead"}

#: Side of the product that stands for the device's peak in f16.
PEAK_SIDE = 8192

#: Runs before the first that counts: compilation, and the recording of a graph.
WARM_UP = 5


def cuda() -> Any:
    """PyTorch with a CUDA device. Raises `Unavailable` with the reason where there is none."""
    try:
        import torch
    except ImportError:
        raise Unavailable("the package torch is not installed") from None
    if not torch.cuda.is_available():
        raise Unavailable("PyTorch finds no CUDA device")
    return torch


@dataclass
class PyTorch(Contender):
    """One precision, run in one way."""

    models: ModelFolder
    precision: str
    mode: str
    repetitions: int
    exact: bool = False
    name: str = field(init=False)
    _run: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.name = f"PyTorch {self.precision}, {self.mode}"

    def start(self) -> Facts:
        """Loads the checkpoint onto the device, compiles and runs it."""
        torch = cuda()
        from peers.pytorch_vit import VisionTransformer

        path = self.models.checkpoint_folder / "model.safetensors"
        torch.cuda.reset_peak_memory_stats()
        dtype = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}[self.precision]
        model = VisionTransformer(path, "cuda", dtype)
        forward = model.__call__
        if MODES[self.mode] is not None:
            forward = torch.compile(forward, mode=MODES[self.mode])
        pixels = torch.from_numpy(self.models.input()).cuda()

        def run() -> Any:
            with torch.inference_mode():
                return forward(pixels)

        try:
            for _ in range(WARM_UP):
                logits = run()
            answer: FloatArray = logits.float().cpu().numpy()
        except Exception as error:
            lines = str(error).strip().splitlines() or ["no message"]
            raise Unavailable(f"{type(error).__name__}: {lines[0]}") from error
        self._run = run
        return Facts(
            file_bytes=size_in_bytes(path),
            peak_bytes=torch.cuda.max_memory_allocated(),
            peak_bytes_before_loading=None,
            runs_as=f"torch {importlib.metadata.version('torch')}",
            logits=answer,
        )

    def turn(self) -> list[float]:
        """One run untimed, then the others, each waited for."""
        torch = cuda()
        self._run()
        torch.cuda.synchronize()
        milliseconds = []
        for _ in range(self.repetitions):
            start = time.perf_counter()
            self._run()
            torch.cuda.synchronize()
            milliseconds.append((time.perf_counter() - start) * 1e3)
        return milliseconds

    def stop(self) -> None:
        """Frees the weights, and the graph that holds on to them."""
        if self._run is not None:
            self._run = None
            torch = cuda()
            torch._dynamo.reset()
            torch.cuda.empty_cache()


def lineup(models: ModelFolder, repetitions: int) -> list[Contender]:
    """f16 in every way, and bf16 compiled."""
    rows = [PyTorch(models, "f16", mode, repetitions) for mode in MODES]
    return [*rows, PyTorch(models, "bf16", "CUDA graph", repetitions)]


@dataclass(frozen=True)
class Peaks:
    """What the device reaches in PyTorch's hands, in the same run."""

    device: str
    #: Rate of a large f16 product, in TFLOP/s.
    tera_flops: float
    #: Bytes read and written by a large copy, in TB/s.
    tera_bytes: float


def peaks() -> Peaks:
    """Measures both."""
    torch = cuda()
    a, b = (torch.randn(PEAK_SIDE, PEAK_SIDE, device="cuda", dtype=torch.float16) for _ in range(2))
    product = _median_seconds(torch, lambda: a @ b)
    source = torch.empty(1 << 30, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = _median_seconds(torch, lambda: target.copy_(source))
    return Peaks(
        device=torch.cuda.get_device_name(),
        tera_flops=2 * PEAK_SIDE**3 / product / 1e12,
        tera_bytes=2 * source.numel() / copy / 1e12,
    )


def _median_seconds(torch: Any, work: Any) -> float:
    times = []
    for _ in range(13):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    # The first three warm up.
    return float(np.median(times[3:]))
