"""The Vision Transformer in PyTorch's functions: the float peer that most users come from."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from .checkpoint import EPSILON, HEAD_CHANNELS


class VisionTransformer:
    """Weights and forward pass; computes in the type of its weights, on the device where they lie."""

    def __init__(self, path: Path, device: str = "cpu", precision: torch.dtype | None = None) -> None:
        """Loads a checkpoint; `precision` converts it, otherwise it stays in the type it is stored in."""
        tensors = load_file(path, device)
        self.tensors = {name: tensor.to(precision or tensor.dtype) for name, tensor in tensors.items()}
        blocks = [name.split(".")[1] for name in self.tensors if name.startswith("blocks.")]
        self.depth = 1 + max(map(int, blocks))

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes] of pixels [batch, 3, height, width]."""
        embedding = self.tensors["patch_embed.proj.weight"]
        bias = self.tensors["patch_embed.proj.bias"]
        grid = F.conv2d(pixels.to(embedding.dtype), embedding, bias, stride=embedding.shape[-1])
        patches = grid.flatten(2).transpose(1, 2)
        token = self.tensors["cls_token"].expand(len(pixels), -1, -1)
        stream = torch.cat([token, patches], dim=1) + self.tensors["pos_embed"]
        for block in range(self.depth):
            stream = self._block(f"blocks.{block}", stream)
        return self._linear("head", self._layer_norm("norm", stream[:, 0])).float()

    def _block(self, name: str, stream: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = stream.shape
        qkv = self._linear(f"{name}.attn.qkv", self._layer_norm(f"{name}.norm1", stream))
        heads = qkv.reshape(batch, tokens, 3, width // HEAD_CHANNELS, HEAD_CHANNELS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        stream = stream + self._linear(f"{name}.attn.proj", mixed.transpose(1, 2).flatten(2))
        hidden = self._linear(f"{name}.mlp.fc1", self._layer_norm(f"{name}.norm2", stream))
        return stream + self._linear(f"{name}.mlp.fc2", F.gelu(hidden))

    def _linear(self, name: str, source: torch.Tensor) -> torch.Tensor:
        return F.linear(source, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _layer_norm(self, name: str, source: torch.Tensor) -> torch.Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return F.layer_norm(source, weight.shape, weight, bias, EPSILON)
