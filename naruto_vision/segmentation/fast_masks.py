"""From decoded prompts to mask logits, for those prompts alone that have a mask whose estimated IoU is good enough.

A transposed convolution whose stride is its width is a product of each token with one matrix, so both of the stock
upscaling steps are two products in the layout that the tokens have already, and the channels' LayerNorm is the ordinary
one. Only the finished masks are put into picture order, where the stock decoder reorders 64 and then 32 channels.
"""

import torch
from segment_anything.modeling import MaskDecoder
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear

from naruto_vision.segmentation.compiling import compile_once, filled
from naruto_vision.segmentation.fast_decoder import Decoded

_UPSCALED_BYTES = {"cpu": 1 << 23, "cuda": 1 << 31}
"""Upscaled channels that are held at once: one prompt of the official sizes on a CPU, 256 of them on a GPU."""

_COMPILED_PROMPTS = 32
"""Prompts whose masks compiled code makes at once: enough for a GPU, and few are made in vain to fill a batch up."""


def mask_logits(
    decoder: MaskDecoder, decoded: Decoded, wanted: Tensor, grid: tuple[int, int], *, compiled: bool = False
) -> Tensor:
    """Make the masks that are wanted.

    Args:
        decoder: Of any size.
        decoded: P prompts after the transformer.
        wanted: Shape (P, 3), bool: which masks; a prompt with none costs nothing.
        grid: Rows and columns of the picture's tokens.
        compiled: Compile the upscaling, for one number of prompts that shorter batches are filled up to.

    Returns:
        Shape (M, 4 rows, 4 columns), float32: the wanted masks' logits, prompt by prompt.
    """
    asked = wanted.any(dim=1).nonzero()[:, 0]
    kernels = _kernels(decoder, decoded.tokens[asked]).to(decoded.picture.dtype)  # (p, 3, c)
    bytes_each = 16 * decoded.picture.shape[1] * kernels.shape[-1] * kernels.element_size()
    step = max(1, _UPSCALED_BYTES.get(kernels.device.type, 1 << 26) // bytes_each)
    run, step = (compile_once(_masks), min(step, _COMPILED_PROMPTS)) if compiled else (_masks, step)
    found = [kernels.new_empty(0, 4 * grid[0], 4 * grid[1])]
    for start in range(0, len(asked), step):
        here, some = asked[start : start + step], kernels[start : start + step]
        size = step if compiled else len(here)
        masks = run(decoder, filled(some, size), decoded.picture[filled(here, size)])[: len(here)]
        found.append(_in_picture_order(masks[wanted[here]], grid))
    return torch.cat(found).float()


def _masks(decoder: MaskDecoder, kernels: Tensor, picture: Tensor) -> Tensor:
    """Multiply kernels (p, 3, c) with the upscaled tokens of their pictures (p, N, C): (p, 3, 16 N)."""
    return torch.bmm(kernels, _upscaled(decoder, picture).transpose(1, 2))


def _kernels(decoder: MaskDecoder, tokens: Tensor) -> Tensor:
    """Make the three masks' kernels (p, 3, c) of the prompts' tokens (p, T, C)."""
    # token 0 is the IoU token, token 1 the single-mask answer that is not asked for here
    mlps = decoder.output_hypernetworks_mlps
    return torch.stack([mlps[i](tokens[:, 1 + i]) for i in range(1, decoder.num_mask_tokens)], dim=1)


def _upscaled(decoder: MaskDecoder, picture: Tensor) -> Tensor:
    """Make sixteen tokens of each token: (p, N, C) to (p, 16 N, c); the order is N, then 2 x 2, then 2 x 2 in those."""
    first, norm, _, second, _ = decoder.output_upscaling
    wide = linear(picture, *_as_linear(first, picture.dtype)).view(len(picture), 4 * picture.shape[1], -1)
    wide = gelu(layer_norm(wide, wide.shape[-1:], norm.weight.to(wide), norm.bias.to(wide), norm.eps))
    return gelu(linear(wide, *_as_linear(second, picture.dtype))).view(len(picture), 16 * picture.shape[1], -1)


def _as_linear(convolution: nn.ConvTranspose2d, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Read a 2 x 2 transposed convolution of stride 2 as a linear map from C to 2 x 2 x c."""
    weight, bias = (parameter.to(dtype) for parameter in convolution.parameters())
    return weight.permute(2, 3, 1, 0).flatten(0, 2), bias.repeat(4)


def _in_picture_order(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put masks (m, N x 2 x 2 x 2 x 2) into rows and columns: (m, 4 rows, 4 columns)."""
    rows, columns = grid
    parts = masks.view(-1, rows, columns, 2, 2, 2, 2)
    return parts.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * rows, 4 * columns)
