"""Model files for OpenVINO: float, int8 by NNCF's post-training quantization, and low-bit weights.

OpenVINO's own optimizer recognizes plain attention; the standard operator of ONNX's opset 23 was no
faster. Weights below 8 bit get one scale per channel, which was a little faster than groups of 64.
"""

from __future__ import annotations

from pathlib import Path

from . import onnx_runtime_files, vit_graph
from .files import ModelFolder
from .vit_graph import Attention

#: Name of the model in its folder; the weights lie beside it in `model.bin`.
MODEL = "model.xml"

#: Inputs that NNCF calibrates on. Speed does not depend on them.
CALIBRATION_INPUTS = 4


def float_file(models: ModelFolder, half: bool) -> Path:
    """The model in f32, or with weights stored in f16 (`half`), as OpenVINO's converter does by default."""
    import openvino

    source = onnx_runtime_files.float_file(models, Attention.PLAIN)

    def write(folder: Path) -> None:
        openvino.save_model(openvino.Core().read_model(source), folder / MODEL, compress_to_fp16=half)

    return models.folder("openvino-f16" if half else "openvino-f32", write) / MODEL


def int8_file(models: ModelFolder) -> Path:
    """Weights and activations of 8 bit, with NNCF's settings for transformers."""
    import nncf
    import openvino

    source = onnx_runtime_files.float_file(models, Attention.PLAIN)

    def write(folder: Path) -> None:
        inputs = [{vit_graph.INPUT: models.input()}] * CALIBRATION_INPUTS
        model = nncf.quantize(
            openvino.Core().read_model(source),
            nncf.Dataset(inputs),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=CALIBRATION_INPUTS,
        )
        openvino.save_model(model, folder / MODEL)

    return models.folder("openvino-int8", write) / MODEL


def low_bit_file(models: ModelFolder, bits: int) -> Path:
    """Weights of 4 or 2 bit; the head keeps 8, as NNCF has it by default."""
    import nncf
    import openvino

    source = onnx_runtime_files.float_file(models, Attention.PLAIN)
    mode = {4: nncf.CompressWeightsMode.INT4_SYM, 2: nncf.CompressWeightsMode.INT2_SYM}[bits]

    def write(folder: Path) -> None:
        model = nncf.compress_weights(openvino.Core().read_model(source), mode=mode, ratio=1.0, group_size=-1)
        openvino.save_model(model, folder / MODEL)

    return models.folder(f"openvino-int{bits}", write) / MODEL
