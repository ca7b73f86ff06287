"""Collect the vectors of one pass over the class data, and make a gallery of them."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import IndexChoice
from naruto_vision.records import ImageArray, Vectors

GAMMA = "gamma"
"""The ``aug`` of a row whose image got another gamma."""

GAMMA_SPREAD = 0.05
GAMMA_RANGE = (0.85, 1.15)
_STREAM = 3  # keeps these numbers apart from those of training and sampling


def draw_gamma(path: str, seed: int) -> float:
    """Draw the exponent of one image: normal around 1 with deviation 0.05, clipped to 0.85 and 1.15.

    Args:
        path: The image's name; with the seed it decides, so neither order nor processes matter.
        seed: Any number from 0.
    """
    name = int.from_bytes(hashlib.sha256(path.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    value = np.random.default_rng([_STREAM, seed, name]).normal(1.0, GAMMA_SPREAD)
    return float(np.clip(value, *GAMMA_RANGE))


def apply_gamma(image: ImageArray, gamma: float) -> ImageArray:
    """Raise every value, as a share of white, to a power.

    Args:
        image: Shape (H, W, 3), uint8, RGB.
        gamma: The exponent; above 1 darkens.

    Returns:
        Shape (H, W, 3), uint8, RGB.

    Example:
        >>> int(apply_gamma(np.full((1, 1, 3), 128, np.uint8), 1.15)[0, 0, 0])
        115
    """
    curve = np.round(255.0 * (np.arange(256) / 255.0) ** gamma).astype(np.uint8)
    changed: ImageArray = cv2.LUT(image, curve)
    return changed


GammaMode: TypeAlias = Literal["none", "add", "replace"]

UNCHANGED = "none"
"""The ``aug`` of a row whose image was embedded as it is."""

_BLOCK = 256  # rows whose cosines with all kept rows are held at once


@dataclass(frozen=True)
class EnrolmentPlan:
    """What is enrolled of the labelled images.

    Args:
        max_per_class: At most so many images of a class; 0 takes all. Their rows with another gamma do not count.
        presample: So many times the cap is drawn of each class and embedded, so that near duplicates can be replaced.
        dedup_threshold: An image is left out when its cosine with an earlier one of its class, by path, that stays
            is at least this much; 0 keeps near duplicates.
        gamma: "add" gives every image a second row with another brightness curve, "replace" has it in the image's
            place, as the reference system does.
        seed: Decides which images of a large class are taken, and the curves.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> EnrolmentPlan(max_per_class=120, dedup_threshold=0.998).candidates
        360
    """

    max_per_class: int = 0
    presample: int = 3
    dedup_threshold: float = 0.0
    gamma: GammaMode = "none"
    seed: int = 42

    def __post_init__(self) -> None:
        if self.presample < 1 or self.max_per_class < 0:
            msg = f"expected max_per_class >= 0 and presample >= 1, found {self.max_per_class} and {self.presample}"
            raise ValueError(msg)
        if not 0.0 <= self.dedup_threshold <= 1.0:
            msg = f"expected a dedup_threshold from 0 to 1, a cosine, found {self.dedup_threshold}"
            raise ValueError(msg)
        if self.seed < 0:
            msg = f"expected a seed of 0 or more, found {self.seed}"
            raise ValueError(msg)

    @property
    def candidates(self) -> int:
        """How many images of a class are embedded at most; 0 for all."""
        return self.max_per_class * self.presample


def _lots(keys: Sequence[tuple[str, str]], count: int, seed: int) -> list[int]:
    """Draw ``count`` of the images (label, path) by the hash of each, so that a new image moves few others."""
    if not 0 < count < len(keys):
        return list(range(len(keys)))
    lots = [
        hashlib.sha256(f"{seed}\n{label}\n{path}".encode("utf-8", "surrogatepass")).digest() for label, path in keys
    ]
    return sorted(sorted(range(len(keys)), key=lambda place: lots[place])[:count])


def sample_candidates(images: Sequence[tuple[str, str]], plan: EnrolmentPlan) -> list[int]:
    """Choose the images that are embedded, class by class.

    Args:
        images: Label and path of each of N images.
        plan: Its cap and presampling decide how many.

    Returns:
        Places in ``images``, rising: a pure function of the names and the seed.
    """
    groups: dict[str, list[int]] = {}
    for place, (label, _) in enumerate(images):
        groups.setdefault(label, []).append(place)
    return sorted(
        group[chosen]
        for group in groups.values()
        for chosen in _lots([images[place] for place in group], plan.candidates, plan.seed)
    )


def keep_first_of_duplicates(vectors: Vectors, threshold: float) -> NDArray[np.bool_]:
    """Walk over rows and drop each that lies too near to one that was kept before.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        threshold: Cosine from which two rows are near duplicates.

    Returns:
        Shape (N,), bool: which rows stay.
    """
    keep = np.zeros(len(vectors), dtype=np.bool_)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        earlier = vectors[:start][keep[:start]]
        free = ~(block @ earlier.T >= threshold).any(axis=1)
        among = block @ block.T >= threshold
        for row in np.flatnonzero(free).tolist():
            keep[start + row] = not among[row, :row][keep[start : start + row]].any()
    return keep


@dataclass(frozen=True)
class Selection:
    """What became of the embedded rows.

    Args:
        kept: Places of the rows that stay, ordered by path, label and whether they are a variant.
        counts: Embedded ``images``, ``near_duplicates`` and ``over_cap`` among them, and those ``kept``.

    Raises:
        ValueError: If the counts do not add up.
    """

    kept: tuple[int, ...]
    counts: dict[str, int]

    def __post_init__(self) -> None:
        left = self.counts["pictures"] - self.counts["near_duplicates"] - self.counts["over_cap"]
        if left != self.counts["kept"]:
            msg = f"selection: {left} images should be left, {self.counts['kept']} are"
            raise ValueError(msg)


def select_rows(vectors: Vectors, rows: Sequence[GalleryRow], plan: EnrolmentPlan) -> Selection:
    """Apply the cap and the duplicate rule; an image's variants stay or go with it.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        rows: Where each vector came from, in any order: the result does not depend on it.
        plan: The rules.

    Returns:
        The rows that stay.
    """
    order = sorted(range(len(rows)), key=lambda i: (rows[i].path, rows[i].label, rows[i].aug != UNCHANGED, rows[i].aug))
    classes: dict[str, dict[str, int]] = {}  # label → path → the first row of the image
    for i in order:
        classes.setdefault(rows[i].label, {}).setdefault(rows[i].path, i)
    kept: set[tuple[str, str]] = set()
    counts = {"pictures": sum(map(len, classes.values())), "near_duplicates": 0, "over_cap": 0}
    for label, images in classes.items():
        keys = [(label, path) for path in images]
        if plan.dedup_threshold > 0.0:
            stays = keep_first_of_duplicates(vectors[list(images.values())], plan.dedup_threshold)
            counts["near_duplicates"] += int((~stays).sum())
            keys = [key for key, stay in zip(keys, stays.tolist(), strict=True) if stay]
        chosen = _lots(keys, plan.max_per_class, plan.seed)
        counts["over_cap"] += len(keys) - len(chosen)
        kept.update(keys[place] for place in chosen)
    counts["kept"] = len(kept)
    return Selection(tuple(i for i in order if (rows[i].label, rows[i].path) in kept), counts)


_LOG = logging.getLogger(__name__)


class Enrolment:
    """What one process has embedded so far.

    Attributes:
        rows: Label, path and variant of each embedded image.
        vectors: Batches of shape (B, D), float32, unit rows, in the order of ``rows``.
    """

    rows: list[tuple[str, str, str]]
    vectors: list[Vectors]

    def __init__(self) -> None:
        self.rows = []
        self.vectors = []

    def add(
        self, vectors: Tensor, labels: Sequence[str], paths: Sequence[str], augs: Sequence[str] | None = None
    ) -> None:
        """Keep one batch.

        Args:
            vectors: Shape (B, D), unit rows, any device.
            labels: B class names.
            paths: B paths relative to the data's root.
            augs: How each image was changed; None for not at all.

        Raises:
            ValueError: If there are not as many labels, paths and variants as vectors.
        """
        augs = [UNCHANGED] * len(labels) if augs is None else augs
        if not len(vectors) == len(labels) == len(paths) == len(augs):
            msg = f"enrolment: {len(vectors)} vectors, {len(labels)} labels and {len(paths)} paths do not go together"
            raise ValueError(msg)
        self.vectors.append(vectors.float().cpu().numpy())
        self.rows.extend(zip(labels, paths, augs, strict=True))

    def build(
        self,
        fingerprint: str,
        index: IndexChoice,
        plan: EnrolmentPlan | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> Gallery:
        """Make the gallery; its rows are ordered by path, so the order of batches and processes does not show.

        Args:
            fingerprint: The encoder's.
            index: Which index searches.
            plan: The cap and the duplicate rule; None keeps every row.
            note: JSON values to keep about how the vectors were made; ``enrolment`` among them are counts, which the
                counts of the plan are added to.

        Returns:
            A gallery without thresholds.
        """
        rows = [GalleryRow(label=label, path=path, aug=aug) for label, path, aug in self.rows]
        vectors = np.concatenate(self.vectors)
        selected = select_rows(vectors, rows, plan or EnrolmentPlan())
        counts, kept = selected.counts, list(selected.kept)
        if counts["kept"] < counts["pictures"]:
            words = "%d of %d images enrolled (%d near duplicates and %d beyond the cap a class left out)"
            _LOG.info(words, counts["kept"], counts["pictures"], counts["near_duplicates"], counts["over_cap"])
        facts = dict(note or {})
        facts["enrolment"] = {**facts.get("enrolment", {}), **counts}
        entries = [rows[place] for place in kept]
        return Gallery.build(vectors[kept], entries, fingerprint=fingerprint, index=index, note=facts)
