"""Regions from a class-agnostic box detector: FCOS over the pyramid of a pretrained backbone.

The detector is learnt from boxes of the user's own series. Its boxes prompt any promptable model, or are regions
themselves (``BoxModel``).
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, box_iou
from typing_extensions import override

from naruto_vision.errors import FormatError, InputError
from naruto_vision.io.bundles import INFO, bundle_path, load_bundle, load_strictly, model_fingerprint, save_bundle
from naruto_vision.records import Box, ImageArray
from naruto_vision.segmentation.prompts import box_prompts
from naruto_vision.segmentation.protocol import (
    FullMask,
    MaskPredictions,
    MaskThresholds,
    PromptableModel,
    Prompter,
    Prompts,
    SceneEmbedding,
)

KIND = "detector"
RANDOM = "random"
STRIDES = (8, 16, 32)
SCALES = (0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.4, 1.0)
"""Training draws one of these for each batch; the last is that of inference, as torchvision reads such a list."""
VIEWS = ((1.0, False), (4 / 3, True))
"""Scale and mirroring of the copies of an image that are searched: two agree on faces more often than on noise."""
_SAME = 0.5  # least IoU of boxes of different views that are one object
_WIDEST = 16 / 9  # a longer image is scaled down further, so that panoramas do not take all memory
_TRAINED = ("blocks.4.2.", "blocks.5.", "blocks.6.")  # of the backbone; with more, few images teach it less
_CHANNELS = 96
_LOWEST = 0.05  # scores below are noise, and slow down the suppression of duplicates


class _Pyramid(nn.Module):
    """A backbone's feature maps at three strides, brought to one number of channels."""

    out_channels = _CHANNELS

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.body = timm.create_model(backbone, features_only=True, out_indices=(2, 3, 4))
        self.neck = FeaturePyramidNetwork(self.body.feature_info.channels(), _CHANNELS)

    def forward(self, pixels: Tensor) -> "OrderedDict[str, Tensor]":
        quick = pixels.contiguous(memory_format=torch.channels_last)  # for convolutions of single channels
        maps: OrderedDict[str, Tensor] = self.neck(
            OrderedDict((str(level), one) for level, one in enumerate(self.body(quick)))
        )
        return maps


class BoxDetector(nn.Module):
    """Finds boxes of one kind of object, whatever the training boxes hold (faces, whole figures).

    Args:
        weights: A bundle that ``fit --config regions.yaml`` wrote; None takes the packaged ImageNet backbone under
            untrained heads, for training; ``random`` takes no weights at all.
        image_size: Shorter side in pixels to which images are scaled; a bundle has its own.

    Attributes:
        threshold: Least score of a box, in [0, 1], chosen on validation images.

    Examples:
        >>> import naruto_vision as nv
        >>> detector = nv.BoxDetector("random", image_size=64).eval()
        >>> boxes, scores = detector.detect(np.zeros((48, 64, 3), np.uint8))
        >>> len(boxes) == len(scores)
        True

    Raises:
        MissingPathError: If there is no such bundle.
        FormatError: If the bundle is of another kind or architecture.
        InputError: If ``image_size`` is below 64.
    """

    backbone = "tf_efficientnet_lite0"

    def __init__(self, weights: str | None = None, *, image_size: int = 288) -> None:
        super().__init__()
        self.threshold = 0.3
        folder = None if weights in (None, RANDOM) else bundle_path(weights, KIND)
        state: Mapping[str, Tensor] = {}
        if folder is not None:
            state, info = load_bundle(folder, KIND)
            facts = (info.get("architecture"), info.get("image_size"), info.get("threshold"))
            if facts[0] != self.backbone or not isinstance(facts[1], int) or not isinstance(facts[2], float):
                raise FormatError(folder / INFO, f"a detector over {self.backbone}", repr(facts))
            image_size, self.threshold = facts[1], facts[2]
        if image_size < 64:
            raise InputError(f"detector: expected image_size >= 64, found {image_size}")
        self.image_size = image_size
        self.fcos = FCOS(
            _Pyramid(self.backbone),
            num_classes=1,
            min_size=[round(scale * image_size) for scale in SCALES],
            max_size=round(image_size * max(SCALES) * _WIDEST),
            image_mean=[127 / 255] * 3,  # what the backbone was trained with
            image_std=[128 / 255] * 3,
            anchor_generator=AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES)),
            score_thresh=_LOWEST,
            nms_thresh=0.5,
        )
        if folder is not None:
            load_strictly(self, state, folder, self.backbone)
        elif weights is None:
            from naruto_vision.encoders.backbone import lite0_state

            body = self.fcos.backbone.body
            own = body.state_dict().keys()
            load_strictly(
                body, {name: value for name, value in lite0_state().items() if name in own}, "", self.backbone
            )
        for name, parameter in self.fcos.backbone.body.named_parameters():
            parameter.requires_grad_(name.startswith(_TRAINED) and ".bn" not in name)
        self.to(memory_format=torch.channels_last)

    @override
    def train(self, mode: bool = True) -> "BoxDetector":
        """Set the mode; the backbone's batch norms keep the statistics of the images that it was pretrained on."""
        super().train(mode)
        self.fcos.backbone.body.eval()
        return self

    def losses(self, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compute the parts of the loss: images (3, H, W), float32, in [0, 1]; boxes (N, 4), edges x1 y1 x2 y2."""
        targets = [
            {"boxes": one, "labels": torch.zeros(len(one), dtype=torch.int64, device=one.device)} for one in boxes
        ]
        parts: dict[str, Tensor] = self.fcos(list(images), targets)
        return parts

    @torch.no_grad()
    def detect(self, image: ImageArray, threshold: float | None = None) -> tuple[list[Box], NDArray[np.float32]]:
        """Find the boxes of an image (H, W, 3), uint8, RGB, best first, in inclusive pixels, with their scores (N,).

        The boxes of the image and of a larger, mirrored copy are joined (``fuse_boxes``).
        """
        height, width = image.shape[:2]
        views = [self._view(image, scale, mirrored) for scale, mirrored in VIEWS]
        edges, scores = fuse_boxes(views)
        keep = scores >= (self.threshold if threshold is None else threshold)
        return boxes_from_edges(edges[keep].numpy(), height, width), scores[keep].float().numpy()

    def _view(self, image: ImageArray, scale: float, mirrored: bool) -> tuple[Tensor, Tensor]:
        """Find boxes in a copy of an image: edges (N, 4) in the image's own pixels, and scores (N,), float64."""
        height, width = image.shape[:2]
        side = round(self.image_size * scale)
        factor = min(side / min(height, width), side * _WIDEST / max(height, width))
        size = max(1, round(width * factor)), max(1, round(height * factor))
        # averaged, where torchvision's own resizing would leave out pixels
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        pixels = to_tensor(small[:, ::-1] if mirrored else small).to(next(self.parameters()).device)
        transform = self.fcos.transform
        of_training, transform.min_size = transform.min_size, (min(size),)  # the copy as it is
        try:
            found = self.fcos([pixels])[0]
        finally:
            transform.min_size = of_training
        edges = found["boxes"].cpu().double()
        if mirrored:
            edges = torch.stack([size[0] - edges[:, 2], edges[:, 1], size[0] - edges[:, 0], edges[:, 3]], dim=1)
        grow = torch.tensor([width / size[0], height / size[1]] * 2, dtype=torch.float64)
        return edges * grow, found["scores"].cpu().double()

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with the architecture, the threshold or any weight."""
        return model_fingerprint(self.describe(), self.state_dict())

    def describe(self) -> dict[str, Any]:
        """Return the JSON values that, with the weights, determine the boxes."""
        return {"architecture": self.backbone, "image_size": self.image_size, "threshold": self.threshold}

    def save(self, folder: str | Path, **facts: Any) -> None:
        """Write a bundle, with further JSON values."""
        save_bundle(folder, self.state_dict(), {"kind": KIND, **self.describe(), **facts})


def fuse_boxes(views: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join the boxes that several views of one image have found (weighted boxes fusion, Solovyev et al. 2019).

    The best box takes the best overlapping box of every view; their edges are averaged by score, and the sum of their
    scores is divided by the number of views, so that what one view alone has found counts less.

    A view has edges (N, 4), x1 y1 x2 y2, in the frame of all, and scores (N,); so has the result, by falling score.
    """
    edges, scores = (torch.cat(parts) for parts in zip(*views, strict=True))
    view = torch.cat([torch.full((len(each[1]),), number) for number, each in enumerate(views)])
    order = scores.argsort(descending=True, stable=True)
    edges, scores, view = edges[order], scores[order], view[order]
    free, joined = torch.ones(len(scores), dtype=torch.bool), list[tuple[Tensor, Tensor]]()
    near = (box_iou(edges, edges) >= _SAME).fill_diagonal_(True)  # also of a box without area
    for row in range(len(scores)):
        if not free[row]:
            continue
        same = (near[row] & free).nonzero()[:, 0]
        free[same] = False
        best = torch.stack([same[view[same] == number][0] for number in sorted(set(view[same].tolist()))])
        weight = scores[best]
        joined.append(((edges[best] * weight[:, None]).sum(dim=0) / weight.sum(), weight.sum() / len(views)))
    if not joined:
        return edges, scores
    edges, scores = (torch.stack(parts) for parts in zip(*joined, strict=True))
    order = scores.argsort(descending=True, stable=True)
    return edges[order], scores[order]


def to_tensor(image: ImageArray) -> Tensor:
    """Turn an image (H, W, 3), uint8, into a tensor (3, H, W), float32, in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 255


def boxes_from_edges(edges: NDArray[np.float64], height: int, width: int) -> list[Box]:
    """Round edges (N, 4), x1 y1 x2 y2, to inclusive pixels of an image; a box has at least one pixel."""
    boxes = []
    for x1, y1, x2, y2 in np.rint(edges).astype(int).tolist():
        left, top = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
        boxes.append((left, top, min(max(x2 - 1, left), width - 1), min(max(y2 - 1, top), height - 1)))
    return boxes


class DetectorPrompter(Prompter):
    """Prompts with the boxes of a detector.

    Args:
        weights: The detector's bundle.
        threshold: Least score of a box, in [0, 1]; None takes the one that was chosen on validation images.

    Examples:
        >>> import naruto_vision as nv
        >>> prompter = nv.DetectorPrompter("runs/regions/bundle")  # doctest: +SKIP
        >>> segmenter = nv.Segmenter(prompter, nv.BoxModel())  # doctest: +SKIP

    Raises:
        MissingPathError: If there is no such bundle.
        FormatError: If the bundle is of another kind.
    """

    def __init__(self, weights: str = "runs/regions/bundle", threshold: float | None = None) -> None:
        self.detector = BoxDetector(weights).eval()
        self.threshold = self.detector.threshold if threshold is None else threshold

    @property
    def fingerprint(self) -> str:
        """Digits that change with the weights or the threshold."""
        return f"{self.detector.fingerprint} {self.threshold}"

    def __call__(self, image: ImageArray) -> Prompts:
        """Return one box per object found in an image (H, W, 3), best first, with its score."""
        boxes, scores = self.detector.detect(image, self.threshold)
        return box_prompts(np.asarray(boxes, dtype=np.float32).reshape(-1, 4), scores=scores)


class BoxModel(PromptableModel):
    """Answers a box prompt with the box itself: regions of a prompter's boxes, without a mask model.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> segmenter = nv.Segmenter(nv.DetectorPrompter("runs/regions/bundle"), nv.BoxModel())  # doctest: +SKIP
        >>> [region.box for region in segmenter(np.zeros((40, 60, 3), np.uint8))]  # doctest: +SKIP
        [(2, 3, 29, 30)]
    """

    fingerprint = "boxes"

    def __init__(self) -> None:
        self.thresholds = MaskThresholds(predicted_iou=0.0, stability=0.0)

    @override
    def embed(self, image: ImageArray) -> SceneEmbedding:
        """Return an embedding without features: only the size of an image (H, W, 3)."""
        return SceneEmbedding(None, image.shape[:2], image.shape[:2])

    @override
    def predict_masks(
        self, embedding: SceneEmbedding, prompts: Prompts, above: float, batch: int | None = None
    ) -> Iterator[MaskPredictions]:
        """Yield the boxes whose score is above a threshold, in place of logits (M, 4)."""
        if prompts.boxes is None:
            raise InputError("BoxModel: expected box prompts (DetectorPrompter), found points; use SamModel for these")
        scores = np.ones(len(prompts.boxes), np.float32) if prompts.scores is None else prompts.scores
        kept = torch.from_numpy(np.flatnonzero(scores > above))
        yield MaskPredictions(kept, torch.from_numpy(prompts.boxes)[kept], torch.from_numpy(scores)[kept])

    @override
    def full_masks(
        self, logits: Tensor, embedding: SceneEmbedding, stability: float, offset: float
    ) -> Iterator[FullMask]:
        """Yield a full mask for each box."""
        height, width = embedding.original_size
        for index, (x1, y1, x2, y2) in enumerate(logits.round().int().tolist()):
            box = max(x1, 0), max(y1, 0), min(x2, width - 1), min(y2, height - 1)
            yield FullMask(index, box, np.ones((box[3] - box[1] + 1, box[2] - box[0] + 1), np.bool_), 1.0)
