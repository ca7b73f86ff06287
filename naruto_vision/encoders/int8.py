"""Image towers in 8-bit integers, several times faster than float32 on CPUs with VNNI instructions.

Dynamic quantisation: weights are rounded once, with a scale per row; activations are rounded at run time, with a scale
per tensor. It needs no calibration; ``make bench ONLY=T6`` measures its cosines with float32.
torch's own kernels are called directly: ``torch.ao.quantization``, which wraps them, is deprecated, and torchao's
dynamic int8 takes five times their time without compilation (14 against 3 ms of CPU for 400 rows of 768 by 3072).
"""

import copy
import warnings

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from naruto_vision.encoders.base import Encoder, WrappedEncoder, require_cpu
from naruto_vision.errors import InputError
from naruto_vision.io.machine import cpu_features

_ENGINE = "onednn"  # the fastest of torch's kernels on VNNI and AMX, with equal accuracy
_LARGEST = 127.0


class Int8Linear(nn.Module):
    """A linear layer with an integer matrix product; its inputs and outputs are floats."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        weight = weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp_min(1e-12) / _LARGEST
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch recommends another package, for whole models
            rounded = torch.quantize_per_channel(
                weight, scales.double(), torch.zeros(len(weight), dtype=torch.long), 0, torch.qint8
            )
        self._packed = torch.ops.quantized.linear_prepack(rounded, None if bias is None else bias.detach().float())

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply."""
        product: Tensor = torch.ops.quantized.linear_dynamic(rows, self._packed)
        return product


class Int8Attention(nn.Module):
    """Self-attention with integer projections."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.project = Int8Linear(attention.in_proj_weight, attention.in_proj_bias)
        self.out = Int8Linear(attention.out_proj.weight, attention.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        _value: Tensor,
        *,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Attend; the arguments are those of ``nn.MultiheadAttention``."""
        if need_weights:
            raise ValueError("int8 attention: expected need_weights=False, found True; the weights are never computed")
        queries, keys, values = self._projected(key)
        if query is not key:
            queries = self._projected(query)[0]
        attended = scaled_dot_product_attention(queries, keys, values, attn_mask=attn_mask)
        return self.out(attended.transpose(1, 2).reshape(query.shape)), None

    def _projected(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (B, heads, N, D / heads) of rows (B, N, D)."""
        batch, tokens, width = rows.shape
        mixed = self.project(rows).view(batch, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = mixed.permute(2, 0, 3, 1, 4)
        return queries, keys, values


class Int8Encoder(WrappedEncoder):
    """Wraps an encoder, with its image tower quantised to 8-bit integers.

    It has the encoder's fingerprint, so a gallery of float vectors can be searched with it: the cosine of their
    vectors is at least 0.99.

    Args:
        encoder: The encoder to quantise, which is copied; convolutions and texts are computed in floats.

    Raises:
        InputError: If this CPU has no VNNI instructions, or the image tower no linear layers.

    Examples:
        >>> import naruto_vision as nv
        >>> encoder = nv.ClipEncoder("tiny-clip")
        >>> nv.Int8Encoder(encoder).fingerprint == encoder.fingerprint if cpu_features()["VNNI"] else True
        True
    """

    arithmetic = "int8"
    mixes = True  # all images of a batch share one scale

    def __init__(self, encoder: Encoder) -> None:
        if not cpu_features()["VNNI"]:
            raise InputError("int8: expected a CPU with VNNI, on which integers are faster; use the encoder itself")
        if not any(isinstance(layer, nn.Linear | nn.MultiheadAttention) for layer in encoder.image_tower.modules()):
            msg = f"int8: {type(encoder).__name__} has no linear layers, which int8 is for; use the encoder itself"
            raise InputError(msg)
        super().__init__(encoder)
        self._smaller: tuple[Encoder, ...] = ()  # a tuple keeps the packed weights out of `state_dict`

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Embed a batch of preprocessed images, without gradients."""
        require_cpu(pixels, "int8")
        if not self._smaller:
            self._smaller = (_quantized(self.encoder),)
        return self._smaller[0].encode_images(pixels)


def _quantized(encoder: Encoder) -> Encoder:
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
        if type(child) is nn.Linear:
            setattr(module, name, Int8Linear(child.weight, child.bias))
        elif isinstance(child, nn.MultiheadAttention) and child.batch_first and child.in_proj_weight is not None:
            setattr(module, name, Int8Attention(child))
        else:
            _convert(child)
