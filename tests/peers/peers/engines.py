"""How each engine loads a model file and runs it: one function an engine, set up for lowest latency.

Each imports its package itself, so that a worker's memory holds one engine and no other.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

from .checkpoint import FloatArray

#: Pixels [batch, 3, height, width] to logits [batch, classes].
Inference = Callable[[FloatArray], FloatArray]

#: Loads a file, given the number of threads and the precision to compute in (`None`: the engine's choice).
Engine = Callable[[Path, int, str | None], Inference]


def onnx_runtime(path: Path, threads: int, precision: str | None) -> Inference:
    """ONNX Runtime's CPU provider with all graph optimizations, its default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads otherwise go on spinning for a while after a run, which would slow the next contender.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(pixels: FloatArray) -> FloatArray:
        logits: FloatArray = session.run(None, {name: pixels})[0]
        return logits

    return run


def openvino(path: Path, threads: int, precision: str | None) -> Inference:
    """OpenVINO's CPU plugin, one stream, tuned for latency."""
    import openvino as vino

    core = vino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RuntimeError("OpenVINO finds no bf16 arithmetic on this processor")
    settings: dict[str, object] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
    }
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = precision
    request = core.compile_model(path, "CPU", settings).create_infer_request()

    def run(pixels: FloatArray) -> FloatArray:
        request.infer([pixels], share_inputs=True)
        logits: FloatArray = request.get_output_tensor().data
        return logits

    return run


def pytorch(path: Path, threads: int, precision: str | None) -> Inference:
    """PyTorch without compilation, in the type of the stored weights."""
    import torch

    from .pytorch_vit import VisionTransformer

    torch.set_num_threads(threads)
    model = VisionTransformer(path)

    def run(pixels: FloatArray) -> FloatArray:
        with torch.inference_mode():
            logits: FloatArray = model(torch.from_numpy(pixels)).numpy()
        return logits

    return run


#: Engines by the name of their package.
ENGINES: dict[str, Engine] = {"onnxruntime": onnx_runtime, "openvino": openvino, "torch": pytorch}


def version(package: str) -> str:
    """Package and version, as `onnxruntime 1.20.0`."""
    return f"{package} {importlib.metadata.version(package)}"
