"""Model files for ONNX Runtime: float, int8, and weights of 4 and 2 bit.

Which form of attention each takes was measured: `com.microsoft.Attention` was the fastest for float and
for int8, by 2 to 8 %. `MatMulNBits` replaces matrix products only, so there the projection to queries,
keys and values must be one.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from . import vit_graph
from .files import ModelFolder
from .vit_graph import Attention

#: Name of the model in its folder.
MODEL = "model.onnx"

#: Weights that share a scale in MatMulNBits; of the usual sizes the largest, and the fastest.
BLOCK_SIZE = 128


def float_file(models: ModelFolder, attention: Attention = Attention.PROJECTED) -> Path:
    """The model in f32."""

    def write(folder: Path) -> None:
        onnx.save(vit_graph.build(models.checkpoint(), models.batch, attention), folder / MODEL)

    return models.folder(f"onnx-f32-{attention.value}", write) / MODEL


def int8_file(models: ModelFolder) -> Path:
    """Dynamic quantization: int8 weights per channel, activations quantized to u8 while running.

    Signed weights: with unsigned ones ONNX Runtime has no AMX or VNNI kernel to choose and is half as
    fast. Scales per channel cost no time against one scale per matrix.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = float_file(models)

    def write(folder: Path) -> None:
        quantize_dynamic(
            source,
            folder / MODEL,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Contributed operators have no shape inference to learn the type of their output from.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )

    return models.folder("onnx-int8", write) / MODEL


def low_bit_file(models: ModelFolder, bits: int, accuracy_level: int) -> Path:
    """Linear layers as MatMulNBits with symmetric weights of `bits` bit.

    `accuracy_level` 0 computes in f32, 4 quantizes activations to int8.
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    source = float_file(models, Attention.MULTI_HEAD)

    def write(folder: Path) -> None:
        quantizer = MatMulNBitsQuantizer(
            onnx.load(source),
            bits=bits,
            block_size=BLOCK_SIZE,
            is_symmetric=True,
            accuracy_level=accuracy_level,
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(folder / MODEL), False)

    return models.folder(f"onnx-int{bits}-level{accuracy_level}", write) / MODEL
