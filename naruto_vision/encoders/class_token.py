"""Forward pass of a vision transformer for its class token only.

CLIP and DINOv2 pool one token (of 50 in ViT-B-32). So the last block needs keys and values of all tokens, but queries,
output projection and MLP of one, which saves most of a twelfth of a ViT-B. Earlier blocks work in place, because page
faults of a new buffer of some megabytes cost more than the sum written into it. The layers are the tower's own, and the
vectors equal the library's up to rounding. Gradients cannot flow through overwritten buffers, so training uses the
library's forward pass. Blocks are not called as a whole, so their hooks do not run.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from open_clip.transformer import VisionTransformer as ClipTower
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear, scaled_dot_product_attention

from naruto_vision.encoders.int8 import Int8Attention, Int8Linear

if TYPE_CHECKING:
    from timm.layers import Attention
    from timm.models.vision_transformer import VisionTransformer

_Layer = Callable[[Tensor], Tensor]
_PLAIN = (nn.Linear, Int8Linear)
"""Layers of one matrix, by exact class: subclasses, such as those of low-rank updates, may do more."""

_OUT = (nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear)
"""The same for the output projection of PyTorch's attention, a subclass of ``nn.Linear``."""


@dataclass(frozen=True)
class _BlockParts:
    """A pre-norm transformer block: ln, attention, layer-scale; ln, fc1, activation, fc2, layer-scale."""

    ln_1: _Layer
    attend: Callable[[Tensor, int], Tensor]
    ls_1: _Layer
    ln_2: _Layer
    fc1: _Layer
    activation: nn.Module
    fc2: _Layer
    ls_2: _Layer


def clip_class_token(tower: nn.Module, pixels: Tensor) -> Tensor | None:
    """Embed pixels (B, 3, S, S) as an open_clip vision transformer (``clip.visual``) does: (B, D), float32.

    None if the tower is trained, pools differently or has unsupported blocks; call the tower then.
    """
    if type(tower) is not ClipTower or tower.training or torch.is_grad_enabled():
        return None
    own: Any = tower
    if own.attn_pool is not None or own.pool_type != "tok" or own.output_tokens or not own.transformer.batch_first:
        return None
    parts = _all_known(_clip_part(block) for block in own.transformer.resblocks)
    if not parts:
        return None
    pooled: Tensor = own.ln_post(_run(parts, clip_tokens(own, pixels)))
    return pooled if own.proj is None else pooled @ own.proj


def clip_tokens(tower: ClipTower, pixels: Tensor) -> Tensor:
    """Embed the patches of pixels (B, 3, S, S) after the class token, as input of the blocks of a ``ClipTower``."""
    patches = tower.conv1(pixels).flatten(2).transpose(1, 2)  # (B, patches, W)
    first = tower.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)  # `len` would fix an export's batch
    tokens = torch.cat([first, patches], dim=1) + tower.positional_embedding.to(patches.dtype)
    normed: Tensor = tower.ln_pre(tower.patch_dropout(tokens))
    return normed


def clip_patches(tower: nn.Module, pixels: Tensor) -> Tensor | None:
    """Embed the patches of pixels (B, 3, H, W), any size, in the space of an open_clip tower's vectors: (B, D, h, w).

    The last block does not attend: each patch keeps its own value, else all would be much like the class token
    (MaskCLIP, https://arxiv.org/abs/2112.01071). None if the tower has no such blocks. Gradients flow.
    """
    own: Any = tower
    if type(tower) is not ClipTower or own.attn_pool is not None or not own.transformer.batch_first or own.proj is None:
        return None
    *earlier, last = own.transformer.resblocks
    attention = last.attn
    if type(attention) is not nn.MultiheadAttention or attention.in_proj_weight is None or hasattr(last, "ln_1_kv"):
        return None
    patches = own.conv1(pixels)  # (B, W, h, w)
    grid = patches.shape[-2:]
    first, places = own.positional_embedding.split([1, len(own.positional_embedding) - 1])
    if grid != tuple(own.grid_size):
        square = places.T.reshape(1, -1, *own.grid_size)
        places = interpolate(square, grid, mode="bicubic", antialias=True)[0].flatten(1).T
    start = own.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
    tokens = torch.cat([start, patches.flatten(2).transpose(1, 2)], dim=1) + torch.cat([first, places]).to(
        patches.dtype
    )
    hidden = own.ln_pre(tokens)
    for block in earlier:
        hidden = block(hidden)
    values = linear(last.ln_1(hidden), attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)[2]
    hidden = hidden + last.ls_1(attention.out_proj(values))
    hidden = hidden + last.ls_2(last.mlp(last.ln_2(hidden)))
    embedded: Tensor = own.ln_post(hidden[:, 1:]) @ own.proj  # (B, patches, D)
    return embedded.transpose(1, 2).reshape(len(embedded), -1, *grid)


def timm_class_token(tower: nn.Module, pixels: Tensor) -> Tensor | None:
    """Embed pixels (B, 3, S, S) by the normalised class token of a timm vision transformer: (B, D), float32.

    None if the tower is trained, or has unsupported blocks or positions for another size; call the tower then.
    """
    from timm.models.vision_transformer import VisionTransformer  # slow to import, and not needed by CLIP

    if type(tower) is not VisionTransformer or tower.training or torch.is_grad_enabled():
        return None
    own: Any = tower
    parts = _all_known(_timm_part(block) for block in own.blocks)
    if not parts or own.pos_embed is None or own.patch_embed.img_size != pixels.shape[-2:]:
        return None
    token: Tensor = own.norm(_run(parts, _timm_tokens(own, pixels)))
    return token


def _timm_tokens(tower: "VisionTransformer", pixels: Tensor) -> Tensor:
    """Embed the patches of pixels (B, 3, S, S) after the class and register tokens: (B, N, W)."""
    patches = tower.patch_embed(pixels).flatten(1, -2)  # towers for any image size keep rows and columns as two axes
    first = [each.expand(patches.shape[0], -1, -1) for each in (tower.cls_token, tower.reg_token) if each is not None]
    if tower.no_embed_class:  # only patches have positions
        tokens = torch.cat([*first, patches + tower.pos_embed], dim=1)
    else:
        tokens = torch.cat([*first, patches], dim=1) + tower.pos_embed
    normed: Tensor = tower.norm_pre(tower.patch_drop(tower.pos_drop(tokens)))
    return normed


def _all_known(parts: Iterable[_BlockParts | None]) -> list[_BlockParts]:
    """Return the blocks; an empty list if one is unsupported."""
    found = list(parts)
    known = [part for part in found if part is not None]
    return known if len(known) == len(found) else []


def _run(parts: list[_BlockParts], hidden: Tensor) -> Tensor:
    """Run blocks on tokens (B, N, W), which are overwritten; the last block computes the first token only: (B, W)."""
    for part in parts[:-1]:
        hidden = _run_block(part, hidden, hidden.shape[1])
    return _run_block(parts[-1], hidden, 1)[:, 0]


def _run_block(part: _BlockParts, hidden: Tensor, count: int) -> Tensor:
    """Run a block on tokens (B, N, W), in place, for the first ``count`` of them: (B, count, W)."""
    mixed = part.attend(part.ln_1(hidden), count)
    hidden = hidden[:, :count].add_(part.ls_1(mixed))
    wide = _activated(part.activation, part.fc1(part.ln_2(hidden)))
    return hidden.add_(part.ls_2(part.fc2(wide)))


def _activated(activation: nn.Module, wide: Tensor) -> Tensor:
    """Apply an activation to the largest buffer of a block, in place if PyTorch supports it."""
    if type(activation) is nn.GELU and activation.approximate == "none":
        own: Tensor = torch.ops.aten.gelu_(wide)
        return own
    if type(activation) is QuickGELU:
        return wide.mul_(torch.mul(wide, 1.702).sigmoid_())
    other: Tensor = activation(wide)
    return other


def _clip_part(block: nn.Module) -> _BlockParts | None:
    """Return the parts of an open_clip block; None if it is unsupported."""
    own: Any = block
    if type(block) is not ResidualAttentionBlock or not _is_plain(own.attn) or hasattr(block, "ln_1_kv"):
        return None
    mlp = own.mlp
    if len(mlp) != 3 or not {type(mlp.c_fc), type(mlp.c_proj)} <= {*_PLAIN}:
        return None
    attend = partial(_attend, own.attn)
    return _BlockParts(own.ln_1, attend, own.ls_1, own.ln_2, mlp.c_fc, mlp.gelu, mlp.c_proj, own.ls_2)


def _is_plain(attention: nn.Module) -> bool:
    if type(attention) is not nn.MultiheadAttention:
        return type(attention) is Int8Attention
    usual = attention.batch_first and attention.in_proj_weight is not None and attention.bias_k is None
    return usual and not attention.add_zero_attn and type(attention.out_proj) in _OUT


def _attend(attention: nn.Module, rows: Tensor, count: int) -> Tensor:
    """Attend to all tokens (B, N, W) from the first ``count`` of them: (B, count, W)."""
    if isinstance(attention, nn.MultiheadAttention) and count == rows.shape[1]:
        joint = linear(rows, attention.in_proj_weight, attention.in_proj_bias)
        return _attended(joint, attention.num_heads, count, attention.out_proj)
    queries = rows if count == rows.shape[1] else rows[:, :count]
    mixed: Tensor = attention(queries, rows, rows, need_weights=False)[0]
    return mixed


def _attended(joint: Tensor, heads: int, count: int, out: _Layer) -> Tensor:
    """Attend with concatenated queries, keys and values (B, N, 3 * W), without copies: (B, count, W)."""
    batch, tokens, triple = joint.shape
    queries, keys, values = joint.view(batch, tokens, 3, heads, triple // 3 // heads).permute(2, 0, 3, 1, 4)
    mixed = scaled_dot_product_attention(queries[:, :, :count], keys, values)  # (B, heads, count, W / heads)
    return out(mixed.transpose(1, 2).reshape(batch, count, triple // 3))


def _timm_part(block: nn.Module) -> _BlockParts | None:
    """Return the parts of a timm block; None if it is unsupported."""
    from timm.layers import Attention, Mlp
    from timm.models.vision_transformer import Block

    own: Any = block
    if type(block) is not Block or type(own.attn) is not Attention or type(own.mlp) is not Mlp:
        return None
    attention, mlp = own.attn, own.mlp
    normed = (attention.q_norm, attention.k_norm, attention.norm, mlp.norm)
    gated = getattr(attention, "gate", None) is not None  # absent in some timm releases
    if gated or any(type(norm) is not nn.Identity for norm in normed):
        return None
    if not {type(layer) for layer in (attention.qkv, attention.proj, mlp.fc1, mlp.fc2)} <= {*_PLAIN}:
        return None
    attend = partial(_attend_timm, attention)
    return _BlockParts(own.norm1, attend, own.ls1, own.norm2, mlp.fc1, mlp.act, mlp.fc2, own.ls2)


def _attend_timm(attention: "Attention", rows: Tensor, count: int) -> Tensor:
    """Do the same with timm's layer; computing the queries of all tokens is cheaper than splitting its matrix."""
    return _attended(attention.qkv(rows), attention.num_heads, count, attention.proj)
