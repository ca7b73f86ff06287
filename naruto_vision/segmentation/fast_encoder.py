"""SAM's image encoder with blocked attention, with the official weights and equal results.

Three differences from ``segment_anything``:

- Attention runs in blocks that fit the processor's cache. Stock global attention writes and reads 768 MiB of scores
  five times per block of ViT-B, which takes longer than the arithmetic and is most of the peak memory.
- In windows, the 64 x 64 tokens are projected before they are padded to 70 x 70: a padded token is zero, so its query,
  key and value are the projection's bias. The outputs of padded queries are dropped before the output projection.
- The table of relative positions is indexed on the device, without a copy from the CPU for each block.

In 16 bits only the products of attention and MLP are rounded: residual sums, LayerNorms and the neck stay in float32.
This keeps most masks equal to those of float32, for a small part of the time.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.common import MLPBlock
from segment_anything.modeling.image_encoder import Attention
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

_SCORES_BYTES = {"cpu": 1 << 21, "cuda": 1 << 30}
"""Most attention scores in memory: the L2 cache of a CPU core, or a small part of a GPU's memory."""


class Products(NamedTuple):
    """The linear layers of a block, at some precision."""

    attention: Attention
    mlp: MLPBlock
    window: int


def products_of(encoder: ImageEncoderViT, dtype: torch.dtype = torch.float32) -> list[Products]:
    """Return the linear layers of each block of an encoder: its own, or rounded copies."""
    found = [Products(block.attn, block.mlp, block.window_size) for block in encoder.blocks]
    if dtype == torch.float32:
        return found
    return [
        Products(copy.deepcopy(each.attention).to(dtype), copy.deepcopy(each.mlp).to(dtype), each.window)
        for each in found
    ]


def encode_image(encoder: ImageEncoderViT, pixels: Tensor, products: Sequence[Products] | None = None) -> Tensor:
    """Run the image encoder on pixels (B, 3, S, S), float32, normalised and padded: (B, C, S / 16, S / 16), float32.

    With products in float32, from ``products_of`` this encoder, the result is within 1e-4 of ``encoder(pixels)``.
    """
    tokens = encoder.patch_embed(pixels)  # (B, H, W, D)
    if encoder.pos_embed is not None:
        tokens = tokens + encoder.pos_embed
    for block, (attention, mlp, window) in zip(encoder.blocks, products or products_of(encoder), strict=True):
        dtype = mlp.lin1.weight.dtype
        tokens = tokens + _attention(attention, window, block.norm1(tokens).to(dtype))
        tokens += mlp(block.norm2(tokens).to(dtype))
    features: Tensor = encoder.neck(tokens.permute(0, 3, 1, 2))
    return features


def _attention(attention: Attention, side: int, tokens: Tensor) -> Tensor:
    """Attend inside windows of ``side``, or globally if it is 0: (B, H, W, D) to (B, H, W, D)."""
    batch, height, width, channels = tokens.shape
    qkv = attention.qkv(tokens)
    if side:
        qkv = _windows(qkv, attention.qkv.bias, side)  # (windows, side, side, 3 D)
    count, rows, columns, _ = qkv.shape
    parts = qkv.view(count, rows * columns, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = parts.reshape(3, count * attention.num_heads, rows * columns, -1).unbind(0)
    by_row = _relative(query.view(len(query), rows, columns, -1), attention.rel_pos_h)
    by_column = _relative(query.view(len(query), rows, columns, -1).transpose(1, 2), attention.rel_pos_w)
    bias = by_row.flatten(1, 2), by_column.transpose(1, 2).flatten(1, 2)
    out = attend(query * attention.scale, key, value, bias)
    out = out.view(count, attention.num_heads, rows, columns, -1).permute(0, 2, 3, 1, 4)
    out = out.reshape(count, rows, columns, channels)
    if side:
        out = _unwindowed(out, batch, height, width)
    projected: Tensor = attention.proj(out)
    return projected


def attend(query: Tensor, key: Tensor, value: Tensor, bias: tuple[Tensor, Tensor]) -> Tensor:
    """Attend in blocks of queries, so that the scores of a block stay in the cache.

    Shapes: query (N, T, d); key (N, T, d); value (N, T, d).
    """
    count, length, _ = query.shape
    by_row, by_column = bias[0][..., None], bias[1][..., None, :]
    budget = _SCORES_BYTES.get(query.device.type, 1 << 26) // query.element_size()
    many, some = max(1, budget // length**2), max(1, min(length, budget // length))
    out = torch.empty_like(query)
    for i in range(0, count, many):
        for j in range(0, length, some):
            here = slice(i, i + many), slice(j, j + some)
            scores = (by_row[here] + by_column[here]).flatten(2)
            out[here] = _weigh(query[here], key[i : i + many], value[i : i + many], scores)
    return out


def _weigh(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attend in one block; the scores overwrite the bias."""
    if query.dtype == torch.float32:
        return torch.bmm(bias.baddbmm_(query, key.transpose(1, 2)).softmax(dim=-1), value)
    # the fused kernel accumulates in float32 and does not store the scores; it needs a heads axis
    return scaled_dot_product_attention(query[None], key[None], value[None], attn_mask=bias[None], scale=1.0)[0]


def _relative(query: Tensor, table: Tensor) -> Tensor:
    """Score queries (N, L, M, d) with each relative position along their second axis: (N, L, M, L)."""
    length = query.shape[1]
    steps = torch.arange(length, device=table.device)
    positions = table[steps[:, None] - steps + length - 1]  # (L, L, d)
    return torch.einsum("nlmd,lkd->nlmk", query, positions)


def _windows(qkv: Tensor, bias: Tensor, side: int) -> Tensor:
    """Pad (B, H, W, 3 D) with the bias, the projection of 0, and split it: (B * windows, side, side, 3 D)."""
    batch, height, width, channels = qkv.shape
    down, across = -(-height // side), -(-width // side)
    whole = bias.expand(batch, down * side, across * side, channels).clone()
    whole[:, :height, :width] = qkv
    cut = whole.view(batch, down, side, across, side, channels).transpose(2, 3)
    return cut.reshape(-1, side, side, channels)


def _unwindowed(windows: Tensor, batch: int, height: int, width: int) -> Tensor:
    """Join windows (B * windows, side, side, D) and drop the padding: (B, H, W, D)."""
    side, channels = windows.shape[1], windows.shape[-1]
    down, across = -(-height // side), -(-width // side)
    whole = windows.view(batch, down, across, side, side, channels).transpose(2, 3)
    return whole.reshape(batch, down * side, across * side, channels)[:, :height, :width]
