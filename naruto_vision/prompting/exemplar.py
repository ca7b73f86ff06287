"""Exemplars: images of the object to find, whose patch features find it in other images.

The patches of the exemplars, and those around them, become prototypes. A patch of a scene is similar to a class as far
as its nearest prototype of the class is nearer than its nearest prototype of the background.
"""

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from naruto_vision.encoders.backbone import TimmEncoder
from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.dense import dense_map, mask_coverage, mask_shares
from naruto_vision.errors import BadImageError, InputError
from naruto_vision.gallery.info import entry_image, list_gallery
from naruto_vision.geometry import xyxy_from_mask
from naruto_vision.io.images import ImageSource, read_image
from naruto_vision.io.text import score_text
from naruto_vision.prompting.mode import Segmented, SegmentMode
from naruto_vision.prompting.saliency import (
    PromptType,
    SaliencyPrompter,
    object_prompts,
    salient_objects,
    segment_prompts,
)
from naruto_vision.recognition.merging import MergeConfig, common_pixels, merge_parts
from naruto_vision.records import Box, Identity, ImageArray, Mask, Region
from naruto_vision.segmentation.protocol import PromptableModel, Prompter, Prompts
from naruto_vision.viz.overlay import DrawnRegion, draw_regions, label_colours
from naruto_vision.viz.panels import heat, side_by_side

Fusion: TypeAlias = Literal["multiply", "max", "weighted"]
"""How the similarity and a saliency map become one map."""

_Values: TypeAlias = NDArray[np.float32] | np.float32
_SHARE = 0.6  # of the similarity in "weighted", as in the reference system
_PROTOTYPES, _BACKGROUND = 8, 16  # of a class, of everything around; more did not find more
_PER_CLASS = 10  # images of a gallery's class
_SAME = 0.7  # a mask with this fraction of its pixels in a more similar one is the same object
_WHOLE = 1.0  # scale of images without box and mask, which show the thing alone, as a multiple of the encoder's input
_AROUND = 0.1  # a patch that a mask covers less is background
_AGREES = 0.8  # a mask is kept if its mean similarity is this fraction of the least one, as it has unlike parts too
_ROUNDS = 10  # of k-means
_STEPS = ("compare", "embed", "masks")
_BOX = re.compile(r"\d+(\.\d+)?(,\d+(\.\d+)?){3}")


@dataclass(frozen=True)
class Exemplar:
    """An image of an object to find.

    Args:
        image: An image file, a Pillow image, or an array of shape (H, W, 3), uint8, RGB, upright.
        label: Name of its class; exemplars of one class are used together.
        box: Where the object is, inclusive pixels; None takes the mask, or what differs from the image's border.
        mask: Shape (H, W), bool: its pixels.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> nv.Exemplar(np.zeros((40, 40, 3), np.uint8), "ball", box=(8, 8, 31, 31)).label
        'ball'
    """

    image: ImageSource
    label: str = "exemplar"
    box: Box | None = None
    mask: Mask | None = None


def parse_exemplar(text: str) -> Exemplar:
    """Read ``[NAME=]IMAGE[:x1,y1,x2,y2]`` or ``[NAME=]IMAGE:MASK``; the name of the file is the default label."""
    label, _, path = text.rpartition("=") if not Path(text).is_file() else ("", "", text)
    file, _, where = path.rpartition(":")
    if not file or Path(path).is_file():
        file, where = path, ""
    image = read_image(file)
    label = label or Path(file).stem
    if not where:
        return Exemplar(image, label)
    if _BOX.fullmatch(where):
        x1, y1, x2, y2 = (round(float(number)) for number in where.split(","))
        return Exemplar(image, label, box=(x1, y1, x2, y2))
    return Exemplar(image, label, mask=read_image(where).max(axis=2) > 127)


@dataclass(frozen=True)
class SimilarityMaps:
    """How similar the parts of an image are to each class.

    The sum of ``similarity`` over the classes is above 0.5 where one is nearer than the background; the classes share
    it as far as they are near. ``fused`` is that sum, fused with the saliency.
    """

    similarity: NDArray[np.float32]  # (C, h, w)
    fused: NDArray[np.float32]  # (H, W), in [0, 1], at the size of the image


class PrototypePrompter(Prompter):
    """Prompts where the patches of an image are nearer to the prototypes of a class than to those of the background.

    ``prototypes`` are the unit vectors (K, D) of each class, ``background`` those (N, D) of everything else;
    ``temperature`` is the difference of cosines that counts as e to 1. The other options are those of
    ``ExemplarPrompter``.
    """

    def __init__(
        self,
        encoder: Encoder,
        prototypes: Mapping[str, Tensor],
        background: Tensor,
        *,
        temperature: float,
        similarity: float,
        min_area: int,
        num_objects: int,
        prompt_type: PromptType,
        saliency: SaliencyPrompter | None = None,
        fusion: Fusion = "weighted",
        detection: float = 0.3,
    ) -> None:
        if not (0 <= similarity <= 1 and 0 <= detection <= 1 and min_area >= 0 and num_objects >= 1):
            found = f"similarity {similarity}, detection {detection}, min_area {min_area}, num_objects {num_objects}"
            raise InputError(
                f"prompter: expected similarity and detection in [0, 1], min_area >= 0, num_objects >= 1; found {found}"
            )
        self.encoder = encoder.eval()
        self.labels = tuple(prototypes)
        self.prototypes, self.background = dict(prototypes), background
        self.temperature, self.similarity = temperature, similarity
        self.min_area, self.num_objects = min_area, num_objects
        self.prompt_type: PromptType = prompt_type
        self.saliency, self.detection = saliency, detection
        self.fusion: Fusion = fusion

    @property
    def fingerprint(self) -> str:
        """Text that changes with the encoder, any prototype or any setting."""
        digest = hashlib.sha256()
        for vectors in (*self.prototypes.values(), self.background):
            digest.update(vectors.cpu().numpy().tobytes())
        salient = [] if self.saliency is None else [self.fusion, self.detection, self.saliency.fingerprint]
        facts = (self.labels, self.temperature, self.similarity, self.min_area, self.num_objects, self.prompt_type)
        return f"{self.encoder.fingerprint} {digest.hexdigest()} {facts} {salient}"

    def __call__(self, image: ImageArray) -> Prompts:
        """Return one prompt per object of an image (H, W, 3), best first, with its class and confidence."""
        return self.prompts(self.compare(image))

    @torch.no_grad()
    def compare(self, image: ImageArray) -> SimilarityMaps:
        """Compare the patches of an image (H, W, 3), uint8, RGB, with all classes."""
        features = self.features(image)
        near = torch.stack([(features @ each.to(features).T).amax(dim=-1) for each in self.prototypes.values()])
        around = (features @ self.background.to(features).T).amax(dim=-1)
        anything = torch.sigmoid((near.amax(dim=0) - around) / self.temperature)
        maps = (torch.softmax(near / self.temperature, dim=0) * anything).cpu().numpy()  # (C, h, w)
        whole = cv2.resize(anything.cpu().numpy(), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        fused = whole if self.saliency is None else fuse(whole, self.saliency.saliency(image), self.fusion)
        return SimilarityMaps(maps, fused)

    def features(self, image: ImageArray) -> Tensor:
        """Embed the patches of an image (H, W, 3): (h, w, D), float32, unit vectors."""
        return dense_map(self.encoder, image)

    def prompts(self, maps: SimilarityMaps) -> Prompts:
        """Return a prompt for each object of compared maps: for whole components first, then for their parts."""
        least = self.similarity
        if self.saliency is not None:
            least = float(fuse(np.float32(self.similarity), np.float32(self.detection), self.fusion))
        whole = salient_objects(maps.fused, least, self.min_area, split=False)
        parts = salient_objects(maps.fused, least, self.min_area)
        objects = sorted({each.box: each for each in (*parts, *whole)}.values(), key=lambda each: -each.area)
        objects = objects[: self.num_objects]
        found = object_prompts(objects, self.prompt_type)
        names = tuple(each.label for each in self.name(maps, objects))
        return replace(found, names=names)

    def name(self, maps: SimilarityMaps, regions: Sequence[Region]) -> tuple[Identity, ...]:
        """Name regions by the class with the highest mean similarity over the mask; the score is that of any class."""
        if not regions:
            return ()
        shares = mask_shares(regions, maps.fused.shape, maps.similarity.shape[1:]).numpy()
        means = np.einsum("rhw,chw->rc", shares, maps.similarity)
        pairs = zip(means.argmax(axis=1).tolist(), means.sum(axis=1).tolist(), strict=True)
        return tuple(Identity(self.labels[label], score, score >= _AGREES * self.similarity) for label, score in pairs)


def fuse(similarity: _Values, detection: _Values, fusion: Fusion) -> NDArray[np.float32]:
    """Fuse two maps (H, W), or values, in [0, 1]: (H, W), float32, in [0, 1].

    Examples:
        >>> [round(float(fuse(np.float32(0.5), np.float32(0.3), how)), 2) for how in ("multiply", "max", "weighted")]
        [0.15, 0.5, 0.42]
    """
    match fusion:
        case "multiply":
            fused = similarity * detection
        case "max":
            fused = np.maximum(similarity, detection)
        case "weighted":
            fused = _SHARE * similarity + (1 - _SHARE) * detection
    return np.asarray(fused, dtype=np.float32)


class ExemplarPrompter(PrototypePrompter):
    """Prompts for what looks like the exemplars: images of one or several classes, or the classes of a gallery.

    Args:
        exemplars: Each an ``Exemplar``, or text as in ``name=image.jpg:x1,y1,x2,y2`` (with the box of the thing) or
            ``image.jpg:mask.png`` (white on the thing); name, box and mask may be left out.
        gallery: A gallery folder, whose images are exemplars of their labels.
        labels: Labels of the gallery to use; none takes all.
        encoder: Embeds the patches; None takes the packaged EfficientNet-Lite0.
        similarity: Least similarity, in [0, 1]; at 0.5 the exemplars are as near as what is around them.
        min_area: Least size of an object in pixels of the image.
        num_objects: Most objects of an image.
        prompt_type: Whether the box or the centre of each object is the prompt.
        saliency: Finds what is salient, to fuse its map with the similarity; None takes the similarity alone.
        fusion: ``multiply`` takes the product of the two maps, ``max`` the larger, ``weighted`` 0.6 and 0.4 of them.
        detection: Least saliency, in [0, 1]. A pixel is kept if its fused value reaches that of the two least values.

    Raises:
        InputError: If there is no exemplar, or a number is out of its range.
        MissingPathError: If there is no such file or gallery.
        BadImageError: If an image cannot be read, or its box or mask does not fit it.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> image = np.full((96, 96, 3), 200, np.uint8)
        >>> image[30:70, 30:70] = (180, 30, 40)
        >>> prompter = nv.ExemplarPrompter([nv.Exemplar(image, "square", box=(30, 30, 69, 69))])
        >>> prompter(np.roll(image, 20, axis=1)).names
        ('square',)
    """

    def __init__(
        self,
        exemplars: Sequence[Exemplar | str] = (),
        gallery: str | None = None,
        labels: Sequence[str] = (),
        encoder: Encoder | None = None,
        *,
        similarity: float = 0.5,
        min_area: int = 100,
        num_objects: int = 12,
        prompt_type: PromptType = "box",
        saliency: SaliencyPrompter | None = None,
        fusion: Fusion = "weighted",
        detection: float = 0.3,
    ) -> None:
        encoder = (encoder or TimmEncoder()).eval()
        given = [parse_exemplar(each) if isinstance(each, str) else each for each in exemplars]
        given += [] if gallery is None else gallery_exemplars(gallery, labels)
        if not given:
            msg = "exemplars: expected images or a gallery, found none; give --exemplar IMAGE or --gallery DIR"
            raise InputError(msg)
        own, around = dict[str, list[Tensor]](), list[Tensor]()
        for each in given:
            inside, outside = _patches(encoder, each)
            own.setdefault(each.label, []).append(inside)
            around.append(outside)
        super().__init__(
            encoder,
            {label: centres(torch.cat(parts), _PROTOTYPES) for label, parts in own.items()},
            centres(torch.cat(around), _BACKGROUND),
            temperature=0.05,
            similarity=similarity,
            min_area=min_area,
            num_objects=num_objects,
            prompt_type=prompt_type,
            saliency=saliency,
            fusion=fusion,
            detection=detection,
        )


def gallery_exemplars(gallery: str | Path, labels: Sequence[str] = ()) -> list[Exemplar]:
    """Read images of a gallery's labels, at most ten each, at even steps of its rows.

    They are searched as the gallery commands do: below the folder that the gallery records, in the gallery, and here.
    InputError if the gallery does not have a label, or no image of one can be read.
    """
    listing = list_gallery(gallery, rows=True)
    if absent := sorted(set(labels) - listing.labels.keys()):
        raise InputError(f"{gallery}: has no label {absent[0]!r}; it has {', '.join(listing.labels)}")
    roots = [Path(root) for root in (listing.note.get("root"), gallery, ".") if root]
    found: list[Exemplar] = []
    for label in labels or listing.labels:
        paths = list(dict.fromkeys(str(row["path"]) for row in listing.entries if row["label"] == label))
        count = min(len(paths), _PER_CLASS)
        chosen = [paths[index * len(paths) // count] for index in range(count)]
        images = [image for path in chosen if (image := entry_image(roots, path)) is not None]
        if not images:
            where = f"first {chosen[0]}; run the command in the folder where the gallery was built"
            raise InputError(f"{gallery}: none of the {len(chosen)} images of {label!r} can be read ({where})")
        found += [Exemplar(image, label) for image in images]
    return found


def _patches(encoder: Encoder, exemplar: Exemplar) -> tuple[Tensor, Tensor]:
    """Return the unit vectors (N, D) of the patches of an exemplar, and of those around it."""
    image = read_image(exemplar.image)
    region = _region(exemplar, image)
    if region is None:
        features = dense_map(encoder, image, _WHOLE)
        inside, outside = _unlike_border(features)
    else:
        features = dense_map(encoder, image)
        covered = mask_coverage(region, image.shape[:2], features.shape[:2]).to(features.device)
        inside, outside = covered >= min(0.5, float(covered.max())), covered < _AROUND
    return features[inside], features[outside]


def _region(exemplar: Exemplar, image: ImageArray) -> Region | None:
    """Return the pixels of an exemplar; None if neither a mask nor a box is given."""
    (height, width), name = image.shape[:2], f"exemplar {exemplar.label!r}"
    if exemplar.mask is not None:
        box = xyxy_from_mask(exemplar.mask)
        if exemplar.mask.shape != (height, width) or box is None:
            found = "an empty one" if box is None else "{1}x{0}".format(*exemplar.mask.shape)
            raise BadImageError(name, f"expected a mask of {width}x{height} pixels, as the image has, found {found}")
        x1, y1, x2, y2 = box
        return Region(box, np.ascontiguousarray(exemplar.mask[y1 : y2 + 1, x1 : x2 + 1]))
    if exemplar.box is None:
        return None
    x1, y1, x2, y2 = exemplar.box
    if not (0 <= x1 <= x2 < width and 0 <= y1 <= y2 < height):
        raise BadImageError(name, f"expected a box x1,y1,x2,y2 inside {width}x{height} pixels, found {exemplar.box}")
    return Region(exemplar.box, np.ones((y2 - y1 + 1, x2 - x1 + 1), np.bool_))


def _unlike_border(features: Tensor) -> tuple[Tensor, Tensor]:
    """Divide the patches (h, w, D) of a whole image: the half of the inner ones least like the border, the border."""
    height, width = features.shape[:2]
    ring = torch.ones(height, width, dtype=torch.bool, device=features.device)
    ring[1:-1, 1:-1] = False
    if bool(ring.all()):
        return ring, ring
    like = (features @ features[ring].T).topk(3, dim=-1).values.mean(dim=-1)
    return ~ring & (like <= like[~ring].median()), ring


def centres(vectors: Tensor, count: int) -> Tensor:
    """Cluster N unit vectors (N, D) by k-means, begun at the farthest points: at most ``count`` unit vectors (K, D)."""
    if len(vectors) <= count:
        return vectors
    found = normalize(vectors.mean(dim=0, keepdim=True), dim=-1)
    for _ in range(count - 1):
        found = torch.cat([found, vectors[(vectors @ found.T).amax(dim=-1).argmin()][None]])
    for _ in range(_ROUNDS):
        nearest = (vectors @ found.T).argmax(dim=-1)
        sums = torch.zeros_like(found).index_add_(0, nearest, vectors)
        found = torch.where(sums.norm(dim=-1, keepdim=True) > 0, normalize(sums, dim=-1), found)
    return found


class ExemplarMode(SegmentMode):
    """Segments what looks like the exemplars, or fits the texts of a ``TextPrompter``, one mask for each object.

    Masks that are not similar to any class are left out. A mask that holds others replaces them if it explains at
    least as much of the similarity as they do together, counted by its estimated IoU, and otherwise is left out.

    Args:
        prompter: Finds the objects.
        model: Segments them.
        merge: When touching masks of one class are merged; None never merges, as for a model that finds whole objects.
        visualize: Also make the image of three panels, which ``segment exemplar`` writes.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> image = np.full((96, 96, 3), 200, np.uint8)
        >>> image[30:70, 30:70] = (180, 30, 40)
        >>> prompter = nv.ExemplarPrompter([nv.Exemplar(image, "square", box=(30, 30, 69, 69))])
        >>> mode = nv.ExemplarMode(prompter, nv.SamModel(weights="tiny-sam"))
        >>> mode(np.roll(image, 20, axis=1)).region_facts[0]["label"]
        'square'
    """

    def __init__(
        self,
        prompter: PrototypePrompter,
        model: PromptableModel,
        *,
        merge: MergeConfig | None = None,
        visualize: bool = True,
    ) -> None:
        self.prompter, self.model, self.merge, self.visualize = prompter, model, merge, visualize

    @property
    def identity(self) -> Mapping[str, Any]:
        """The JSON values that determine the result."""
        return {
            "prompter": self.prompter.fingerprint,
            "model": self.model.fingerprint,
            **({"merge": repr(self.merge)} if self.merge else {}),
        }

    def __call__(self, image: ImageArray, name: str = "") -> Segmented:  # noqa: ARG002 - the protocol's
        """Segment an image (H, W, 3), uint8, RGB, upright; its regions are the most similar ones first."""
        begun = [time.perf_counter()]
        maps = self.prompter.compare(image)
        prompts = self.prompter.prompts(maps)
        begun.append(time.perf_counter())
        embedding = self.model.embed(image)
        begun.append(time.perf_counter())
        regions = segment_prompts(self.model, embedding, prompts)
        named = self._agreed(maps, regions)
        begun.append(time.perf_counter())
        times = {step: (end - start) * 1e3 for step, start, end in zip(_STEPS, begun, begun[1:], strict=False)}
        facts = tuple({"label": one.label, "similarity": round(one.score, 6)} for _, one in named)
        images = {"_similarity.jpg": self._panels(image, maps, named)} if self.visualize else {}
        note = (
            ""
            if named
            else "nothing is similar enough: lower --similarity or --min-area, or give other exemplars or texts"
        )
        return Segmented(
            tuple(region for region, _ in named),
            images,
            facts={"prompts": len(prompts.points)},
            region_facts=facts,
            note=note,
            milliseconds=times,
        )

    def _agreed(self, maps: SimilarityMaps, regions: Sequence[Region]) -> list[tuple[Region, Identity]]:
        """Merge and name the regions of compared maps, and leave out those that are none or the same again."""
        named = [pair for pair in zip(regions, self.prompter.name(maps, regions), strict=True) if pair[1].known]
        if self.merge is not None:
            parts = [region for region, _ in named], [identity for _, identity in named]
            merged = merge_parts(*parts, partial(self.prompter.name, maps), self.merge)
            named = list(zip(*merged, strict=True))
        kept: list[tuple[Region, Identity]] = []
        for one in sorted(named, key=lambda pair: pair[0].area):
            inside = [other for other in kept if _same(one[0], other[0])]
            if self._worth(one) >= sum(map(self._worth, inside)):
                kept = [*(other for other in kept if other not in inside), one]
        return sorted(kept, key=lambda pair: -pair[1].score)

    def _worth(self, one: tuple[Region, Identity]) -> float:
        """Return how much a mask explains: its similarity above the least one, summed, times its estimated IoU."""
        region, identity = one
        return region.area * (identity.score - _AGREES * self.prompter.similarity) * max(region.predicted_iou, 0.0)

    def _panels(self, image: ImageArray, maps: SimilarityMaps, named: Sequence[tuple[Region, Identity]]) -> ImageArray:
        colours = label_colours(self.prompter.labels)
        drawn = [
            DrawnRegion(region, colours[one.label], f"{one.label} {score_text(one.score)}") for region, one in named
        ]
        panels = {"original": image, "similarity": heat(image, maps.fused), "segments": draw_regions(image, drawn)}
        return side_by_side(panels)


def _same(first: Region, second: Region) -> bool:
    """Return whether two masks are of the same object: most of the smaller one is in the other."""
    return common_pixels(first, second) >= _SAME * min(first.area, second.area)
