"""Vectors to try an index on, and how many of the true neighbours it finds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from naruto_vision.gallery.exact import best_places
from naruto_vision.records import Vectors

_NOISE = 0.35  # length of the noise that moves a query, beside a vector's 1: a cosine of 0.94
_MOVED = 0.5  # how far a row is moved to be another picture, beside how far apart rows are
_CHARACTER = 2000  # pictures of one character in a large gallery; a series has few characters and many frames
_LEAST_CHARACTERS = 8
# Shares of a drawn vector's squared length, and how fast the variance falls along the axes. So drawn, same-character
# cosines, nearest neighbours and the effective dimension within a character are about those of tiny-clip's vectors of
# 560 pictures of 12 characters.
_COMMON, _BETWEEN, _WITHIN = 0.40, 0.49, 0.11
_FALL_BETWEEN, _FALL_WITHIN = 1.0, 1.25
_GAP = 1.0  # how far texts lie from pictures: the offset's length beside a picture vector's 1
_ROWS_AT_ONCE = 65_536
_JITTER = 0.5  # of the spread within a character, beside a resampled picture: no two rows are one


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


def grown(vectors: Vectors, labels: NDArray[np.int64], rows: int, seed: int) -> Vectors:
    """Make many vectors of the few that an encoder gave, with their means and covariances (a smoothed bootstrap).

    Characters are the known ones and, in larger galleries, others with the covariance of the known ones' means. A row
    is a character's mean, moved as a known picture is from its own character's mean, and a little more.

    Args:
        vectors: Shape (P, D), float32, unit rows: what the encoder gave.
        labels: Shape (P,), int64, 0 to K - 1: whose picture each is.
        rows: N.
        seed: Any number from 0.

    Returns:
        Shape (N, D), float32, unit rows.
    """
    rng = np.random.default_rng([3, seed])
    sums = np.zeros((int(labels.max()) + 1, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, labels, vectors)
    means = np.asarray(sums / np.bincount(labels)[:, None], dtype=np.float32)
    moves, others = vectors - means[labels], max(0, rows // _CHARACTER - len(means))
    centres = np.concatenate([means, means.mean(axis=0) + _alike(means - means.mean(axis=0), others, rng)])
    found = np.empty((rows, vectors.shape[1]), dtype=np.float32)
    for start in range(0, rows, _ROWS_AT_ONCE):
        count = min(_ROWS_AT_ONCE, rows - start)
        moved = centres[rng.integers(len(centres), size=count)] + moves[rng.integers(len(moves), size=count)]
        found[start : start + count] = normalised(moved + np.float32(_JITTER) * _alike(moves, count, rng))
    return found


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


def like_pictures(vectors: Vectors, places: NDArray[np.int64], seed: int) -> Vectors:
    """Move rows of a gallery as its rows differ from each other, so that they search as further pictures do.

    Noise that is equal in all directions would be easier to search with: few of them matter to the rows.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        places: Shape (Q,), int64: which rows.
        seed: Any number from 0.

    Returns:
        Shape (Q, D), float32, unit rows.
    """
    one, other = np.random.default_rng([5, seed]).integers(len(vectors), size=(2, len(places)))
    moves = (vectors[one] - vectors[other]) * np.float32(_MOVED / np.sqrt(2.0))
    return normalised(vectors[places] + moves)


def any_directions(count: int, dim: int, seed: int) -> Vectors:
    """Draw directions that know nothing of a gallery, in the place of texts.

    A text names some features, not one picture, so its neighbours lie in many places of a gallery. With vectors moved
    by an offset they would lie as close together as a picture's.

    Args:
        count: Q.
        dim: D.
        seed: Any number from 0.

    Returns:
        Shape (Q, D), float32, unit rows.
    """
    return normalised(np.random.default_rng([6, seed]).standard_normal(size=(count, dim), dtype=np.float32))


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


def _alike(moves: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw (count, D) normal numbers with the covariance of (P, D) moves, whose mean is zero."""
    _, values, axes = np.linalg.svd(moves / np.float32(np.sqrt(len(moves))), full_matrices=False)
    drawn = rng.standard_normal(size=(count, len(values)), dtype=np.float32)
    return np.asarray((drawn * values) @ axes, dtype=np.float32)


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
