"""Vectors to try an index on, and how many of the true neighbours it finds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from naruto_vision.records import Vectors

_NOISE = 0.35  # length of the noise around a centre of length 1, before normalising
_CLUSTER = 50  # rows around each centre, about as many as pictures of one character
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
    """Draw clustered unit vectors: one cluster for every 50 rows, and new members of the same clusters as queries.

    Args:
        rows: N.
        dim: D.
        queries: Q.
        seed: Any number from 0.
    """
    rng = np.random.default_rng(seed)
    centres = normalised(rng.normal(size=(max(2, rows // _CLUSTER), dim)).astype(np.float32))
    vectors = np.empty((rows, dim), dtype=np.float32)
    for start in range(0, rows, _ROWS_AT_ONCE):
        vectors[start : start + _ROWS_AT_ONCE] = _members(centres, min(_ROWS_AT_ONCE, rows - start), rng)
    return Trial(vectors, _members(centres, queries, rng), f"{len(centres)} drawn clusters")


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
    noise = rng.normal(size=queries.shape).astype(np.float32) * np.float32(_NOISE / np.sqrt(queries.shape[1]))
    return normalised(queries + offset + noise)


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


def _members(centres: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    """Draw ``count`` vectors (count, D) around randomly chosen centres (C, D)."""
    chosen = centres[rng.integers(len(centres), size=count)]
    noise = rng.standard_normal(size=chosen.shape, dtype=np.float32) * np.float32(_NOISE / np.sqrt(chosen.shape[1]))
    return normalised(chosen + noise)
