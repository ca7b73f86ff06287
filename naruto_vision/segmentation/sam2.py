"""SAM 2.1 as a promptable model: the official checkpoints of all four sizes.

The image encoder is that of transformers. The prompt encoder and the mask decoder are those of SAM 1, which SAM 2 took
over: it adds a token for the object's presence, two finer feature maps to the upscaling, and a sigmoid to the estimated
IoU. So the fast decoder serves both. Images are stretched to a square instead of padded, and logits are resampled once.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from naruto_vision.errors import FormatError, MissingPathError, StateDictError
from naruto_vision.io.bundles import load_strictly, model_fingerprint
from naruto_vision.io.checkpoints import load_state_dict
from naruto_vision.io.downloads import official_file
from naruto_vision.io.machine import require_package
from naruto_vision.records import ImageArray
from naruto_vision.segmentation.fast_decoder import in_image_order, in_token_order, upscaled_masks
from naruto_vision.segmentation.postprocess import mask_area, stability_score, stable_masks
from naruto_vision.segmentation.protocol import (
    FullMask,
    MaskThresholds,
    Prompts,
    SceneEmbedding,
)
from naruto_vision.segmentation.runtime import ForwardPasses, check_precision
from naruto_vision.segmentation.sam import PATCH, DecodedMasks, SegmentAnything, build_decoder

Sam2Architecture: TypeAlias = Literal["tiny", "small", "base_plus", "large"]

_STABLE, _STABLE_OFFSET = 0.98, 0.05
"""Where the single mask is less stable than this, the best of three is taken, as the official predictor does."""
_LARGEST_LOGIT = 32.0  # of a mask prompt: the official predictor clamps its answers to it
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_THRESHOLDS = MaskThresholds(predicted_iou=0.8)  # of the official mask generator

VIDEO_KEYS = (
    "maskmem_tpos_enc",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "mask_downsample.",
    "memory_attention.",
    "memory_encoder.",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
    "sam_mask_decoder.pred_obj_score_head.",
)
"""Beginnings of the keys of an official file that only videos need; SAM 2.0 files have some of them."""

_OFFICIAL = (
    (r"^image_encoder\.backbone\.", "image_encoder.trunk."),
    (r"patch_embed\.projection\.", "patch_embed.proj."),
    (r"\.layer_norm(?=\d)", ".norm"),
    (r"\.mlp\.(?:proj_in|lin1)\.", ".mlp.layers.0."),
    (r"\.mlp\.(?:proj_out|lin2)\.", ".mlp.layers.1."),
    (r"(neck\.convs\.\d+)\.", r"\1.conv."),
    (r"^(?=prompt_encoder|mask_decoder)", "sam_"),
)
"""Patterns of our keys, and what an official file has in their place."""


@dataclass(frozen=True)
class Sam2Size:
    """Hyper-parameters of one size of SAM 2: Hiera's four stages, each twice as wide, and the decoder."""

    width: int
    heads: int
    blocks: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    position_grid: int = 7
    image_size: int = 1024
    decoder_width: int = 256
    decoder_heads: int = 8
    decoder_mlp: int = 2048
    iou_hidden: int = 256


SIZES: dict[Sam2Architecture, Sam2Size] = {
    "tiny": Sam2Size(96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "small": Sam2Size(96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "base_plus": Sam2Size(112, 2, (2, 3, 16, 3), (12, 16, 20), position_grid=14),
    "large": Sam2Size(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
}


class Sam2Network(nn.Module):
    """The networks of SAM 2 for images, with random weights."""

    def __init__(self, size: Sam2Size) -> None:
        super().__init__()
        width = size.decoder_width
        self.image_encoder = require_package("transformers", "sam2").Sam2VisionModel(encoder_config(size))
        self.prompt_encoder, decoder = build_decoder(
            size.image_size, width, size.decoder_heads, size.decoder_mlp, size.iou_hidden
        )
        decoder.iou_prediction_head = MLP(width, size.iou_hidden, decoder.num_mask_tokens, 3, sigmoid_output=True)
        decoder.obj_score_token = nn.Embedding(1, width)
        decoder.conv_s0, decoder.conv_s1 = nn.Conv2d(width, width // 8, 1), nn.Conv2d(width, width // 4, 1)
        self.mask_decoder = decoder
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.eval()


def encoder_config(size: Sam2Size) -> Any:  # noqa: ANN401 - of a package without types
    """Return the configuration of transformers' image encoder."""
    transformers = require_package("transformers", "sam2")
    widths, grid = [size.width * 2**stage for stage in range(4)], size.image_size // PATCH
    trunk = transformers.Sam2HieraDetConfig(
        hidden_size=size.width,
        num_attention_heads=size.heads,
        image_size=[size.image_size, size.image_size],
        blocks_per_stage=list(size.blocks),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[size.heads * 2**stage for stage in range(4)],
        window_size_per_stage=list(size.windows),
        global_attention_blocks=list(size.global_blocks),
        window_positional_embedding_background_size=[size.position_grid] * 2,
    )
    return transformers.Sam2VisionConfig(
        backbone_config=trunk,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[grid * 4] * 2, [grid * 2] * 2, [grid] * 2],
        fpn_hidden_size=size.decoder_width,
    )


def official_key(name: str) -> str:
    """Translate a key of ``Sam2Network`` to that of an official file.

    Examples:
        >>> official_key("image_encoder.backbone.blocks.0.layer_norm1.weight")
        'image_encoder.trunk.blocks.0.norm1.weight'
    """
    for pattern, official in _OFFICIAL:
        name = re.sub(pattern, official, name)
    return name


def read_official(weights: str | Path) -> tuple[Path, dict[str, Tensor]]:
    """Find and read an official file; returns its path too."""
    path = official_file(str(weights), "Sam2Model")
    if path is None:
        hint = "give an official file such as sam2.1_hiera_tiny.pt; `naruto-vision weights list` has their names"
        raise MissingPathError(weights, "weights file of SAM 2", hint)
    return path, load_state_dict(path)


def size_of(state: Mapping[str, Tensor], path: str | Path) -> Sam2Architecture:
    """Infer the size from an official file's tensors: the width, and the number of blocks."""
    first = state.get("image_encoder.trunk.pos_embed")
    width = first.shape[1] if first is not None and first.ndim == 4 else 0
    blocks = sum(bool(re.fullmatch(r"image_encoder\.trunk\.blocks\.\d+\.norm1\.weight", name)) for name in state)
    for name, size in SIZES.items():
        if (width, blocks) == (size.width, sum(size.blocks)):
            return name
    found = f"an image encoder of width {width} with {blocks} blocks" if width else ", ".join(sorted(state)[:2])
    raise FormatError(path, f"an official file of SAM 2 ({', '.join(SIZES)})", found, "such as sam2.1_hiera_tiny.pt")


def load_sam2(network: Sam2Network, state: Mapping[str, Tensor], path: str | Path, architecture: str) -> None:
    """Load an official file's tensors; each key is loaded, or one of ``VIDEO_KEYS``."""
    own = {official_key(name): name for name in network.state_dict()}
    found = {name for name in state if not name.startswith(VIDEO_KEYS)}
    if own.keys() != found:
        raise StateDictError(path, f"SAM 2 {architecture}", sorted(own.keys() - found), sorted(found - own.keys()))
    load_strictly(network, {own[name]: state[name] for name in found}, path, f"SAM 2 {architecture}")


def as_square(image: ImageArray, side: int, device: torch.device) -> Tensor:
    """Stretch an image to the model's input and normalise it: (1, 3, S, S), float32; as the official one does."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None].float() / 255
    square = interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    mean, deviation = (torch.tensor(each, device=device).view(1, 3, 1, 1) for each in (_MEAN, _STD))
    return (square - mean) / deviation


class Sam2Features(NamedTuple):
    """What the decoder reads of one image: features (1, C, h, w), and two finer maps in token order."""

    image: Tensor
    finer: tuple[Tensor, Tensor]


class Sam2Model(SegmentAnything):
    """Segment Anything 2.1 (https://arxiv.org/abs/2408.00714) for images, as a promptable model.

    Needs the extra ``sam2`` (transformers), of which it uses the image encoder.

    Args:
        weights: An official name such as ``sam2.1_hiera_tiny``, an official file (also of SAM 2.0), or None for random
            weights.
        architecture: One of the official sizes, or the hyper-parameters of another one; None takes that of the
            weights, ``tiny`` without.
        precision: Precision of matrix products in ``embed`` and ``predict_masks``: ``float32`` or ``bfloat16``.

    Attributes:
        thresholds: Mask thresholds of the official mask generator.
        image_size: Side of the model's square input in pixels.

    Raises:
        MissingPackageError: If transformers is not installed.
        MissingPathError: If the weights do not exist.
        FormatError: If the file is not one of SAM 2, or of another size than those named above.
        StateDictError: If names or shapes in the file are not the architecture's.
        InputError: If this machine has no GPU and its CPU is slower in that precision.

    Examples:
        >>> import naruto_vision as nv
        >>> model = nv.Sam2Model("sam2.1_hiera_tiny")  # doctest: +SKIP
        >>> segmenter = nv.Segmenter(nv.GridPrompter(16), model)  # doctest: +SKIP
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        architecture: Sam2Architecture | Sam2Size | None = None,
        precision: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__()
        if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
            check_precision(precision, torch.device("cpu"))  # with a GPU, the target device is not known here
        require_package("transformers", "sam2")  # before a file is searched and read
        path, state = (Path(), {}) if weights is None else read_official(weights)
        if architecture is None:
            architecture = "tiny" if weights is None else size_of(state, path)
        self.architecture = architecture
        self.size = architecture if isinstance(architecture, Sam2Size) else SIZES[architecture]
        with torch.device("cpu" if weights is None else "meta"):  # random numbers are not drawn only to be replaced
            self.sam = Sam2Network(self.size)
        if weights is not None:
            load_sam2(self.sam.to_empty(device="cpu"), state, path, str(architecture))
        self.image_size = self.size.image_size
        self.thresholds = _THRESHOLDS
        self.passes = ForwardPasses(self.sam, precision, "none")

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with the architecture, the precision or any weight."""
        facts = {"architecture": f"sam2 {self.size}", "precision": self.passes.precision}
        return model_fingerprint(facts, self.sam.state_dict())

    def _embed_batch(self, images: Sequence[ImageArray]) -> list[SceneEmbedding]:
        check_precision(self.passes.precision, self.device)
        decoder = self.sam.mask_decoder
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.passes.precision == "bfloat16"):
            squares = torch.cat([as_square(image, self.image_size, self.device) for image in images])
            maps = self.sam.image_encoder(pixel_values=squares).fpn_hidden_states
            first, second = decoder.conv_s1(maps[1]), decoder.conv_s0(maps[0])
        coarse = maps[2].float() + self.sam.no_mem_embed.view(1, -1, 1, 1)
        found = []
        for image, one, two, four in zip(images, coarse, first.float(), second.float(), strict=True):
            features = Sam2Features(one[None], (in_token_order(two, 1), in_token_order(four, 2)))
            found.append(SceneEmbedding(features, image.shape[:2], (self.image_size,) * 2))
        return found

    @torch.no_grad()
    def predict_all(self, embedding: SceneEmbedding, prompts: Prompts) -> DecodedMasks:
        """Predict all masks of P prompts on one image, without a threshold: logits (P, 3, h, w), or (P, 1, h, w).

        A single mask that is not stable is replaced by the best of the three.
        """
        encoder, decoder, features = self.sam.prompt_encoder, self.sam.mask_decoder, embedding.features
        tokens, rows = self._tokens(embedding, prompts), features.image.shape[-1]
        heads = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        queries = torch.cat([heads.expand(len(tokens), -1, -1), tokens], dim=1)
        dense = encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        if prompts.masks is not None:
            masks = torch.from_numpy(prompts.masks).to(self.device).clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)
            dense = encoder.mask_downscaling(masks[:, None])
        image = (features.image + dense).expand(len(tokens), -1, -1, -1)
        positions = encoder.get_dense_pe().expand(len(tokens), -1, -1, -1)
        out, source = decoder.transformer(image, positions, queries)
        mlps = decoder.output_hypernetworks_mlps
        kernels = torch.stack([mlp(out[:, 1 + i]) for i, mlp in enumerate(mlps)], dim=1)
        flat = upscaled_masks(decoder, kernels, source, features.finer)
        logits = in_image_order(flat.flatten(0, 1), (rows, rows)).view(*flat.shape[:2], 4 * rows, 4 * rows)
        ious = decoder.iou_prediction_head(out[:, 0])
        three = DecodedMasks(logits[:, 1:], ious[:, 1:])
        return three if prompts.multimask else _single(logits[:, :1], ious[:, :1], three)

    def _tokens(self, embedding: SceneEmbedding, prompts: Prompts) -> Tensor:
        """Turn P prompts into tokens (P, T, C); with a box too there is a token that is no point, as in training."""
        height, width = embedding.original_size
        scale = np.array([self.image_size / width, self.image_size / height])
        points = torch.from_numpy((prompts.points * scale).astype(np.float32)).to(self.device)
        labels, boxes = torch.from_numpy(prompts.labels).to(self.device), None
        if prompts.boxes is not None:
            boxes = torch.from_numpy((prompts.boxes * np.tile(scale, 2)).astype(np.float32)).to(self.device)
            points, labels = pad(points, (0, 0, 0, 1)), pad(labels, (0, 1), value=-1)
        tokens, _ = self.sam.prompt_encoder(points=(points, labels), boxes=boxes, masks=None)
        presence = self.sam.mask_decoder.obj_score_token.weight.expand(len(tokens), -1, -1)
        return torch.cat([tokens, presence], dim=1)  # attention does not depend on the order of tokens

    def full_masks(
        self, logits: Tensor, embedding: SceneEmbedding, stability: float, offset: float
    ) -> Iterator[FullMask]:
        """Resample masks (M, h, w) to the upright image's size and yield those that are stable and not empty."""
        side = logits.shape[-1]  # straight to the image's size, without the model's input size between
        return stable_masks(logits, replace(embedding, input_size=(side, side)), side, stability, offset)


def _single(logits: Tensor, ious: Tensor, three: DecodedMasks) -> DecodedMasks:
    """Choose between the single mask (P, 1, h, w) and the best of three."""
    best, rows = three.ious.argmax(dim=1), torch.arange(len(ious), device=ious.device)
    stable = stability_score(logits, _STABLE_OFFSET) >= _STABLE
    stable |= mask_area(logits > -_STABLE_OFFSET) == 0  # an empty one counts as stable
    return DecodedMasks(
        torch.where(stable[..., None, None], logits, three.logits[rows, best][:, None]),
        torch.where(stable, ious, three.ious[rows, best][:, None]),
    )
