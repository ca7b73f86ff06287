"""An image tower in 8-bit integers, for CPUs whose VNNI instructions multiply them several times as fast as floats.

Weights are rounded once, a scale a row; activations are rounded as they come, a scale a tensor ("dynamic"). Nothing is
calibrated, so it works for any weights; what it costs in accuracy is measured by ``naruto-vision bench embed --int8``.
"""

import copy
import warnings

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from naruto_vision.encoders.base import Encoder
from naruto_vision.errors import InputError
from naruto_vision.files.machine import cpu_features

_ENGINE = "onednn"  # of torch's kernels the fastest on VNNI and AMX, and as exact as the others
_LARGEST = 127.0


class Int8Linear(nn.Module):
    """A linear layer whose product runs on integers; its vectors come from floats and are floats again.

    Args:
        weight: Shape (O, I), float32.
        bias: Shape (O,), float32, or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        weight = weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp_min(1e-12) / _LARGEST
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch points to another package for whole models; this is one kernel
            rounded = torch.quantize_per_channel(
                weight, scales.double(), torch.zeros(len(weight), dtype=torch.long), 0, torch.qint8
            )
        self._packed = torch.ops.quantized.linear_prepack(rounded, None if bias is None else bias.detach().float())

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply.

        Args:
            rows: Shape (..., I), float32, on the CPU.

        Returns:
            Shape (..., O), float32.
        """
        product: Tensor = torch.ops.quantized.linear_dynamic(rows, self._packed)
        return product


class Int8Attention(nn.Module):
    """Self-attention whose four projections run on integers.

    Args:
        attention: The layer that it takes the place of; batches come first in it, and it has biases.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.project = Int8Linear(attention.in_proj_weight, attention.in_proj_bias)
        self.out = Int8Linear(attention.out_proj.weight, attention.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        _key: Tensor,
        _value: Tensor,
        *,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Attend; the arguments are those of ``nn.MultiheadAttention``, of which an image tower gives one tensor.

        Args:
            query: Shape (B, N, D), float32; keys and values are the same.
            need_weights: Has to be False.
            attn_mask: Shape (N, N), float32, added to the scores; None adds nothing.

        Returns:
            Shape (B, N, D), float32, and None.

        Raises:
            ValueError: If the attention weights are asked for.
        """
        if need_weights:
            msg = "attention in integers: expected need_weights=False, found True; the weights are never formed"
            raise ValueError(msg)
        batch, tokens, width = query.shape
        mixed = self.project(query).view(batch, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = mixed.permute(2, 0, 3, 1, 4)  # each (B, heads, N, D / heads)
        attended = scaled_dot_product_attention(queries, keys, values, attn_mask=attn_mask)
        return self.out(attended.transpose(1, 2).reshape(batch, tokens, width)), None


def int8_copy(encoder: Encoder) -> Encoder:
    """Copy an encoder with its image tower in integers; texts and fingerprints are left to the original.

    Args:
        encoder: An encoder on the CPU.

    Returns:
        A copy that only ``encode_images`` is to be asked of. Its vectors differ a little from the original's.

    Raises:
        InputError: If the encoder is not on a CPU that has the instructions for it.
    """
    device = next(encoder.parameters()).device.type
    if device != "cpu" or not cpu_features()["VNNI"]:
        msg = f"int8: expected a CPU with VNNI, which {device} here is not; leave int8 off"
        raise InputError(msg)
    smaller = copy.deepcopy(encoder).eval()
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = _ENGINE
    try:
        _convert(smaller.image_tower)
    finally:
        torch.backends.quantized.engine = before
    return smaller


def _convert(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        smaller = _smaller(child)
        if smaller is None:
            _convert(child)
        else:
            setattr(module, name, smaller)


def _smaller(layer: nn.Module) -> nn.Module | None:
    if type(layer) is nn.Linear:
        return Int8Linear(layer.weight, layer.bias)
    if isinstance(layer, nn.MultiheadAttention) and layer.batch_first and layer.in_proj_weight is not None:
        return Int8Attention(layer)
    return None
