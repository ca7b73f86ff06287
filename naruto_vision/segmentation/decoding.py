"""SAM's mask decoder as it is trained: each prompt with a picture of its own, and gradients."""

from typing import NamedTuple

import torch
from segment_anything.modeling import Sam
from torch import Tensor


class Answer(NamedTuple):
    """What the mask decoder says about P prompts.

    Attributes:
        logits: Shape (P, 3, h, w), float32; above 0 is mask; h and w are a quarter of the model's input side.
        ious: Shape (P, 3), float32, the estimated IoU of each mask; unbounded.
    """

    logits: Tensor
    ious: Tensor


def decode_each(sam: Sam, features: Tensor, tokens: Tensor) -> Answer:
    """Run the mask decoder; gradients flow.

    The stock decoder takes one picture at a time; this one takes each prompt with its own picture.

    Args:
        sam: Of any size.
        features: Shape (P, C, h, w), or (1, C, h, w) where all prompts ask about one picture.
        tokens: Shape (P, T, C): the prompts' tokens.

    Returns:
        Three masks a prompt.
    """
    decoder, prompts = sam.mask_decoder, sam.prompt_encoder
    count, (channels, height, width) = len(tokens), features.shape[1:]
    heads = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    queries = torch.cat([heads.expand(count, -1, -1), tokens], dim=1)
    source = features + prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)
    positions = prompts.get_dense_pe().expand(count, -1, -1, -1)
    out, source = decoder.transformer(source.expand(count, -1, -1, -1), positions, queries)
    upscaled = decoder.output_upscaling(source.transpose(1, 2).reshape(count, channels, height, width))
    # token 0 is the IoU token, token 1 the single-mask answer that is not asked for here
    mlps = decoder.output_hypernetworks_mlps
    kernels = torch.stack([mlps[i](out[:, 1 + i]) for i in range(1, decoder.num_mask_tokens)], dim=1)
    logits = torch.einsum("pmc,pchw->pmhw", kernels, upscaled)
    return Answer(logits, decoder.iou_prediction_head(out[:, 0])[:, 1:])
