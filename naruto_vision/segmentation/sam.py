"""SAM 1 as a promptable model: official checkpoints, and the tiny one of this project."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from naruto_vision.errors import FormatError
from naruto_vision.files.bundle import INFO, load_bundle, save_bundle
from naruto_vision.files.fingerprint import model_fingerprint
from naruto_vision.files.share import bundle_path
from naruto_vision.files.strict import load_strictly
from naruto_vision.files.trust import load_state_dict
from naruto_vision.records import Picture
from naruto_vision.segmentation.base import Prompts, SceneEmbedding
from naruto_vision.segmentation.sizes import SIZES, Architecture, build_sam
from naruto_vision.segmentation.thresholds import MaskThresholds

KIND = "sam"


class Answer(NamedTuple):
    """What the mask decoder says about P prompts.

    Attributes:
        logits: Shape (P, 3, h, w), float32; above 0 is mask; h and w are a quarter of the model's input side.
        ious: Shape (P, 3), float32, the estimated IoU of each mask; unbounded.
    """

    logits: Tensor
    ious: Tensor


class SamModel(nn.Module):
    """Segment Anything (https://arxiv.org/abs/2304.02643) behind the two calls that every promptable model has.

    Args:
        architecture: One of the official sizes, or ``tiny-sam``.
        weights: A checkpoint file in the official layout of names, a bundle's folder, the name of a bundle that the
            package carries, or None for random weights to train.

    Attributes:
        thresholds: Which answers count as masks with these weights.
        image_size: Side of the model's square input in pixels.

    Raises:
        MissingPathError: If there are no such weights.
        FormatError: If the bundle holds another architecture, or the file cannot be read.
        StateDictError: If names or shapes in the file are not the architecture's.

    Example:
        >>> import numpy as np
        >>> model = SamModel("tiny-sam", weights=None)
        >>> embedding = model.embed(np.zeros((48, 64, 3), np.uint8))
        >>> embedding.input_size, tuple(embedding.features.shape)
        ((192, 256), (1, 64, 16, 16))
    """

    def __init__(self, architecture: Architecture = "tiny-sam", weights: str | Path | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.sam = build_sam(SIZES[architecture])
        self.image_size = SIZES[architecture].image_size
        self.thresholds = MaskThresholds()
        if weights is not None:
            self._load(weights)

    def _load(self, weights: str | Path) -> None:
        if Path(weights).is_file():
            load_strictly(self.sam, load_state_dict(weights), weights, self.architecture)
            return
        folder = bundle_path(weights)
        state, info = load_bundle(folder, KIND)
        if info.get("architecture") != self.architecture:
            raise FormatError(folder / INFO, f"architecture {self.architecture!r}", repr(info.get("architecture")))
        load_strictly(self.sam, state, folder, self.architecture)
        self.thresholds = MaskThresholds.from_json(info.get("thresholds", {}), str(folder / INFO))

    def save(self, folder: str | Path, **facts: Any) -> None:
        """Write the weights as a bundle, with the thresholds that go with them.

        Args:
            folder: Where the bundle goes; an older one is replaced.
            facts: JSON values to keep beside the architecture (figures, licence, recipe).
        """
        info = {
            "kind": KIND,
            "architecture": self.architecture,
            "preprocessing": {"image_size": self.image_size, "resize": "longest side, bilinear with antialiasing"},
            "thresholds": self.thresholds.as_json(),
            **facts,
        }
        save_bundle(folder, self.sam.state_dict(), info)

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with the architecture or any weight."""
        return model_fingerprint({"architecture": self.architecture}, self.sam.state_dict())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.sam.pixel_mean.device
        return device

    def resize(self, picture: Picture) -> Picture:
        """Scale a picture so that its longest side fills the model's input.

        Args:
            picture: Shape (H, W, 3), uint8, RGB.

        Returns:
            Shape (h, w, 3), uint8, with ``max(h, w) == image_size``.
        """
        height, width = picture.shape[:2]
        scale = self.image_size / max(height, width)
        size = (max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5)))
        return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))

    def encode(self, pixels: Tensor) -> Tensor:
        """Run the image encoder; gradients flow.

        Args:
            pixels: Shape (B, 3, h, w), uint8 or float, values 0 to 255, at most ``image_size`` a side; smaller
                ones are padded on the right and at the bottom.

        Returns:
            Shape (B, C, image_size / 16, image_size / 16), float32.
        """
        features: Tensor = self.sam.image_encoder(self.sam.preprocess(pixels.float()))
        return features

    def encode_prompts(self, points: Tensor, labels: Tensor, boxes: Tensor | None) -> Tensor:
        """Turn prompts into tokens; gradients flow.

        Args:
            points: Shape (P, K, 2), float, x and y in pixels of the resized picture.
            labels: Shape (P, K), int64, 1 on the object, 0 off it.
            boxes: Shape (P, 4), float, in the same pixels, or None.

        Returns:
            Shape (P, K + 2, C) with boxes and (P, K + 1, C) without, float32.
        """
        tokens: Tensor
        asked = (points, labels) if points.shape[1] else None
        tokens, _ = self.sam.prompt_encoder(points=asked, boxes=boxes, masks=None)
        return tokens

    def decode(self, features: Tensor, tokens: Tensor) -> Answer:
        """Run the mask decoder; gradients flow.

        The stock decoder takes one picture at a time; this one takes each prompt with its own picture.

        Args:
            features: Shape (P, C, h, w), or (1, C, h, w) where all prompts ask about one picture; from ``encode``.
            tokens: Shape (P, T, C), from ``encode_prompts``.

        Returns:
            Three masks a prompt.
        """
        decoder, prompts = self.sam.mask_decoder, self.sam.prompt_encoder
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

    @torch.no_grad()
    def embed(self, picture: Picture) -> SceneEmbedding:
        """Run the image encoder once for a picture.

        Args:
            picture: Shape (H, W, 3), uint8, RGB, upright.

        Returns:
            What ``answer`` and ``upscale`` need of it.
        """
        resized = self.resize(picture)
        pixels = torch.from_numpy(resized).permute(2, 0, 1)[None].to(self.device)
        height, width = picture.shape[:2]
        return SceneEmbedding(self.encode(pixels), (height, width), (resized.shape[0], resized.shape[1]))

    @torch.no_grad()
    def answer(self, embedding: SceneEmbedding, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Answer prompts about one picture.

        Args:
            embedding: From ``embed``.
            prompts: P prompts in pixels of the upright picture.

        Returns:
            Low-resolution mask logits (P, 3, h, w) and estimated IoUs (P, 3), both float32.
        """
        (height, width), (new_height, new_width) = embedding.original_size, embedding.input_size
        scale = np.array([new_width / width, new_height / height])
        points = torch.from_numpy(prompts.points * scale).to(self.device)
        labels = torch.from_numpy(prompts.labels).to(self.device)
        boxes = None
        if prompts.boxes is not None:
            boxes = torch.from_numpy(prompts.boxes * np.tile(scale, 2)).to(self.device)
        return self.decode(embedding.features, self.encode_prompts(points, labels, boxes))

    @torch.no_grad()
    def upscale(self, logits: Tensor, embedding: SceneEmbedding) -> Tensor:
        """Bring low-resolution logits to the upright picture's size.

        Args:
            logits: Shape (P, h, w), float32.
            embedding: Of the picture that was asked about.

        Returns:
            Shape (P, H, W), float32.
        """
        height, width = embedding.input_size
        square = interpolate(logits[:, None], (self.image_size, self.image_size), mode="bilinear")
        whole = interpolate(square[..., :height, :width], embedding.original_size, mode="bilinear")
        return whole[:, 0]
