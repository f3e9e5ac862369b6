"""The Vision Transformer as an ONNX graph, written node by node from the checkpoint.

No exporter and no PyTorch take part. Layer normalization and GELU are single operators of ONNX, which
every engine here has a kernel for. Attention comes in the forms that engines run fastest (`Attention`):
ONNX Runtime's own optimizer of transformers would rewrite the plain form to one of the two others, when it
recognizes the pattern of an exporter that it knows; here they are written at once.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .checkpoint import EPSILON, HEAD_CHANNELS, Checkpoint

#: First set of ONNX operators with GELU.
OPSET = 20
#: Version of ONNX's file format that goes with `OPSET`.
IR_VERSION = 10
#: Domain of the operators that ONNX Runtime adds to ONNX.
CONTRIBUTED = "com.microsoft"

#: Name of the graph's input, float pixels [batch, 3, height, width].
INPUT = "pixels"
#: Name of the graph's output, [batch, classes].
OUTPUT = "logits"


class Attention(Enum):
    """How softmax(q k^T / sqrt(d)) v is written."""

    #: Matrix products and a softmax, on [batch, heads, tokens, 64]: standard ONNX.
    PLAIN = "plain"
    #: `com.microsoft.MultiHeadAttention`, all but the projections in one operator.
    MULTI_HEAD = "multi_head"
    #: `com.microsoft.Attention`, the projection to queries, keys and values included.
    PROJECTED = "projected"


def build(checkpoint: Checkpoint, batch: int, attention: Attention) -> onnx.ModelProto:
    """The model for a fixed `batch`, weights included."""
    return _Builder(checkpoint, batch, attention).model()


class _Builder:
    """Nodes and constants of one graph under construction; every method returns a value's name."""

    def __init__(self, checkpoint: Checkpoint, batch: int, attention: Attention) -> None:
        self.checkpoint = checkpoint
        self.batch = batch
        self.attention = attention
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def model(self) -> onnx.ModelProto:
        """All of it, from pixels to logits."""
        checkpoint = self.checkpoint
        stream = self.embedding()
        for block in range(checkpoint.depth):
            stream = self.block(f"blocks.{block}", stream)
        token = self.node(
            "Gather", [stream, self.constant("first", np.array(0, np.int64))], "class_token", axis=1
        )
        token = self.layer_norm("norm", token)
        self.linear("head", token, output=OUTPUT)
        side = checkpoint.image_size
        graph = helper.make_graph(
            self.nodes,
            "vision_transformer",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [self.batch, 3, side, side])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [self.batch, checkpoint.classes])],
            list(self.constants.values()),
        )
        opsets = [helper.make_opsetid("", OPSET)]
        if self.attention is not Attention.PLAIN:
            opsets.append(helper.make_opsetid(CONTRIBUTED, 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    def embedding(self) -> str:
        """Patches through the convolution, the class token before them, positions added."""
        checkpoint = self.checkpoint
        weight = self.constant("patch_embed.proj.weight", checkpoint["patch_embed.proj.weight"])
        bias = self.constant("patch_embed.proj.bias", checkpoint["patch_embed.proj.bias"])
        strides = [checkpoint.patch_size] * 2
        grid = self.node("Conv", [INPUT, weight, bias], "patch_embed", strides=strides)
        shape = self.shape([self.batch, checkpoint.width, checkpoint.tokens - 1])
        patches = self.node("Reshape", [grid, shape], "patch_embed.flat")
        patches = self.node("Transpose", [patches], "patch_embed.tokens", perm=[0, 2, 1])
        token = np.tile(checkpoint["cls_token"], (self.batch, 1, 1))
        stream = self.node("Concat", [self.constant("cls_token", token), patches], "tokens", axis=1)
        return self.node("Add", [stream, self.constant("pos_embed", checkpoint["pos_embed"])], "embedding")

    def block(self, name: str, stream: str) -> str:
        """One encoder block: attention and the two-layer perceptron, each around a residual."""
        mixed = self.self_attention(f"{name}.attn", self.layer_norm(f"{name}.norm1", stream))
        stream = self.node("Add", [stream, mixed], f"{name}.residual1")
        hidden = self.linear(f"{name}.mlp.fc1", self.layer_norm(f"{name}.norm2", stream))
        hidden = self.node("Gelu", [hidden], f"{name}.mlp.gelu")
        return self.node("Add", [stream, self.linear(f"{name}.mlp.fc2", hidden)], f"{name}.residual2")

    def self_attention(self, name: str, stream: str) -> str:
        """Attention of all heads, in the form asked for, and the projection behind it."""
        heads = self.checkpoint.heads
        if self.attention is Attention.PROJECTED:
            inputs = [stream, *self.weight_and_bias(f"{name}.qkv")]
            mixed = self.node("Attention", inputs, f"{name}.heads", domain=CONTRIBUTED, num_heads=heads)
            return self.linear(f"{name}.proj", mixed)
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        qkv = self.linear(f"{name}.qkv", stream)
        self.nodes.append(helper.make_node("Split", [qkv], parts, f"{name}.split", axis=2, num_outputs=3))
        if self.attention is Attention.MULTI_HEAD:
            mixed = self.node(
                "MultiHeadAttention", parts, f"{name}.heads", domain=CONTRIBUTED, num_heads=heads
            )
        else:
            mixed = self.plain_attention(name, parts)
        return self.linear(f"{name}.proj", mixed)

    def plain_attention(self, name: str, parts: list[str]) -> str:
        """softmax(q k^T / sqrt(64)) v from `parts`, the names of q, k and v [batch, tokens, width]."""
        checkpoint = self.checkpoint
        shape = self.shape([self.batch, checkpoint.tokens, checkpoint.heads, HEAD_CHANNELS])
        orders = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        query, key, value = (
            self.node(
                "Transpose",
                [self.node("Reshape", [part, shape], f"{part}.split")],
                f"{part}.heads",
                perm=order,
            )
            for part, order in zip(parts, orders, strict=True)
        )
        factor = self.constant("attention.factor", np.array(HEAD_CHANNELS**-0.5, np.float32))
        query = self.node("Mul", [query, factor], f"{name}.scaled")
        scores = self.node("MatMul", [query, key], f"{name}.scores")
        weights = self.node("Softmax", [scores], f"{name}.softmax", axis=-1)
        mixed = self.node("MatMul", [weights, value], f"{name}.mixed")
        mixed = self.node("Transpose", [mixed], f"{name}.tokens", perm=[0, 2, 1, 3])
        joined = self.shape([self.batch, checkpoint.tokens, checkpoint.width])
        return self.node("Reshape", [mixed, joined], f"{name}.joined")

    def linear(self, name: str, source: str, output: str | None = None) -> str:
        """x W^T + b."""
        weight, bias = self.weight_and_bias(name)
        product = self.node("MatMul", [source, weight], f"{name}.product")
        return self.node("Add", [product, bias], output or f"{name}.sum")

    def weight_and_bias(self, name: str) -> tuple[str, str]:
        """A linear layer's constants; the weight is stored as [inputs, outputs], as MatMul reads it."""
        weight = self.constant(f"{name}.weight", self.checkpoint[f"{name}.weight"].T)
        return weight, self.constant(f"{name}.bias", self.checkpoint[f"{name}.bias"])

    def layer_norm(self, name: str, source: str) -> str:
        """Layer normalization over the channels."""
        weight = self.constant(f"{name}.weight", self.checkpoint[f"{name}.weight"])
        bias = self.constant(f"{name}.bias", self.checkpoint[f"{name}.bias"])
        return self.node("LayerNormalization", [source, weight, bias], name, axis=-1, epsilon=EPSILON)

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Appends an operator with one output, which gives the node its name."""
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Adds a constant under `name`, once."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(
                np.ascontiguousarray(values).reshape(values.shape), name
            )
        return name

    def shape(self, dimensions: list[int]) -> str:
        """The constant that Reshape takes."""
        return self.constant("shape." + "x".join(map(str, dimensions)), np.array(dimensions, np.int64))
