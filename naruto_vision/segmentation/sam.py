"""SAM 1 as a promptable model: the official checkpoints, and this project's tiny-sam."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from naruto_vision.errors import FormatError
from naruto_vision.io.bundles import (
    INFO,
    bundle_path,
    load_bundle,
    load_strictly,
    model_fingerprint,
    read_bundle_info,
    save_bundle,
)
from naruto_vision.io.checkpoints import load_state_dict
from naruto_vision.io.downloads import official_file
from naruto_vision.records import ImageArray
from naruto_vision.segmentation.postprocess import resize_longest, stable_masks
from naruto_vision.segmentation.protocol import (
    FullMask,
    MaskPredictions,
    MaskThresholds,
    PromptableModel,
    Prompts,
    SceneEmbedding,
)
from naruto_vision.segmentation.runtime import Compile, ForwardPasses, Precision, check_precision

Architecture: TypeAlias = Literal["tiny-sam", "vit_b", "vit_l", "vit_h"]


@dataclass(frozen=True)
class SamSize:
    """Hyper-parameters of one size of SAM."""

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
    # with only 256 tokens every block attends globally; heads are 64 wide as in vit_b
    "tiny-sam": SamSize(
        width=128,
        depth=5,
        heads=2,
        global_blocks=(0, 1, 2, 3, 4),
        image_size=256,
        decoder_width=64,
        decoder_heads=4,  # more are narrower than 8 values, and their softmax dominates the cost
        decoder_mlp=256,
        iou_hidden=128,
    ),
}


def build_sam(size: SamSize) -> Sam:
    """Build a SAM with random weights, with the parameter names of the official checkpoints, in evaluation mode."""
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
    decoder = build_decoder(size.image_size, size.decoder_width, size.decoder_heads, size.decoder_mlp, size.iou_hidden)
    return Sam(encoder, *decoder).eval()


def build_decoder(side: int, width: int, heads: int, mlp: int, iou_hidden: int) -> tuple[PromptEncoder, MaskDecoder]:
    """Build prompt encoder and mask decoder of a model whose input has ``side`` pixels a side."""
    grid = side // PATCH
    prompts = PromptEncoder(
        embed_dim=width, image_embedding_size=(grid, grid), input_image_size=(side, side), mask_in_chans=16
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=width, num_heads=heads, mlp_dim=mlp)
    return prompts, MaskDecoder(transformer_dim=width, transformer=transformer, iou_head_hidden_dim=iou_hidden)


KIND = "sam"


def load_sam(sam: Sam, architecture: Architecture, weights: str | Path) -> MaskThresholds:
    """Load weights into a SAM and return their thresholds."""
    if Path(weights).is_file():
        load_strictly(sam, load_state_dict(weights), weights, architecture)
        return MaskThresholds()
    folder = bundle_path(weights, KIND)
    state, info = load_bundle(folder, KIND)
    if info.get("architecture") != architecture:
        raise FormatError(folder / INFO, f"architecture {architecture!r}", repr(info.get("architecture")))
    load_strictly(sam, state, folder, architecture)
    return MaskThresholds.from_json(info.get("thresholds", {}), folder / INFO)


def _architecture_of(weights: str | Path | None) -> Architecture:
    """Infer the size: a bundle records it, and official files have it in their name."""
    name = "tiny-sam" if weights is None else Path(weights).name
    if weights is not None and not Path(weights).is_file():
        name = str(read_bundle_info(bundle_path(weights, KIND), KIND).get("architecture"))
    return next((size for size in SIZES if size in name), "tiny-sam")


class DecodedMasks(NamedTuple):
    """The mask decoder's output for P prompts: three masks each, or one."""

    logits: Tensor
    ious: Tensor


def decode_each(
    sam: Sam, features: Tensor, tokens: Tensor, masks: Tensor | None = None, *, multimask: bool = True
) -> DecodedMasks:
    """Run the mask decoder with a separate image for each prompt, as in training; the stock one cannot.

    Shapes: features (P, C, h, w); tokens (P, T, C); masks (P, 4 h, 4 w), float32.
    """
    decoder, prompts = sam.mask_decoder, sam.prompt_encoder
    count, (channels, height, width) = tokens.shape[0], features.shape[1:]  # `len` would fix the batch of an export
    heads = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    queries = torch.cat([heads.expand(count, -1, -1), tokens], dim=1)
    if masks is None:
        dense = prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)
    else:
        _, dense = prompts(points=None, boxes=None, masks=masks[:, None])
    positions = prompts.get_dense_pe().expand(count, -1, -1, -1)
    out, source = decoder.transformer((features + dense).expand(count, -1, -1, -1), positions, queries)
    upscaled = decoder.output_upscaling(source.transpose(1, 2).reshape(count, channels, height, width))
    # token 0 is the IoU token, token 1 the single mask, followed by the three masks
    chosen = range(1, decoder.num_mask_tokens) if multimask else range(1)
    kernels = torch.stack([decoder.output_hypernetworks_mlps[i](out[:, 1 + i]) for i in chosen], dim=1)
    logits = torch.einsum("pmc,pchw->pmhw", kernels, upscaled)
    return DecodedMasks(logits, decoder.iou_prediction_head(out[:, 0])[:, chosen.start : chosen.stop])


class SegmentAnything(nn.Module, PromptableModel):
    """What SAM 1 and 2 share: ``sam`` has the networks, ``passes`` runs them without gradients."""

    sam: Any
    passes: ForwardPasses
    image_size: int

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        device: torch.device = next(self.sam.parameters()).device
        return device

    def embed(self, image: ImageArray) -> SceneEmbedding:
        """Run the image encoder once for an image (H, W, 3), uint8, RGB, upright."""
        return self.embed_all([image])[0]

    @torch.no_grad()
    def embed_all(self, images: Sequence[ImageArray]) -> list[SceneEmbedding]:
        """Run the image encoder for several images of any sizes: in batches on a GPU, one by one on a CPU.

        Features differ from those of ``embed`` by rounding.

        Raises:
            InputError: If the device is slower in the model's precision, or activations overflow in float16.
        """
        found: list[SceneEmbedding] = []
        while len(found) < len(images):
            start, size = len(found), self.passes.images_at_once(len(images) - len(found), self.device)
            found += self._embed_batch(images[start : start + size])
        return found

    @abstractmethod
    def _embed_batch(self, images: Sequence[ImageArray]) -> list[SceneEmbedding]:
        """Run the image encoder for the images of one batch."""

    @abstractmethod
    def _tokens(self, embedding: SceneEmbedding, prompts: Prompts) -> Tensor:
        """Turn P prompts into tokens (P, T, C)."""

    @abstractmethod
    def predict_all(self, embedding: SceneEmbedding, prompts: Prompts) -> DecodedMasks:
        """Predict all masks of P prompts on one image, without a threshold: logits (P, 3, h, w), or (P, 1, h, w)."""

    @torch.no_grad()
    def predict_masks(
        self, embedding: SceneEmbedding, prompts: Prompts, above: float, batch: int | None = None
    ) -> Iterator[MaskPredictions]:
        """Predict the masks of prompts on one image whose estimated IoU is above a threshold, in batches.

        Args:
            embedding: From ``embed``.
            prompts: P prompts in pixels of the upright image.
            above: Threshold for the estimated IoU, exclusive.
            batch: Prompts per batch; None chooses by the processor's cache or the GPU's memory.

        Yields:
            The masks, in prompt order; logits of shape (M, h, w).
        """
        with torch.autocast(self.device.type, enabled=False):
            if prompts.masks is not None or not prompts.multimask:  # few prompts, each with its own copy of the image
                logits, ious = self.predict_all(embedding, prompts)
                wanted = ious > above
                yield MaskPredictions(wanted.nonzero()[:, 0], logits[wanted], ious[wanted])
                return
            tokens = self._tokens(embedding, prompts)
        features = embedding.features
        image, finer = (features, None) if isinstance(features, Tensor) else features
        yield from self.passes.predict_masks(image, tokens, above, batch, finer)


class SamModel(SegmentAnything):
    """Segment Anything (https://arxiv.org/abs/2304.02643) as a promptable model.

    Args:
        architecture: One of the official sizes, or ``tiny-sam``; None takes that of the weights, ``tiny-sam`` without.
        weights: An official name such as ``sam_vit_b``, a checkpoint file with the official parameter names, a bundle
            folder, the name of a packaged bundle, or None for random weights to train.
        precision: Precision of matrix products in ``embed`` and ``predict_masks``; on a GPU, 16 bits are several times
            faster, and nearly all masks stay the same. Weights, training and files stay in float32.
        compile: What ``torch.compile`` compiles, which takes a minute or more at the first image.

    Attributes:
        thresholds: Mask thresholds of these weights.
        image_size: Side of the model's square input in pixels.

    Raises:
        MissingPathError: If the weights do not exist.
        FormatError: If the bundle holds another architecture, or the file cannot be read.
        StateDictError: If names or shapes in the file are not the architecture's.
        InputError: If this machine has no GPU and its CPU is slower in that precision.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> model = nv.SamModel("tiny-sam", weights=None)
        >>> embedding = model.embed(np.zeros((48, 64, 3), np.uint8))
        >>> embedding.input_size, tuple(embedding.features.shape)
        ((192, 256), (1, 64, 16, 16))
    """

    def __init__(
        self,
        architecture: Architecture | None = None,
        weights: str | Path | None = None,
        precision: Precision = "float32",
        compile: Compile = "none",
    ) -> None:
        super().__init__()
        if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
            check_precision(precision, torch.device("cpu"))  # with a GPU, the target device is not known here
        if weights is not None:
            weights = official_file(str(weights), "SamModel") or weights
        self.architecture = architecture = architecture or _architecture_of(weights)
        self.sam = build_sam(SIZES[architecture])
        self.image_size = SIZES[architecture].image_size
        self.passes = ForwardPasses(self.sam, precision, compile)
        self.thresholds = MaskThresholds()
        if weights is not None:
            self.thresholds = load_sam(self.sam, self.architecture, weights)

    def save(self, folder: str | Path, **facts: Any) -> None:
        """Write the weights and their thresholds as a bundle.

        Args:
            folder: Folder of the bundle; an older bundle is replaced.
            facts: Further JSON values for ``model.json`` (metrics, licence, recipe).
        """
        info = {
            "kind": KIND,
            "thresholds": asdict(self.thresholds),
            "architecture": self.architecture,
            "preprocessing": {"image_size": self.image_size, "resize": "longest side, bilinear with antialiasing"},
        }
        save_bundle(folder, self.sam.state_dict(), {**info, **facts})

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with the architecture, the precision or any weight.

        ``compile`` does not change it, as it only changes the order of the arithmetic.
        """
        facts: dict[str, str] = {"architecture": self.architecture}
        if self.passes.precision != "float32":
            facts["precision"] = self.passes.precision
        return model_fingerprint(facts, self.sam.state_dict())

    def encode(self, pixels: Tensor) -> Tensor:
        """Run the image encoder; gradients flow.

        Args:
            pixels: Shape (B, 3, h, w), uint8 or float, values 0 to 255, at most ``image_size`` a side; smaller
                ones are padded on the right and at the bottom.

        Returns:
            Shape (B, C, image_size / 16, image_size / 16), float32.
        """
        if torch.is_grad_enabled():
            self.passes.forget_rounded()  # training changes the weights
        features: Tensor = self.sam.image_encoder(self.sam.preprocess(pixels.float()))
        return features

    def encode_prompts(self, points: Tensor, labels: Tensor, boxes: Tensor | None) -> Tensor:
        """Turn prompts into tokens; gradients flow.

        Args:
            points: Shape (P, K, 2), float, x and y in pixels of the resized image.
            labels: Shape (P, K), int64, 1 on the object, 0 on the background, -1 for padding.
            boxes: Shape (P, 4), float, in the same pixels, or None.

        Returns:
            Shape (P, K + 2, C) with boxes and (P, K + 1, C) without, float32.
        """
        tokens: Tensor
        given = (points, labels) if points.shape[1] else None
        tokens, _ = self.sam.prompt_encoder(points=given, boxes=boxes, masks=None)
        return tokens

    def decode(self, features: Tensor, tokens: Tensor, masks: Tensor | None = None) -> DecodedMasks:
        """Run the mask decoder for prompts (P, T, C), each with its own features (P, C, h, w); gradients flow.

        ``masks`` are logits of earlier answers to refine, (P, 4 h, 4 w), float32.
        """
        return decode_each(self.sam, features, tokens, masks)

    def train_refinement_only(self) -> None:
        """Freeze all but what reads a mask prompt or a background point: no other answer changes by a bit."""
        self.requires_grad_(False)
        for part in (self.sam.prompt_encoder.mask_downscaling, self.sam.prompt_encoder.point_embeddings[0]):
            part.requires_grad_(True)

    def _embed_batch(self, images: Sequence[ImageArray]) -> list[SceneEmbedding]:
        resized = [resize_longest(image, self.image_size) for image in images]
        features = self.passes.encode(torch.stack([self._square(each) for each in resized]))
        rows = zip(images, resized, features, strict=True)
        return [SceneEmbedding(one[None], image.shape[:2], inside.shape[:2]) for image, inside, one in rows]

    def _square(self, resized: ImageArray) -> Tensor:
        """Normalise a resized image and pad it to the model's input: (3, S, S), float32."""
        pixels = torch.from_numpy(resized).to(self.device).permute(2, 0, 1)
        square: Tensor = self.sam.preprocess(pixels.float())
        return square

    @torch.no_grad()
    def predict_all(self, embedding: SceneEmbedding, prompts: Prompts) -> DecodedMasks:
        """Predict all masks of P prompts on one image, without a threshold: logits (P, 3, h, w), or (P, 1, h, w)."""
        masks = None if prompts.masks is None else torch.from_numpy(prompts.masks).to(self.device)
        tokens = self._tokens(embedding, prompts)
        return decode_each(self.sam, embedding.features, tokens, masks, multimask=prompts.multimask)

    def _tokens(self, embedding: SceneEmbedding, prompts: Prompts) -> Tensor:
        (height, width), (new_height, new_width) = embedding.original_size, embedding.input_size
        scale = np.array([new_width / width, new_height / height])
        points = torch.from_numpy(prompts.points * scale).to(self.device)
        labels = torch.from_numpy(prompts.labels).to(self.device)
        boxes = None
        if prompts.boxes is not None:
            boxes = torch.from_numpy(prompts.boxes * np.tile(scale, 2)).to(self.device)
        return self.encode_prompts(points, labels, boxes)

    def full_masks(
        self, logits: Tensor, embedding: SceneEmbedding, stability: float, offset: float
    ) -> Iterator[FullMask]:
        """Resample masks (M, h, w) to the upright image's size and yield those that are stable and not empty."""
        return stable_masks(logits, embedding, self.image_size, stability, offset)
