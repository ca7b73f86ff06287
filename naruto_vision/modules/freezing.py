"""Which parameters of a CLIP are trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import nn

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.lora import LoraConfig, add_lora
from naruto_vision.errors import InputError

Freeze: TypeAlias = Literal["none", "text", "vision", "both"]

_SHARED = frozenset({"logit_scale", "logit_bias"})
_AFTER_THE_BLOCKS = ("ln_post.", "proj", "attn_pool.", "head.", "trunk.norm.", "trunk.attn_pool.", "trunk.fc_norm.")


@dataclass(frozen=True)
class FreezeConfig:
    """What of a CLIP is not trained; the logit scale always is.

    Args:
        towers: "text" leaves the image tower trained, "vision" the text tower, "none" both, "both" neither.
        unfreeze_visual_blocks: With "vision" or "both": the last blocks of the image tower, and what comes after
            them, that are trained all the same.

    Raises:
        InputError: If blocks of a tower are to be unfrozen that is not frozen.
    """

    towers: Freeze = "none"
    unfreeze_visual_blocks: int = 0

    def __post_init__(self) -> None:
        if self.unfreeze_visual_blocks and self.towers not in {"vision", "both"}:
            msg = (
                f"freeze.unfreeze_visual_blocks={self.unfreeze_visual_blocks} means something only with "
                f"freeze.towers=vision or both, not {self.towers}"
            )
            raise InputError(msg)


def freeze_towers(encoder: ClipEncoder, config: FreezeConfig, lora: LoraConfig | None = None) -> None:
    """Choose what is trained; with ``lora`` low-rank updates are, and no tower's own weights."""
    if lora is not None and config.towers != "none":
        msg = f"lora leaves every other weight as it is, so freeze.towers={config.towers} means nothing; leave it away"
        raise InputError(msg)
    for name, parameter in encoder.clip.named_parameters():
        parameter.requires_grad_(lora is None and _is_trained(name, config.towers))
    for parameter in _last_parameters(encoder.clip.visual, config.unfreeze_visual_blocks):
        parameter.requires_grad_(True)
    if lora is not None:
        add_lora(encoder.clip, lora)
    encoder.logit_scale.requires_grad_(True)


def _is_trained(name: str, towers: Freeze) -> bool:
    return name in _SHARED or towers not in {"vision" if name.startswith("visual.") else "text", "both"}


def _visual_blocks(visual: nn.Module) -> list[nn.Module]:
    """Return the stack of blocks: open_clip's own transformer, or that of a timm trunk."""
    for path in ("transformer.resblocks", "trunk.blocks"):
        owner, _, name = path.partition(".")
        stack = getattr(getattr(visual, owner, None), name, None)
        if stack is not None:
            return list(stack)
    return []


def _last_parameters(visual: nn.Module, blocks: int) -> Iterator[nn.Parameter]:
    """Yield the parameters of the last blocks and of all that comes after them."""
    if blocks == 0:
        return
    stack = _visual_blocks(visual)
    if not 0 < blocks <= len(stack):
        msg = f"freeze.unfreeze_visual_blocks={blocks}: the image tower has {len(stack)} blocks that can be unfrozen"
        raise InputError(msg)
    for block in stack[-blocks:]:
        yield from block.parameters()
    for name, parameter in visual.named_parameters():
        if name.startswith(_AFTER_THE_BLOCKS):
            yield parameter
