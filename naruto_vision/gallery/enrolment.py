"""Select the images that a gallery is built from, their gamma variants, and collect their vectors."""

import hashlib
import logging
from collections import Counter
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
from naruto_vision.gallery.quality import failed_gates, gate_limits
from naruto_vision.records import ImageArray, Vectors

_LOG = logging.getLogger(__name__)

GammaMode: TypeAlias = Literal["none", "add", "replace"]

UNCHANGED = "none"
"""The ``aug`` of a row whose image was embedded unchanged."""

_BLOCK = 256  # rows compared with all kept rows at once


@dataclass(frozen=True)
class EnrolmentConfig:
    """Which of the labelled images are enrolled.

    Args:
        max_per_class: Maximum number of images per class; 0 takes all. Gamma variants are not counted.
        presample: Sample this multiple of the cap per class, so that near-duplicates can be replaced.
        dedup_threshold: Leave out an image if its cosine with an earlier kept one of its class, by path, is at
            least this; 0 keeps near-duplicates.
        gates: Leave out images that are blurred, tiny, cut off or grey among those of the gallery, counted and named
            in its note; see ``quality.failed_gates``. Otherwise they are only counted.
        suspects: Leave out images whose label the other images contradict, counted and named; see
            ``recognition.suspects``.
        gamma: "add" gives every image a second row with another gamma, "replace" replaces the image by it (as in the
            reference system).
        seed: Random seed of the image sample and the gammas.

    Raises:
        ValueError: If a number is out of its range.

    Examples:
        >>> import naruto_vision as nv
        >>> nv.EnrolmentConfig(max_per_class=120, dedup_threshold=0.998).candidates
        360
    """

    max_per_class: int = 0
    presample: int = 3
    dedup_threshold: float = 0.0
    gates: bool = False
    suspects: bool = False
    gamma: GammaMode = "none"
    seed: int = 42

    def __post_init__(self) -> None:
        if self.presample < 1 or min(self.max_per_class, self.seed) < 0 or not 0.0 <= self.dedup_threshold <= 1.0:
            msg = f"expected presample >= 1, max_per_class and seed >= 0, dedup_threshold from 0 to 1, found {self}"
            raise ValueError(msg)

    @property
    def candidates(self) -> int:
        """Maximum number of embedded images per class; 0 for all."""
        return self.max_per_class * self.presample


def _hash_sample(keys: Sequence[tuple[str, str]], count: int, seed: int) -> list[int]:
    """Draw ``count`` of the images (label, path) by the hash of each, so that a new image moves few others."""
    if not 0 < count < len(keys):
        return list(range(len(keys)))
    digests = [
        hashlib.sha256(f"{seed}\n{label}\n{path}".encode("utf-8", "surrogatepass")).digest() for label, path in keys
    ]
    return sorted(sorted(range(len(keys)), key=lambda position: digests[position])[:count])


def sample_candidates(images: Sequence[tuple[str, str]], plan: EnrolmentConfig) -> list[int]:
    """Choose which of the images (label, path) are embedded: rising indices, by names and seed alone."""
    groups: dict[str, list[int]] = {}
    for position, (label, _) in enumerate(images):
        groups.setdefault(label, []).append(position)
    return sorted(
        group[chosen]
        for group in groups.values()
        for chosen in _hash_sample([images[position] for position in group], plan.candidates, plan.seed)
    )


def keep_first_of_duplicates(vectors: Vectors, threshold: float) -> NDArray[np.bool_]:
    """Mark the rows (N,) that remain after dropping near-duplicates of earlier kept rows."""
    keep = np.zeros(len(vectors), dtype=np.bool_)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        earlier = vectors[:start][keep[:start]]
        free = ~(block @ earlier.T >= threshold).any(axis=1)
        among = block @ block.T >= threshold
        for row in np.flatnonzero(free).tolist():
            keep[start + row] = not among[row, :row][keep[start : start + row]].any()
    return keep


def select_rows(
    vectors: Vectors, rows: Sequence[GalleryRow], plan: EnrolmentConfig
) -> tuple[list[int], dict[str, int]]:
    """Apply the cap and the duplicate rule; an image's variants are kept or dropped with it.

    Returns the indices of the kept rows, by path, label and augmentation, and the counts of images.
    """
    order = sorted(range(len(rows)), key=lambda i: (rows[i].path, rows[i].label, rows[i].aug != UNCHANGED, rows[i].aug))
    classes: dict[str, dict[str, int]] = {}  # label → path → the first row of the image
    for i in order:
        classes.setdefault(rows[i].label, {}).setdefault(rows[i].path, i)
    kept: set[tuple[str, str]] = set()
    counts = {"images": sum(map(len, classes.values())), "near_duplicates": 0, "over_cap": 0}
    for label, images in classes.items():
        keys = [(label, path) for path in images]
        if plan.dedup_threshold > 0.0:
            stays = keep_first_of_duplicates(vectors[list(images.values())], plan.dedup_threshold)
            counts["near_duplicates"] += int((~stays).sum())
            keys = [key for key, stay in zip(keys, stays.tolist(), strict=True) if stay]
        chosen = _hash_sample(keys, plan.max_per_class, plan.seed)
        counts["over_cap"] += len(keys) - len(chosen)
        kept.update(keys[position] for position in chosen)
    counts["kept"] = len(kept)
    return [i for i in order if (rows[i].label, rows[i].path) in kept], counts


def note_left_out(note: Mapping[str, Any], images: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Return the part of a gallery's note that lists images (label, path, reason) left out, after those it lists."""
    listed = [{"path": path, "label": label, "reason": reason} for label, path, reason in images]
    return {"left_out": [*note.get("left_out", ()), *listed]} if listed else {}


GAMMA = "gamma"
"""The ``aug`` of a row whose image got another gamma."""

GAMMA_SPREAD = 0.05
GAMMA_RANGE = (0.85, 1.15)
_STREAM = 3  # a random stream of its own


def draw_gamma(path: str, seed: int) -> float:
    """Draw an image's exponent from its path and the seed: N(1, 0.05), clipped to 0.85 to 1.15."""
    name = int.from_bytes(hashlib.sha256(path.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    value = np.random.default_rng([_STREAM, seed, name]).normal(1.0, GAMMA_SPREAD)
    return float(np.clip(value, *GAMMA_RANGE))


def apply_gamma(image: ImageArray, gamma: float) -> ImageArray:
    """Raise every value of an image (H, W, 3), uint8, as a fraction of white, to a power; above 1 darkens.

    Examples:
        >>> int(apply_gamma(np.full((1, 1, 3), 128, np.uint8), 1.15)[0, 0, 0])
        115
    """
    curve = np.round(255.0 * (np.arange(256) / 255.0) ** gamma).astype(np.uint8)
    changed: ImageArray = cv2.LUT(image, curve)
    return changed


class Enrolment:
    """The vectors that one process has embedded so far, with (label, path, augmentation) and the colours of each."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []
        self.vectors: list[Vectors] = []
        self.colours: list[Vectors] = []
        self.qualities: list[Vectors] = []

    def add(
        self, vectors: Tensor, labels: Sequence[str], paths: Sequence[str], augs: Sequence[str] | None = None
    ) -> None:
        """Keep a batch of unit vectors (B, D) with labels, paths and augmentations (None: unchanged)."""
        augs = [UNCHANGED] * len(labels) if augs is None else augs
        if not len(vectors) == len(labels) == len(paths) == len(augs):
            msg = f"enrolment: {len(vectors)} vectors, {len(labels)} labels and {len(paths)} paths differ in number"
            raise ValueError(msg)
        self.vectors.append(vectors.float().cpu().numpy())
        self.rows.extend(zip(labels, paths, augs, strict=True))

    def colours_of(self, rows: Sequence[GalleryRow]) -> Vectors:
        """Return the colours (N, K) of enrolled rows."""
        known = dict(zip(self.rows, np.concatenate(self.colours), strict=True))
        return np.stack([known[row.label, row.path, row.aug] for row in rows])

    def _gated(self, plan: EnrolmentConfig) -> tuple[dict[tuple[str, str], str], dict[str, Any]]:
        """Return why images, by label and path, are left out by the gates, and the limits for the note."""
        if not self.qualities:
            return {}, {}
        qualities = np.concatenate(self.qualities)
        reasons = failed_gates(qualities, [label for label, *_ in self.rows])
        left_out = {(label, path): why for (label, path, _), why in zip(self.rows, reasons, strict=True) if why}
        if not plan.gates:
            if left_out:
                why = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(left_out.values()).items()))
                text = "%d of %d images may be flawed (%s), and are enrolled; --data.plan.gates true leaves them out"
                _LOG.info(text, len(left_out), len(self.rows), why)
            return {}, {}
        return left_out, {"gates": [round(float(limit), 6) for limit in gate_limits(qualities)]}

    def build(
        self,
        fingerprint: str,
        index: IndexChoice,
        plan: EnrolmentConfig | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> Gallery:
        """Make the gallery of the rows that the plan keeps (None keeps all), without thresholds.

        Rows are ordered by path, so the order of batches and processes does not matter. The plan's counts are added to
        ``note["enrolment"]``.
        """
        plan = plan or EnrolmentConfig()
        left_out, gates = self._gated(plan)
        passed = [number for number, (label, path, _) in enumerate(self.rows) if (label, path) not in left_out]
        rows = [GalleryRow(*(self.rows[number][part] for part in (1, 0, 2))) for number in passed]
        vectors = np.concatenate(self.vectors)[passed]
        kept, counts = select_rows(vectors, rows, plan)
        counts["images"] += len(left_out)
        if counts["kept"] < counts["images"]:
            text = "%d of %d images enrolled (%d near duplicates and %d over the cap of a class left out%s)"
            more = "".join(f", {count} {reason}" for reason, count in sorted(Counter(left_out.values()).items()))
            _LOG.info(text, counts["kept"], counts["images"], counts["near_duplicates"], counts["over_cap"], more)
        facts = dict(note or {})
        counts |= Counter(left_out.values())
        facts = {**facts, **gates, "enrolment": {**facts.get("enrolment", {}), **counts}}
        facts |= note_left_out(facts, [(label, path, why) for (label, path), why in sorted(left_out.items())])
        entries = [rows[position] for position in kept]
        return Gallery.build(vectors[kept], entries, fingerprint=fingerprint, index=index, note=facts)
