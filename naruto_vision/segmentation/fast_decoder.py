"""SAM's mask decoder for many prompts about one image: stock weights, stock results.

The stock decoder copies the image's embedding for each prompt and projects the copies, although a prompt has some
seven tokens and the image 4,096. Here

- what the first layer needs of the image is projected once an image;
- later projections are moved to the few tokens' side of each product: ``q (X W)^T`` is ``(q W^T) X^T``, so 56 rows of
  tokens times heads meet the image's tokens X directly. A key's bias moves all scores of a softmax alike and is left
  out; a value's bias passes through it unchanged and is added behind it;
- the scores of image tokens attending to prompt tokens are kept as (tokens, heads, image), because a softmax over seven
  neighbours in memory costs twenty times one over seven rows;
- the estimated IoUs come first, and only prompts with a mask above the threshold are brought to mask resolution.

In 16 bits only what is as large as the image is rounded: its tokens, and what multiplies them. The prompts' seven
tokens, on which everything hangs and which cost next to nothing, stay in float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

_UPSCALED_BYTES = {"cpu": 1 << 23, "cuda": 1 << 31}
"""Upscaled channels that are held at once: one prompt of the official sizes on a CPU, 256 of them on a GPU."""


class SharedImage(NamedTuple):
    """What all prompts about one image share: N tokens of C values, D of them inside the attention; one dtype."""

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
    """Compute what does not depend on the prompt: of features and positions (1, C, h, w) and ``no_mask`` (1, C)."""
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
    """The first layer, where all prompts meet the same image."""
    tokens = layer.norm1(layer.self_attn(q=queries, k=queries, v=queries))
    cross, count = layer.cross_attn_token_to_image, len(queries)
    query = _split(cross.q_proj(tokens + queries), cross.num_heads)  # (P, heads, T, d)
    rows = query.transpose(0, 1).flatten(1, 2) * query.shape[-1] ** -0.5  # all prompts as rows of one product a head
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
    """A later layer, where each prompt has an image of its own."""
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
    """Attend from tokens (P, T, C) to the image (P, N, C), whose keys are those of ``placed``: (P, T, C)."""
    heads = _split(cross.q_proj(query), cross.num_heads)  # (P, heads, T, d)
    heads = heads * heads.shape[-1] ** -0.5
    moved = torch.einsum("phtd,hdc->phtc", heads, _by_head(cross.k_proj, cross.num_heads))
    seen = _attend(moved.flatten(1, 2), placed, image).view(*heads.shape[:3], -1)
    found = torch.einsum("phtc,hdc->pthd", seen, _by_head(cross.v_proj, cross.num_heads))
    projected: Tensor = cross.out_proj(found.flatten(2) + cross.v_proj.bias)
    return projected


def _attend(rows: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend from scaled rows (B, L, d) to keys (B, N, d) of values (B, N, e): (B, L, e), of the rows' dtype."""
    if keys.dtype == torch.float32:
        return torch.bmm(torch.bmm(rows, keys.transpose(1, 2)).softmax(dim=-1), values)
    # the fused kernel sums scores in float32 and does not write them: as many as a quarter of the image's values
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
    """Add to image tokens (P, N, C) what they attend to, by scores (P, T, heads, N) of values (P, T * heads, C)."""
    weights = scores.softmax(dim=1).flatten(1, 2)
    changed = torch.baddbmm(image, weights.transpose(1, 2), values.to(image.dtype))
    norm = layer.norm4
    return layer_norm(changed, norm.normalized_shape, norm.weight.to(changed), norm.bias.to(changed), norm.eps)


def _split(tokens: Tensor, heads: int) -> Tensor:
    """Separate heads: (..., T, D) to (..., heads, T, D / heads)."""
    return tokens.view(*tokens.shape[:-1], heads, -1).transpose(-3, -2)


def _by_head(projection: nn.Linear, heads: int) -> Tensor:
    """Read a projection's weight as one matrix a head: (heads, d, C)."""
    return projection.weight.view(heads, -1, projection.in_features)


def _by_prompt(rows: Tensor, count: int) -> Tensor:
    """Undo what made all prompts the rows of one product a head: (heads, P * T, n) to (P, T, heads, n)."""
    heads, _, width = rows.shape
    return rows.view(heads, count, -1, width).permute(1, 2, 0, 3)


def upscaled_masks(decoder: MaskDecoder, kernels: Tensor, image: Tensor) -> Tensor:
    """Multiply kernels (p, 3, c) with the upscaled tokens of their images (p, N, C): (p, 3, 16 N)."""
    return torch.bmm(kernels, _upscaled(decoder, image).transpose(1, 2))


def repeat_first(rows: Tensor, count: int) -> Tensor:
    """Repeat the first of some rows (N, ...) until there are ``count``."""
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
    """Make logits only of prompts with a wanted mask; a prompt without one costs nothing.

    A transposed convolution whose stride is its width is a product of each token with one matrix, so both of the stock
    upscaling steps are two products in the layout that the tokens have already, and the channels' LayerNorm is the
    ordinary one. Only the finished masks are put into image order, where the stock decoder reorders 64 and 32 channels.

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
        found.append(_in_image_order(made[wanted[here]], grid))
    return torch.cat(found).float()


def _kernels(decoder: MaskDecoder, tokens: Tensor) -> Tensor:
    """Make the three masks' kernels (p, 3, c) of the prompts' tokens (p, T, C)."""
    # token 0 is the IoU token, token 1 that of the single mask, which is not wanted here
    mlps = decoder.output_hypernetworks_mlps
    return torch.stack([mlps[i](tokens[:, 1 + i]) for i in range(1, decoder.num_mask_tokens)], dim=1)


def _upscaled(decoder: MaskDecoder, image: Tensor) -> Tensor:
    """Make sixteen tokens of each token: (p, N, C) to (p, 16 N, c); the order is N, then 2 x 2, then 2 x 2 in those."""
    first, norm, _, second, _ = decoder.output_upscaling
    wide = linear(image, *_as_linear(first, image.dtype)).view(len(image), 4 * image.shape[1], -1)
    wide = gelu(layer_norm(wide, wide.shape[-1:], norm.weight.to(wide), norm.bias.to(wide), norm.eps))
    return gelu(linear(wide, *_as_linear(second, image.dtype))).view(len(image), 16 * image.shape[1], -1)


def _as_linear(convolution: nn.ConvTranspose2d, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Read a 2 x 2 transposed convolution of stride 2 as a linear map from C to 2 x 2 x c."""
    weight, bias = (parameter.to(dtype) for parameter in convolution.parameters())
    return weight.permute(2, 3, 1, 0).flatten(0, 2), bias.repeat(4)


def _in_image_order(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put masks (m, N x 2 x 2 x 2 x 2) into rows and columns: (m, 4 rows, 4 columns)."""
    rows, columns = grid
    parts = masks.view(-1, rows, columns, 2, 2, 2, 2)
    return parts.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * rows, 4 * columns)
