"""SAM's mask decoder for many prompts on one image, with the official weights and equal results.

The stock decoder copies the image embedding for each prompt and projects the copies, although a prompt has about
seven tokens and the image 4,096. Here

- the image projections of the first layer are computed once per image;
- later projections are moved to the few tokens' side of each product: ``q (X W)^T`` is ``(q W^T) X^T``, so 56 rows of
  tokens times heads multiply the image tokens X directly. A key bias shifts all scores of a softmax equally and is left
  out; a value bias passes through the softmax unchanged and is added after it;
- the scores of image tokens attending to prompt tokens are kept as (tokens, heads, image), because a softmax over seven
  contiguous values costs twenty times one over seven rows;
- the estimated IoUs are computed first, and only prompts with a mask above the threshold are upscaled.

In 16 bits only the image tokens and the matrices that multiply them are rounded. The prompts' seven tokens, which
are sensitive and cost little, stay in float32.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

_UPSCALED_BYTES = {"cpu": 1 << 23, "cuda": 1 << 31}
"""Most upscaled values in memory: one prompt of the official sizes on a CPU, 256 on a GPU."""


Finer: TypeAlias = tuple[Tensor, Tensor]
"""Maps (4 N, c) and (16 N, c) of the image in token order, which SAM 2 adds to upscaled tokens."""


class SharedImage(NamedTuple):
    """Tensors that all prompts on one image share: N tokens of width C, D inside the attention; one dtype."""

    tokens: Tensor
    positions: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor


class Decoded(NamedTuple):
    """P prompts after the transformer."""

    tokens: Tensor
    image: Tensor
    ious: Tensor


def share_image(
    decoder: MaskDecoder, features: Tensor, positions: Tensor, no_mask: Tensor, dtype: torch.dtype = torch.float32
) -> SharedImage:
    """Compute what does not depend on prompts from features and positions (1, C, h, w) and ``no_mask`` (1, C)."""
    tokens = features[0].flatten(1).t() + no_mask
    encoded = positions[0].flatten(1).t().contiguous()
    layer = decoder.transformer.layers[0]
    to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
    placed = tokens + encoded
    keys = _split(to_image.k_proj(placed), to_image.num_heads).transpose(1, 2).contiguous()
    values = _split(to_image.v_proj(tokens), to_image.num_heads).contiguous()
    queries = _split(to_tokens.q_proj(placed), to_tokens.num_heads).transpose(1, 2).contiguous()
    return SharedImage(*(each.to(dtype) for each in (tokens, encoded, keys, values, queries)))


def decode_prompts(decoder: MaskDecoder, shared: SharedImage, prompts: Tensor) -> Decoded:
    """Run the transformer and the IoU head for the prompts' own tokens (P, K, C)."""
    heads = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    queries = torch.cat([heads.expand(len(prompts), -1, -1), prompts], dim=1)  # (P, T, C)
    transformer = decoder.transformer
    tokens, image = _first_layer(transformer.layers[0], shared, queries)
    for layer in transformer.layers[1:]:
        tokens, image = _next_layer(layer, shared, queries, tokens, image)
    last = transformer.final_attn_token_to_image
    tokens = tokens + _cross_attend(last, tokens + queries, image + shared.positions, image)
    tokens = transformer.norm_final_attn(tokens)
    return Decoded(tokens, image, decoder.iou_prediction_head(tokens[:, 0])[:, 1:])


def _first_layer(layer: TwoWayAttentionBlock, shared: SharedImage, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Run the first layer, in which all prompts share the image tokens."""
    tokens = layer.norm1(layer.self_attn(q=queries, k=queries, v=queries))
    cross, count = layer.cross_attn_token_to_image, len(queries)
    query = _split(cross.q_proj(tokens + queries), cross.num_heads)  # (P, heads, T, d)
    rows = query.transpose(0, 1).flatten(1, 2) * query.shape[-1] ** -0.5  # all prompts as rows of one product per head
    found = _attend(rows, shared.keys.transpose(1, 2), shared.values)
    tokens = tokens + cross.out_proj(_by_prompt(found, count).flatten(2))
    tokens = _mlp(layer, tokens)
    back = layer.cross_attn_image_to_token
    key, values = _project_kv(back, tokens + queries, tokens)
    rows = key.transpose(0, 1).flatten(1, 2)
    scores = _by_prompt(torch.bmm(rows.to(shared.queries.dtype), shared.queries), count)  # (P, T, heads, N)
    return tokens, _update_image_tokens(layer, scores, values, shared.tokens.expand(count, -1, -1))


def _next_layer(
    layer: TwoWayAttentionBlock, shared: SharedImage, queries: Tensor, tokens: Tensor, image: Tensor
) -> tuple[Tensor, Tensor]:
    """Run a later layer, in which each prompt has its own image tokens."""
    query = tokens + queries
    tokens = layer.norm1(tokens + layer.self_attn(q=query, k=query, v=tokens))
    placed = image + shared.positions
    tokens = tokens + _cross_attend(layer.cross_attn_token_to_image, tokens + queries, placed, image)
    tokens = _mlp(layer, tokens)
    back = layer.cross_attn_image_to_token
    key, values = _project_kv(back, tokens + queries, tokens)  # (P, heads, T, d), (P, T * heads, C)
    moved = torch.einsum("phtd,hdc->pthc", key, _by_head(back.q_proj, back.num_heads))
    offset = torch.einsum("phtd,hd->pth", key, back.q_proj.bias.view(back.num_heads, -1))
    scores = torch.bmm(moved.flatten(1, 2).to(placed.dtype), placed.transpose(1, 2)).view(*offset.shape, -1)
    scores += offset[..., None]  # in place: the scores keep the image's dtype
    return tokens, _update_image_tokens(layer, scores, values, image)


def _mlp(layer: TwoWayAttentionBlock, tokens: Tensor) -> Tensor:
    """Normalise the prompts' tokens before and after the MLP."""
    tokens = layer.norm2(tokens)
    normed: Tensor = layer.norm3(tokens + layer.mlp(tokens))
    return normed


def _cross_attend(cross: Attention, query: Tensor, placed: Tensor, image: Tensor) -> Tensor:
    """Attend from tokens (P, T, C) to the image (P, N, C), with keys ``placed`` (image plus positions): (P, T, C)."""
    heads = _split(cross.q_proj(query), cross.num_heads)  # (P, heads, T, d)
    heads = heads * heads.shape[-1] ** -0.5
    moved = torch.einsum("phtd,hdc->phtc", heads, _by_head(cross.k_proj, cross.num_heads))
    attended = _attend(moved.flatten(1, 2), placed, image).view(*heads.shape[:3], -1)
    found = torch.einsum("phtc,hdc->pthd", attended, _by_head(cross.v_proj, cross.num_heads))
    projected: Tensor = cross.out_proj(found.flatten(2) + cross.v_proj.bias)
    return projected


def _attend(rows: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend from scaled rows (B, L, d) to keys (B, N, d) with values (B, N, e): (B, L, e), in the rows' dtype."""
    if keys.dtype == torch.float32:
        return torch.bmm(torch.bmm(rows, keys.transpose(1, 2)).softmax(dim=-1), values)
    # the fused kernel accumulates in float32 and does not store the scores, a quarter of the image's size
    query, keys, values = rows.to(keys.dtype)[:, None], keys.contiguous()[:, None], values[:, None]
    return scaled_dot_product_attention(query, keys, values, scale=1.0)[:, 0].to(rows.dtype)


def _project_kv(cross: Attention, query: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Project tokens to the scaled keys (P, heads, T, d) and values (P, T * heads, C) that the image attends to."""
    key = _split(cross.k_proj(query), cross.num_heads)
    value = _split(cross.v_proj(tokens), cross.num_heads)
    weight = cross.out_proj.weight.view(tokens.shape[-1], cross.num_heads, -1)  # (C, heads, d)
    projected = torch.einsum("phtd,chd->pthc", value, weight)
    projected += cross.out_proj.bias / cross.num_heads  # each head's weights sum to 1, so this sums to the bias
    return key * key.shape[-1] ** -0.5, projected.flatten(1, 2)


def _update_image_tokens(layer: TwoWayAttentionBlock, scores: Tensor, values: Tensor, image: Tensor) -> Tensor:
    """Update image tokens (P, N, C) by attention with scores (P, T, heads, N) and values (P, T * heads, C)."""
    weights = scores.softmax(dim=1).flatten(1, 2)
    changed = torch.baddbmm(image, weights.transpose(1, 2), values.to(image.dtype))
    norm = layer.norm4
    return layer_norm(changed, norm.normalized_shape, norm.weight.to(changed), norm.bias.to(changed), norm.eps)


def _split(tokens: Tensor, heads: int) -> Tensor:
    """Split into heads: (..., T, D) to (..., heads, T, D / heads)."""
    return tokens.view(*tokens.shape[:-1], heads, -1).transpose(-3, -2)


def _by_head(projection: nn.Linear, heads: int) -> Tensor:
    """View a projection's weight as one matrix per head: (heads, d, C)."""
    return projection.weight.view(heads, -1, projection.in_features)


def _by_prompt(rows: Tensor, count: int) -> Tensor:
    """Separate the prompts that are rows of one product per head: (heads, P * T, n) to (P, T, heads, n)."""
    heads, _, width = rows.shape
    return rows.view(heads, count, -1, width).permute(1, 2, 0, 3)


def upscaled_masks(decoder: MaskDecoder, kernels: Tensor, image: Tensor, finer: Finer | None = None) -> Tensor:
    """Multiply kernels (p, m, c) with the upscaled tokens of their images (p, N, C): (p, m, 16 N)."""
    return torch.bmm(kernels, _upscaled(decoder, image, finer).transpose(1, 2))


def repeat_first(rows: Tensor, count: int) -> Tensor:
    """Pad rows (N, ...) to ``count`` with copies of the first."""
    missing = count - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows


def mask_logits(
    decoder: MaskDecoder,
    decoded: Decoded,
    wanted: Tensor,
    grid: tuple[int, int],
    masks: Callable[[MaskDecoder, Tensor, Tensor], Tensor] = upscaled_masks,
    size: int | None = None,
) -> Tensor:
    """Compute mask logits for prompts with a wanted mask; other prompts cost nothing.

    A transposed convolution whose stride equals its width multiplies each token by one matrix. So both stock upscaling
    steps are matrix products in token layout, with an ordinary LayerNorm over channels, and only the finished masks
    are reordered to image layout, where the stock decoder reorders 64 and 32 channels.

    Shapes: wanted (P, 3), bool; returns (M, 4 rows, 4 columns), float32.
    """
    chosen = wanted.any(dim=1).nonzero()[:, 0]
    kernels = _kernels(decoder, decoded.tokens[chosen]).to(decoded.image.dtype)  # (p, 3, c)
    bytes_each = 16 * decoded.image.shape[1] * kernels.shape[-1] * kernels.element_size()
    step = max(1, _UPSCALED_BYTES.get(kernels.device.type, 1 << 26) // bytes_each)
    step = min(step, size or step)
    found = [kernels.new_empty(0, 4 * grid[0], 4 * grid[1])]
    for start in range(0, len(chosen), step):
        here, some = chosen[start : start + step], kernels[start : start + step]
        count = step if size else len(here)
        made = masks(decoder, repeat_first(some, count), decoded.image[repeat_first(here, count)])[: len(here)]
        found.append(in_image_order(made[wanted[here]], grid))
    return torch.cat(found).float()


def _kernels(decoder: MaskDecoder, tokens: Tensor) -> Tensor:
    """Compute the kernels (p, 3, c) of the three masks from the prompts' tokens (p, T, C)."""
    # token 0 is the IoU token; token 1 belongs to the single mask, which is unused here
    mlps = decoder.output_hypernetworks_mlps
    return torch.stack([mlps[i](tokens[:, 1 + i]) for i in range(1, decoder.num_mask_tokens)], dim=1)


def _upscaled(decoder: MaskDecoder, image: Tensor, finer: Finer | None) -> Tensor:
    """Upscale each token to sixteen: (p, N, C) to (p, 16 N, c); the order is N, then 2 x 2, then 2 x 2 in those."""
    first, norm, _, second, _ = decoder.output_upscaling
    wide = linear(image, *_as_linear(first, image.dtype)).view(len(image), 4 * image.shape[1], -1)
    if finer is not None:
        wide = wide + finer[0].to(wide.dtype)
    wide = gelu(layer_norm(wide, wide.shape[-1:], norm.weight.to(wide), norm.bias.to(wide), norm.eps))
    wide = linear(wide, *_as_linear(second, image.dtype)).view(len(image), 16 * image.shape[1], -1)
    return gelu(wide if finer is None else wide + finer[1].to(wide.dtype))


def _as_linear(convolution: nn.ConvTranspose2d, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """View a 2 x 2 transposed convolution of stride 2 as a linear map from C to 2 x 2 x c."""
    weight, bias = (parameter.to(dtype) for parameter in convolution.parameters())
    return weight.permute(2, 3, 1, 0).flatten(0, 2), bias.repeat(4)


def in_token_order(features: Tensor, times: int) -> Tensor:
    """Reorder a map (c, s * rows, s * columns), s = 2 ** ``times``, as upscaled tokens are ordered: (s * s * N, c)."""
    channels, height, width = features.shape
    twos, side = (2,) * times, 2**times
    parts = features.view(channels, height // side, *twos, width // side, *twos)
    order = [axis for level in range(times + 1) for axis in (1 + level, 2 + times + level)]
    return parts.permute(*order, 0).reshape(-1, channels)


def in_image_order(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Reorder masks (m, N x 2 x 2 x 2 x 2) to rows and columns: (m, 4 rows, 4 columns)."""
    rows, columns = grid
    parts = masks.view(-1, rows, columns, 2, 2, 2, 2)
    return parts.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * rows, 4 * columns)
