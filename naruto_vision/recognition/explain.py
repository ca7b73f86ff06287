"""Why a region, an image or a text has its name: nearest entries, votes, and the patches that its score is due to.

The maps are measured by occlusion (Zeiler and Fergus, https://arxiv.org/abs/1311.2901): a patch is painted over with
the mean colour, and what the score loses is its share. This works with every encoder and decision rule.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from naruto_vision.encoders.base import Encoder, embed_images
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.info import entry_image
from naruto_vision.io.images import shrink
from naruto_vision.recognition.decision import ROW_RULES, Decision, Rule, count_votes, recorded_rule
from naruto_vision.recognition.heads import score_classes
from naruto_vision.recognition.lookup import SearchResult
from naruto_vision.records import Explanation, Heat, Identity, ImageArray, Mask, Vectors

PATCHES, SHOWN = 8, 5
"""About square patches along the longer side of an image; nearest entries of an explanation."""

_INSIDE = 0.5  # of a patch that the mask must cover; the others are background already
_AT_ONCE = 16  # variants of an image in memory
_LARGEST = 512  # pixels a side of an entry's image

Embed: TypeAlias = Callable[[Sequence[ImageArray]], Vectors]
"""Images (H, W, 3), uint8, to unit rows (N, D)."""

ReadImage: TypeAlias = Callable[[str], ImageArray | None]
"""Reads the image of a gallery entry by its path; None where it is missing."""

Patch: TypeAlias = tuple[slice, slice]
"""Rows and columns of an image."""


def explain_identity(
    identity: Identity,
    gallery: Gallery,
    encoder: Encoder,
    vector: Vectors,
    rule: Rule,
    read: ReadImage,
    *,
    why: str,
    threshold: float | None = None,
    image: ImageArray | None = None,
    mask: Mask | None = None,
    embed: Embed | None = None,
) -> Explanation:
    """Explain the name that a rule gave to a vector (D,); a map is left out where there is no image.

    ``image`` (H, W, 3), uint8, is what was embedded; ``mask`` (H, W) is what of it counts, None all; ``embed`` embeds
    variants of it as it was, None as a whole image.
    """
    rows = identity.neighbours
    first = next((place for place, row in enumerate(rows) if row.label == identity.label), 0)
    shown, matched = (rows[:SHOWN] if first < SHOWN else (*rows[: SHOWN - 1], rows[first])), min(first, SHOWN - 1)
    images = tuple(None if each is None else shrink(each, _LARGEST) for each in (read(row.path) for row in shown))
    heat, matched_heat, other = None, None, images[matched]
    if image is not None:
        without = embed_hidden(image, embed or partial(_embed_whole, encoder), mask)
        heat = occlusion_map(image, label_scores(gallery, rule, identity, without), mask)
    if other is not None:
        matched_heat = occlusion_map(other, _embed_hidden_row(encoder, other.tobytes(), other.shape) @ vector)
    return Explanation(
        replace(identity, neighbours=shown),
        why,
        threshold,
        votes=_shares(count_votes(rows)),
        classes=_shares(score_classes(gallery, rule, vector[None])[0], total=1.0),
        images=images,
        matched=matched,
        image=image,
        heat=heat,
        matched_heat=matched_heat,
    )


def explain_search(
    found: SearchResult,
    gallery: Gallery,
    encoder: Encoder,
    read: ReadImage,
    image: ImageArray | None = None,
    decision: Decision = "auto",
) -> Explanation:
    """Explain the name that ``look_up`` gave to an image (H, W, 3), uint8, or to a text (None)."""
    rule: Rule = "vote"
    if image is None:
        with torch.inference_mode():
            vectors = encoder.encode_texts([found.query]).float().cpu()
    else:
        vectors = embed_images(encoder, [image], mirror=gallery.mirror)
        rule = recorded_rule(gallery, decision)
    facts: dict[str, Any] = {"why": found.sentence(), "threshold": found.threshold, "image": image}
    return explain_identity(found.identity, gallery, encoder, vectors.numpy()[0], rule, read, **facts)


def label_scores(gallery: Gallery, rule: Rule, identity: Identity, vectors: Vectors) -> NDArray[np.floating]:
    """Score vectors (N, D) as the label of an identity was scored: (N,), cosines or probabilities."""
    label = identity.label
    if rule in ROW_RULES:
        nearest = next((row for row in identity.neighbours if row.label == label), identity.neighbours[0])
        return vectors @ gallery.vector_of(nearest.row)
    return np.array([each[label] for each in score_classes(gallery, rule, vectors)])


def _shares(values: Mapping[str, float], total: float | None = None) -> dict[str, float]:
    """Divide values by their sum or another total, and sort them, falling."""
    whole = sum(values.values()) if total is None else total
    return {label: value / whole for label, value in sorted(values.items(), key=lambda each: -each[1])}


def embed_hidden(image: ImageArray, embed: Embed, mask: Mask | None = None) -> Vectors:
    """Embed an image (H, W, 3), and then its variants, in each of which one patch has the mean colour: (1 + M, D).

    Patches of which less than half is inside the mask (H, W), bool, have no variant.
    """
    cells, inside = patch_slices(image.shape[:2])[0], _inside(image, mask)
    fill = image[inside].mean(axis=0)
    hidden = [(), *((cells[at],) for at in covered_patches(cells, inside))]
    parts = (hidden[start : start + _AT_ONCE] for start in range(0, len(hidden), _AT_ONCE))
    return np.concatenate([embed([hide_patches(image, own, fill) for own in part]) for part in parts])


def _embed_whole(encoder: Encoder, images: Sequence[ImageArray]) -> Vectors:
    vectors: Vectors = embed_images(encoder, images).numpy()
    return vectors


@lru_cache(maxsize=64)
def _embed_hidden_row(encoder: Encoder, pixels: bytes, shape: tuple[int, ...]) -> Vectors:
    """Do the same for the whole image of an entry; an entry is near to many queries."""
    return embed_hidden(np.frombuffer(pixels, np.uint8).reshape(shape), partial(_embed_whole, encoder))


def occlusion_map(image: ImageArray, scores: NDArray[np.floating], mask: Mask | None = None) -> Heat:
    """Map what a score loses without each patch of an image (H, W, 3), by the scores (1 + M,) of ``embed_hidden``."""
    cells, grid = patch_slices(image.shape[:2])
    losses = np.zeros(len(cells), np.float32)
    losses[covered_patches(cells, _inside(image, mask))] = scores[0] - scores[1:]
    largest = max(float(losses.max()), 0.0)
    values = np.asarray(losses.clip(0) / (largest or 1.0), np.float32)
    return Heat(values.reshape(grid), largest)


def _inside(image: ImageArray, mask: Mask | None) -> Mask:
    return np.ones(image.shape[:2], np.bool_) if mask is None or not mask.any() else mask


def patch_slices(shape: tuple[int, ...]) -> tuple[list[Patch], tuple[int, int]]:
    """Divide an image of a height and width into about square patches, row by row; also return the grid.

    Examples:
        >>> cells, grid = patch_slices((32, 64))
        >>> cells[0], grid
        ((slice(0, 8, None), slice(0, 8, None)), (4, 8))
    """
    counts = [max(1, round(min(PATCHES, max(shape)) * side / max(shape))) for side in shape]
    sides = zip(shape, counts, strict=True)
    edges = [np.linspace(0, side, count + 1).round().astype(int).tolist() for side, count in sides]
    rows, columns = ([slice(*pair) for pair in pairwise(own)] for own in edges)
    return list(product(rows, columns)), (len(rows), len(columns))


def covered_patches(cells: Sequence[Patch], mask: Mask) -> list[int]:
    """Return the positions of the patches of which half or more is inside a mask (H, W); all if there is none."""
    return [at for at, cell in enumerate(cells) if mask[cell].mean() >= _INSIDE] or [*range(len(cells))]


def hide_patches(image: ImageArray, cells: Sequence[Patch], fill: Sequence[float]) -> ImageArray:
    """Paint patches of an image (H, W, 3), uint8, with a colour; returns a copy."""
    hidden = image.copy()
    for cell in cells:
        hidden[cell] = fill
    return hidden


def row_image(gallery_folder: str | Path | None, note: Mapping[str, Any], path: str) -> ImageArray | None:
    """Read the image of a gallery entry; None where it is missing or no image.

    A gallery may come from others, so only images in its folder, and in the folder that it was made of, are read.
    """
    roots = [Path(root) for root in (note.get("root"), gallery_folder) if root]
    return entry_image(roots, path, inside=True)


def why_named(who: Identity, threshold: float | None) -> str:
    """Say in one line why a region has its name, or none."""
    lead = "" if who.margin is None else f", {abs(who.margin):.3f} {'ahead of' if who.margin >= 0 else 'behind'} others"
    if threshold is None:
        return f"score {who.score:.3f}{lead}; the gallery has no threshold, so every region gets a name"
    if who.known:
        return f"score {who.score:.3f}{lead}; at least {threshold:.3f} is needed"
    return f"most like {who.label}, but the score {who.score:.3f} is below the threshold {threshold:.3f}{lead}"
