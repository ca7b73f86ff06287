"""Saliency: what a pretrained network reacts to in an image, as boxes or points for a promptable model."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from naruto_vision.encoders.backbone import LITE0, TimmEncoder
from naruto_vision.encoders.dense import whole_patches
from naruto_vision.encoders.dino import HUB_NAMES, local_dino
from naruto_vision.errors import InputError
from naruto_vision.prompting.mode import Segmented, SegmentMode
from naruto_vision.records import Box, ImageArray, Mask, Prompt, Region
from naruto_vision.segmentation.postprocess import nms_xyxy
from naruto_vision.segmentation.prompts import box_prompts, point_prompts
from naruto_vision.segmentation.protocol import PromptableModel, Prompter, Prompts, SceneEmbedding
from naruto_vision.viz.overlay import DrawnRegion, draw_regions, label_colours
from naruto_vision.viz.panels import heat, side_by_side

SaliencyMap: TypeAlias = Literal["auto", "attention", "norm"]
PromptType: TypeAlias = Literal["box", "point"]

_STEP = 0.05  # between the levels at which objects are looked for inside objects
_STRIDE = 32  # of the last feature map of convolutional backbones

_ATTENTION: ContextVar[list[Tensor]] = ContextVar("attention")
"""Collects the attention of the class token during a forward pass; a thread has its own."""


@dataclass(frozen=True)
class Saliency:
    """The salient objects of an image.

    The ``prompt`` of an object has the centre as its point, the box, and the confidence: the mean of the map inside the
    mask.
    """

    map: NDArray[np.float32]  # (H, W), in [0, 1], at the size of the image
    objects: tuple[Region, ...]  # best first
    more: int = 0  # further objects, left out because of ``num_objects``


class SaliencyPrompter(Prompter):
    """Prompts for the salient objects of an image, without a grid: a few prompts instead of hundreds.

    The map is scaled to [0, 1] and cut at a threshold. Each connected component is an object; one with several peaks is
    an object for each. With a vision transformer the map is the attention of the class token in the last block,
    averaged over the heads (DINO, https://arxiv.org/abs/2104.14294), else the norm of the feature map.

    Args:
        model: ``efficientnet-lite0`` (packaged, no download), an official name such as ``dinov2_vits14``, or a name of
            timm such as ``vit_small_patch16_dinov3``.
        weights: A local file of timm's or the official one; None takes the packaged weights, the file of an official
            name that ``weights download`` saved, or lets timm download that of its own name; ``random`` takes
            untrained ones.
        map: ``attention`` needs a class token; ``norm`` is the norm of each patch's features, as in the reference
            system; ``auto`` takes the attention where there is a class token.
        image_size: The image is scaled to as many pixels as a square of this side has, and keeps its proportions.
        num_objects: Most objects of an image.
        prompt_type: Whether the box or the centre of each object is the prompt.
        threshold: Least value of the map, in [0, 1].
        min_area: Least size of an object in pixels of the image.
        split: Divide a component with several peaks; without, touching objects are one.

    Raises:
        InputError: If timm has no such model, its weights are missing (``MissingPathError``), the map does not exist
            for it, or a number is out of its range.
        StateDictError: If the file does not fit the model.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> image = np.full((96, 160, 3), 200, np.uint8)
        >>> image[20:80, 100:140] = (180, 30, 40)
        >>> found = nv.SaliencyPrompter(num_objects=1).find(image)
        >>> found.map.shape, len(found.objects)
        ((96, 160), 1)
        >>> segmenter = nv.Segmenter(nv.SaliencyPrompter(), nv.SamModel(weights="tiny-sam"))
    """

    def __init__(
        self,
        model: str = LITE0,
        weights: str | None = None,
        *,
        map: SaliencyMap = "auto",
        image_size: int = 448,
        num_objects: int = 5,
        prompt_type: PromptType = "box",
        threshold: float = 0.6,
        min_area: int = 100,
        split: bool = True,
    ) -> None:
        if num_objects < 1 or not 0 <= threshold <= 1 or min_area < 0 or not _STRIDE <= image_size <= 2048:
            found = f"num_objects {num_objects}, threshold {threshold}, min_area {min_area}, image_size {image_size}"
            expected = f"num_objects >= 1, threshold in [0, 1], min_area >= 0, image_size from {_STRIDE} to 2048"
            raise InputError(f"saliency: expected {expected}; found {found}")
        official = model if model in HUB_NAMES else None  # its file must be here: nothing is downloaded by the way
        self.encoder = TimmEncoder(*local_dino(model, weights or official)).eval()
        tower: Any = self.encoder.tower
        transformer = isinstance(tower, VisionTransformer | Eva)
        attends = transformer and tower.cls_token is not None
        if map == "attention" and not attends:
            raise InputError(
                f"{model}: map 'attention' expected a model with a class token such as dinov2_vits14; choose map 'norm'"
            )
        self.model, self.image_size = model, image_size
        self.map: SaliencyMap = ("attention" if attends else "norm") if map == "auto" else map
        self.num_objects, self.threshold, self.min_area, self.split = num_objects, threshold, min_area, split
        self.prompt_type: PromptType = prompt_type
        if self.map == "attention":
            last = tower.blocks[-1].attn
            last.fused_attn = False  # the fused kernel does not return the weights
            last.attn_drop.register_forward_hook(_collect)

    @property
    def facts(self) -> dict[str, Any]:
        """JSON values of the settings."""
        names = ("model", "map", "image_size", "num_objects", "prompt_type", "threshold", "min_area", "split")
        return {name: getattr(self, name) for name in names}

    @property
    def fingerprint(self) -> str:
        """Text that changes with the weights or any setting."""
        return f"{self.encoder.fingerprint} {self.facts}"

    def __call__(self, image: ImageArray) -> Prompts:
        """Return one prompt per salient object of an image (H, W, 3), best first, with its confidence."""
        return object_prompts(self.find(image).objects, self.prompt_type)

    def find(self, image: ImageArray) -> Saliency:
        """Find the salient objects of an image (H, W, 3), uint8, RGB, upright."""
        whole = self.saliency(image)
        objects = salient_objects(whole, self.threshold, self.min_area, split=self.split)
        return Saliency(whole, tuple(objects[: self.num_objects]), max(0, len(objects) - self.num_objects))

    @torch.no_grad()
    def saliency(self, image: ImageArray) -> NDArray[np.float32]:
        """Compute the map of an image (H, W, 3), uint8, RGB: (H, W), float32, in [0, 1]; zeros if it is constant.

        Raises:
            InputError: If the device's memory is not enough.
        """
        height, width = image.shape[:2]
        try:
            grid = self._grid(whole_patches(self.encoder, image, self.image_size))
        except torch.OutOfMemoryError:
            msg = f"{self.model}: out of memory; choose a smaller model (dinov2_vits14) or a smaller image_size"
            raise InputError(msg) from None
        whole = cv2.resize(grid.float().cpu().numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
        return unit_range(whole)

    def _grid(self, pixels: Tensor) -> Tensor:
        """Compute the map of pixels (1, 3, H, W), one value per patch: (h, w)."""
        if self.map == "norm":
            norms: Tensor = self.encoder.dense(pixels)[0].norm(dim=0)
            return norms
        tower, kept = self.encoder.tower, list[Tensor]()
        token = _ATTENTION.set(kept)
        try:
            tower.forward_features(pixels)
        finally:
            _ATTENTION.reset(token)
        rows = kept[0][0, :, tower.num_prefix_tokens :].mean(dim=0)  # (heads, patches) to (patches,)
        return rows.reshape(pixels.shape[2] // self.encoder.stride, -1)


def _collect(_module: nn.Module, _inputs: object, weights: Tensor) -> None:
    """Keep the attention of the class token, of weights (B, heads, N, N): (B, heads, N)."""
    kept = _ATTENTION.get(None)
    if kept is not None:
        kept.append(weights[:, :, 0])


def unit_range(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a map (H, W) linearly to [0, 1], float32; zeros if it is constant."""
    low, high = float(values.min()), float(values.max())
    spread = high - low
    return ((values - low) / spread).astype(np.float32) if spread > 0 else np.zeros(values.shape, np.float32)


def salient_objects(
    values: NDArray[np.float32], threshold: float, min_area: int, *, split: bool = True
) -> list[Region]:
    """Find the objects of a map (H, W), float32, in [0, 1]: connected components of at least ``min_area`` pixels.

    Best first. With ``split`` a component that falls apart at a higher threshold is replaced by its parts.
    """
    find = _peaks if split else _components
    found = [_object(values, box, mask) for box, mask in find(values, threshold, max(1, min_area))]
    return sorted(found, key=lambda each: -(each.prompt.confidence or 0.0))


def _components(values: NDArray[np.float32], threshold: float, min_area: int) -> Iterator[tuple[Box, Mask]]:
    """Yield box and mask, cut to the box, of each component that reaches a threshold."""
    over = (values >= threshold).astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(over, connectivity=8)
    for index in range(1, count):
        x, y, wide, high, area = stats[index].tolist()
        if area >= min_area:
            yield (x, y, x + wide - 1, y + high - 1), parts[y : y + high, x : x + wide] == index


def _peaks(values: NDArray[np.float32], threshold: float, min_area: int) -> Iterator[tuple[Box, Mask]]:
    """Yield the same, each component as its parts at the first higher threshold where it has several."""
    for box, mask in _components(values, threshold, min_area):
        x1, y1, x2, y2 = box
        inside = np.where(mask, values[y1 : y2 + 1, x1 : x2 + 1], np.float32(-1))
        levels = np.arange(threshold + _STEP, 1.0, _STEP).tolist()
        several = (level for level in levels if len(list(_components(inside, level, min_area))) > 1)
        if (level := next(several, None)) is None:
            yield box, mask
            continue
        for part, cut in _peaks(inside, level, min_area):
            yield (part[0] + x1, part[1] + y1, part[2] + x1, part[3] + y1), cut


def _object(values: NDArray[np.float32], box: Box, mask: Mask) -> Region:
    """Return a component as a region; its centre is the pixel of the mask nearest to the centroid."""
    x1, y1, x2, y2 = box
    rows, columns = np.nonzero(mask)
    nearest = int(((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2).argmin())
    centre = (float(columns[nearest] + x1), float(rows[nearest] + y1), True)
    confidence = float(values[y1 : y2 + 1, x1 : x2 + 1][mask].mean())
    return Region(box, mask, prompt=Prompt("salient object", (centre,), box, confidence))


def object_prompts(objects: Sequence[Region], prompt_type: PromptType) -> Prompts:
    """Return a prompt for each salient object, its box or its centre, with its confidence."""
    scores = np.array([each.prompt.confidence for each in objects], np.float32)
    if prompt_type == "box":
        boxes = np.array([each.prompt.box for each in objects], np.float32).reshape(-1, 4)
        return box_prompts(boxes, scores=scores)
    points = np.array([each.prompt.points[0][:2] for each in objects], np.float32).reshape(-1, 2)
    return point_prompts(points, scores=scores)


@torch.no_grad()
def segment_prompts(model: PromptableModel, embedding: SceneEmbedding, prompts: Prompts) -> list[Region]:
    """Segment one object per prompt: the mask with the highest estimated IoU, whatever it is; best prompts first.

    The less confident of two prompts with nearly the same mask is left out, and so is one without a mask.
    """
    found: list[Region] = []
    for some in model.predict_masks(embedding, prompts, float("-inf")):
        best: dict[int, int] = {}
        for row in some.ious.argsort().tolist():
            best[int(some.prompt[row])] = row  # the last one is the highest
        rows = torch.tensor(sorted(best.values()), device=some.logits.device)
        for full in model.full_masks(some.logits[rows], embedding, 0.0, model.thresholds.stability_offset):
            origin = prompts.origin(int(some.prompt[rows[full.index]]))
            found.append(Region(full.box, full.mask, float(some.ious[rows[full.index]]), full.stability, origin))
    sure = torch.tensor([1.0 if each.prompt.confidence is None else each.prompt.confidence for each in found])
    boxes = torch.tensor([each.box for each in found]).view(-1, 4)
    return [found[index] for index in nms_xyxy(boxes, sure, model.thresholds.box_nms).tolist()]


class SaliencyMode(SegmentMode):
    """Segments the salient objects of an image, one mask each.

    Args:
        prompter: Finds the objects.
        model: Segments them.
        visualize: Also make the image of three panels, the summary and the masks, which ``segment saliency`` writes.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> image = np.full((96, 160, 3), 200, np.uint8)
        >>> image[20:80, 100:140] = (180, 30, 40)
        >>> mode = nv.SaliencyMode(nv.SaliencyPrompter(), nv.SamModel(weights="tiny-sam"), visualize=False)
        >>> region = mode(image).regions[0]
        >>> pixels = image[region.full_mask(96, 160)]
        >>> pixels.shape == (region.area, 3)
        True
    """

    def __init__(self, prompter: SaliencyPrompter, model: PromptableModel, *, visualize: bool = True) -> None:
        self.prompter, self.model, self.visualize = prompter, model, visualize

    @property
    def identity(self) -> Mapping[str, Any]:
        """The JSON values that determine the result."""
        return {"saliency": self.prompter.fingerprint, "model": self.model.fingerprint}

    def __call__(self, image: ImageArray, name: str = "") -> Segmented:
        """Segment an image (H, W, 3), uint8, RGB, upright; its regions are the most confident ones first."""
        start = time.perf_counter()
        found = self.prompter.find(image)
        middle = time.perf_counter()
        embedding = self.model.embed(image)
        embedded = time.perf_counter()
        regions = segment_prompts(self.model, embedding, object_prompts(found.objects, self.prompter.prompt_type))
        steps = (middle - start, embedded - middle, time.perf_counter() - embedded)
        times = {step: took * 1e3 for step, took in zip(("saliency", "embed", "masks"), steps, strict=True)}
        facts = {"salient": [_facts(each) for each in found.objects], "salient_more": found.more}
        images, texts = self._files(image, name, found, regions) if self.visualize else ({}, {})
        return Segmented(tuple(regions), images, texts, facts, note=_note(found), milliseconds=times)

    def _files(
        self, image: ImageArray, name: str, found: Saliency, regions: Sequence[Region]
    ) -> tuple[dict[str, ImageArray], dict[str, str]]:
        panels = {
            "original": image,
            f"detections ({self.prompter.map})": _drawn(
                heat(image, found.map), found.objects, [each.prompt.confidence or 0.0 for each in found.objects]
            ),
            "segments": _drawn(image, regions, [each.predicted_iou for each in regions]),
        }
        images = {"_visualization.jpg": side_by_side(panels)}
        texts = {"_summary.txt": self._summary(image, name, found, regions)}
        for number, region in enumerate(regions):
            white = region.full_mask(*image.shape[:2]).astype(np.uint8) * np.uint8(255)
            images[f"_masks/mask_{number:03d}.png"] = np.repeat(white[..., None], 3, axis=2)
            lines = (f"score: {region.predicted_iou:.4f}", f"bbox: {_comma(region.box)}")
            texts[f"_masks/mask_{number:03d}.txt"] = "\n".join([*lines, f"confidence: {_confidence(region)}", ""])
        return images, texts

    def _summary(self, image: ImageArray, name: str, found: Saliency, regions: Sequence[Region]) -> str:
        own, sure = self.prompter, [each.prompt.confidence or 0.0 for each in found.objects]
        least = f"threshold {own.threshold:g}, min area {own.min_area}, num objects {own.num_objects}"
        spread = f", confidence {min(sure):.3f} to {max(sure):.3f}, mean {np.mean(sure):.3f}" if sure else ""
        lines = [
            f"image: {name} ({image.shape[1]}x{image.shape[0]})",
            f"map: {own.map} of {own.model}",
            f"settings: {least}, prompt type {own.prompt_type}",
            f"salient pixels: {float((found.map >= own.threshold).mean()):.1%}",
            f"objects: {len(found.objects)} (of {len(found.objects) + found.more}){spread}",
        ]
        for number, each in enumerate(found.objects):
            centre = _comma(each.prompt.points[0][:2])
            shape = f"bbox {_comma(each.box)}, centre {centre}, area {each.area}"
            lines.append(f"  object {number}: confidence {_confidence(each)}, {shape}")
        lines.append(f"segments: {len(regions)}")
        for number, each in enumerate(regions):
            shape = f"bbox {_comma(each.box)}, area {each.area}, confidence {_confidence(each)}"
            lines.append(f"  mask {number:03d}: score {each.predicted_iou:.4f}, {shape}")
        return "\n".join([*lines, *filter(None, [_note(found)]), ""])


def _note(found: Saliency) -> str:
    if not found.objects:
        return "nothing salient was found: lower --threshold or --min-area"
    return "more objects than --num-objects: raise --threshold or --min-area, or --num-objects" if found.more else ""


def _facts(each: Region) -> dict[str, Any]:
    x, y, _ = each.prompt.points[0]
    sure = round(each.prompt.confidence or 0.0, 6)
    return {"bbox": list(each.box), "centre": [x, y], "area": each.area, "confidence": sure}


def _comma(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def _confidence(region: Region) -> str:
    return f"{region.prompt.confidence or 0.0:.4f}"


def _drawn(image: ImageArray, regions: Sequence[Region], numbers: Sequence[float]) -> ImageArray:
    colours = list(label_colours([f"{index:03d}" for index in range(len(regions))]).values())
    rows = enumerate(zip(regions, colours, numbers, strict=True))
    return draw_regions(
        image, [DrawnRegion(each, tint, f"{index}: {number:.2f}") for index, (each, tint, number) in rows]
    )
