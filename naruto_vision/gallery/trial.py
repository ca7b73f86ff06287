"""Vectors to try an index on, and how many of the true neighbours it finds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from naruto_vision.gallery.exact import best_places
from naruto_vision.records import Vectors

_NOISE = 0.35  # length of the noise that moves a query, beside a vector's 1: a cosine of 0.94
_CHARACTER = 2000  # pictures of one character in a large gallery; a series has few characters and many frames
_LEAST_CHARACTERS = 8
# Shares of a drawn vector's squared length, and how fast the variance falls along the axes. So drawn, same-character
# cosines, nearest neighbours and the effective dimension within a character are about those of tiny-clip's vectors of
# 560 pictures of 12 characters.
_COMMON, _BETWEEN, _WITHIN = 0.40, 0.49, 0.11
_FALL_BETWEEN, _FALL_WITHIN = 1.0, 1.25
_GAP = 1.0  # how far texts lie from pictures: the offset's length beside a picture vector's 1
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Trial:
    """Rows to search, and queries that are none of them.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        queries: Shape (Q, D), float32, unit rows.
        source: Where they come from, in words.
    """

    vectors: Vectors
    queries: Vectors
    source: str


def drawn_trial(rows: int, dim: int, queries: int, seed: int) -> Trial:
    """Draw vectors as an encoder gives them: few characters of many pictures, and few directions that matter.

    The queries are new pictures of the same characters.

    Args:
        rows: N.
        dim: D.
        queries: Q.
        seed: Any number from 0.
    """
    rng = np.random.default_rng(seed)
    count = max(_LEAST_CHARACTERS, rows // _CHARACTER)
    common = normalised(rng.standard_normal(size=(1, dim), dtype=np.float32)) * np.float32(np.sqrt(_COMMON))
    centres = common + _falling(count, dim, _BETWEEN, _FALL_BETWEEN, rng)
    axes = rng.permutation(dim)  # pictures of one character differ in other directions than characters do
    vectors = np.empty((rows, dim), dtype=np.float32)
    for start in range(0, rows, _ROWS_AT_ONCE):
        vectors[start : start + _ROWS_AT_ONCE] = _members(centres, axes, min(_ROWS_AT_ONCE, rows - start), rng)
    asked = _members(centres, axes, queries, rng)
    nearest = best_places(vectors, asked[:200], min(10, rows))[0]
    first, last = float(np.median(nearest[:, 0])), float(np.median(nearest[:, -1]))
    text = f"{count} drawn characters; cosine of the first neighbour {first:.2f}, of the tenth {last:.2f} (medians)"
    return Trial(vectors, asked, text)


def held_out(vectors: Vectors, queries: int, seed: int) -> Trial:
    """Take some of a gallery's rows out of it and ask for them.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        queries: How many; at most half of the rows.
        seed: Any number from 0.
    """
    count = max(1, min(queries, len(vectors) // 2))
    order = np.random.default_rng(seed).permutation(len(vectors))
    text = f"{count} of the gallery's rows, taken out of it"
    return Trial(np.ascontiguousarray(vectors[np.sort(order[count:])]), vectors[order[:count]], text)


def self_match(vectors: Vectors, queries: int, seed: int) -> Trial:
    """Ask a gallery for its own rows, as the reference system's benchmark does: the best match is the row itself.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        queries: How many; at most all rows.
        seed: Any number from 0.
    """
    chosen = np.random.default_rng(seed).permutation(len(vectors))[:queries]
    return Trial(vectors, vectors[chosen], f"{len(chosen)} of the gallery's own rows, still in it")


def shifted(queries: Vectors, seed: int) -> Vectors:
    """Move queries away from the rows by one common offset and noise of their own, as texts lie beside pictures.

    It stands in for texts where no text encoder is at hand, and is no more than that.

    Args:
        queries: Shape (Q, D), float32, unit rows.
        seed: Any number from 0.

    Returns:
        Shape (Q, D), float32, unit rows.
    """
    rng = np.random.default_rng([1, seed])
    offset = normalised(rng.normal(size=(1, queries.shape[1])).astype(np.float32)) * np.float32(_GAP)
    return normalised(queries + offset + _noise(queries.shape, rng))


def noisy(vectors: Vectors, seed: int) -> Vectors:
    """Move vectors a little, each in a direction of its own, as another picture of the same would be.

    Args:
        vectors: Shape (Q, D), float32, unit rows.
        seed: Any number from 0.

    Returns:
        Shape (Q, D), float32, unit rows; their cosine with what they were is about 0.94.
    """
    return normalised(vectors + _noise(vectors.shape, np.random.default_rng([2, seed])))


def normalised(vectors: NDArray[np.float32]) -> Vectors:
    """Bring rows to length 1.

    Args:
        vectors: Shape (N, D), float32, no row of zeros.

    Returns:
        Shape (N, D), float32, unit rows.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Return the share of the true neighbours that were found.

    Args:
        found: Shape (Q, K), int64: places, -1 for none.
        truth: Shape (Q, K), int64: the true ones; their order does not matter.

    Returns:
        A number from 0 to 1.
    """
    hits = [np.intp(len(np.intersect1d(mine, right))) for mine, right in zip(found, truth, strict=True)]
    return float(np.sum(hits) / truth.size)


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    scale = np.float32(_NOISE / np.sqrt(shape[-1]))
    return np.asarray(rng.standard_normal(size=shape, dtype=np.float32) * scale, dtype=np.float32)


def _falling(count: int, dim: int, power: float, fall: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw (count, dim) numbers of mean squared length ``power`` whose variance on axis i is as ``i ** -fall``."""
    variance = np.arange(1, dim + 1, dtype=np.float64) ** -fall
    scale = np.sqrt(power * variance / variance.sum()).astype(np.float32)
    return np.asarray(rng.standard_normal(size=(count, dim), dtype=np.float32) * scale, dtype=np.float32)


def _members(centres: NDArray[np.float32], axes: NDArray[np.int64], count: int, rng: np.random.Generator) -> Vectors:
    """Draw ``count`` vectors (count, D) around randomly chosen centres (C, D), widest along the first of axes (D,)."""
    chosen = centres[rng.integers(len(centres), size=count)]
    chosen[:, axes] += _falling(count, centres.shape[1], _WITHIN, _FALL_WITHIN, rng)
    return normalised(chosen)
