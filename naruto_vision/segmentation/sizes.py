"""The sizes of SAM: the three official ones and the tiny one that the project trains itself."""

from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn

Architecture: TypeAlias = Literal["tiny-sam", "vit_b", "vit_l", "vit_h"]


@dataclass(frozen=True)
class SamSize:
    """The numbers that make one size of SAM.

    Args:
        width: Width of the image encoder's tokens.
        depth: Blocks of the image encoder.
        heads: Attention heads of each block.
        global_blocks: Blocks that attend to the whole picture; the others stay inside windows.
        window: Side of a window in tokens.
        image_size: Side of the square input in pixels.
        decoder_width: Width of the prompt tokens and the mask decoder.
        decoder_heads: Attention heads of the mask decoder.
        decoder_mlp: Hidden width of the decoder's MLPs.
        iou_hidden: Hidden width of the head that estimates the masks' IoU.
    """

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    window: int = 14
    image_size: int = 1024
    decoder_width: int = 256
    decoder_heads: int = 8
    decoder_mlp: int = 2048
    iou_hidden: int = 256


PATCH = 16

SIZES: dict[Architecture, SamSize] = {
    "vit_b": SamSize(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": SamSize(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": SamSize(1280, 32, 16, (7, 15, 23, 31)),
    # 256 tokens are few enough that every block can attend to all of them; heads are 64 wide as in vit_b
    "tiny-sam": SamSize(
        width=128,
        depth=5,
        heads=2,
        global_blocks=(0, 1, 2, 3, 4),
        image_size=256,
        decoder_width=64,
        decoder_heads=4,  # more would be narrower than 8 values each, and their softmax would cost the most
        decoder_mlp=256,
        iou_hidden=128,
    ),
}


def build_sam(size: SamSize) -> Sam:
    """Build a SAM with random weights, in the official checkpoints' layout of names.

    Args:
        size: Its numbers.

    Returns:
        A ``segment_anything.modeling.Sam`` in evaluation mode.
    """
    grid = size.image_size // PATCH
    encoder = ImageEncoderViT(
        img_size=size.image_size,
        patch_size=PATCH,
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.heads,
        out_chans=size.decoder_width,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),  # the official weights' epsilon
        use_rel_pos=True,
        window_size=size.window,
        global_attn_indexes=size.global_blocks,
    )
    prompts = PromptEncoder(
        embed_dim=size.decoder_width,
        image_embedding_size=(grid, grid),
        input_image_size=(size.image_size, size.image_size),
        mask_in_chans=16,
    )
    transformer = TwoWayTransformer(
        depth=2, embedding_dim=size.decoder_width, num_heads=size.decoder_heads, mlp_dim=size.decoder_mlp
    )
    decoder = MaskDecoder(
        transformer_dim=size.decoder_width, transformer=transformer, iou_head_hidden_dim=size.iou_hidden
    )
    return Sam(encoder, prompts, decoder).eval()
