"""Which parameters of a CLIP are trained."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from torch import nn

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import InputError

Freeze: TypeAlias = Literal["none", "text", "vision"]


def freeze_towers(encoder: ClipEncoder, freeze: Freeze, unfreeze_visual_blocks: int = 0) -> None:
    """Choose what is trained; the logit scale always is.

    Args:
        encoder: What is trained.
        freeze: "text" leaves the image tower trained, "vision" the text tower, "none" both.
        unfreeze_visual_blocks: With "vision": the last blocks of the image tower, and its head, that are trained
            all the same.

    Raises:
        InputError: If blocks are asked for that there are not.
    """
    if unfreeze_visual_blocks and freeze != "vision":
        msg = f"unfreeze_visual_blocks={unfreeze_visual_blocks} means something only with freeze=vision, not {freeze}"
        raise InputError(msg)
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)
    if freeze == "text":
        for parameter in _text_parameters(encoder):
            parameter.requires_grad_(False)
    elif freeze == "vision":
        encoder.clip.visual.requires_grad_(False)
        for parameter in _last_parameters(encoder.clip.visual, unfreeze_visual_blocks):
            parameter.requires_grad_(True)


def _text_parameters(encoder: ClipEncoder) -> Iterator[nn.Parameter]:
    for name, parameter in encoder.clip.named_parameters():
        if not name.startswith("visual.") and name not in {"logit_scale", "logit_bias"}:
            yield parameter


def _last_parameters(visual: nn.Module, blocks: int) -> Iterator[nn.Parameter]:
    """Yield the parameters of the last blocks and of all that comes after them."""
    if blocks == 0:
        return
    transformer = getattr(visual, "transformer", None)
    stack = list(getattr(transformer, "resblocks", []))
    if blocks > len(stack):
        msg = f"unfreeze_visual_blocks={blocks}: the image tower has {len(stack)} blocks that can be unfrozen"
        raise InputError(msg)
    for block in stack[-blocks:]:
        yield from block.parameters()
    for name, parameter in visual.named_parameters():
        if name.startswith(("ln_post.", "proj")):
            yield parameter
