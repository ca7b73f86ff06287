"""Vectors to try an index on, and how many of the true neighbours it finds."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from naruto_vision.io.machine import cpu_features, has_package, require_package
from naruto_vision.records import Vectors

QueryKind: TypeAlias = Literal["image", "text"]
"""Texts lie apart from images, so that an index has to look further to find their neighbours."""


@dataclass(frozen=True)
class Effort:
    """What was measured when an index was built.

    Args:
        width: Cells (``nprobe``) or candidates (``efSearch``) that a query looks at.
        recall: Share of the true ten neighbours that are found so.
        queries: How many queries that was measured with.
        rows: How many rows the index had.

    Raises:
        ValueError: If a number is out of range.
    """

    width: int
    recall: float
    queries: int
    rows: int

    def __post_init__(self) -> None:
        counts = (self.width, self.queries, self.rows)
        whole = all(type(count) is int and count >= 1 for count in counts)
        if not whole or not isinstance(self.recall, int | float) or not 0.0 <= self.recall <= 1.0:
            msg = f"effort: expected counts from 1 and a recall from 0 to 1, found {self}"
            raise ValueError(msg)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values of ``faiss_meta.json``."""
        return {"width": self.width, "recall": round(self.recall, 4), "queries": self.queries, "rows": self.rows}


Efforts: TypeAlias = Mapping[QueryKind, Effort]
NO_EFFORTS: Efforts = MappingProxyType({})
"""Of an index that compares all rows, or of which nothing was measured."""


def efforts_from_json(value: object) -> Efforts:
    """Read what ``Effort.as_json`` wrote, by kind of query.

    Args:
        value: The JSON value; None is of an index that nothing was measured of.

    Returns:
        Kind of query to effort.

    Raises:
        ValueError: If it is anything else.
    """
    match value:
        case None:
            return NO_EFFORTS
        case {"image": dict(image), "text": dict(text)}:
            try:
                return {"image": Effort(**image), "text": Effort(**text)}
            except TypeError as error:
                raise ValueError(str(error)) from None
    msg = f"expected what was measured for image and text queries, found {value!r}"
    raise ValueError(msg)


FaissObject: TypeAlias = Any
"""An object of FAISS's, which ships no types."""

_OTHERS = "other vectors than those of embeddings.npy"


def read_index(data: bytes, shape: tuple[int, ...]) -> FaissObject:
    """Read an index of a given size.

    Args:
        data: The bytes of ``faiss.index``.
        shape: (N, D) of the vectors that it should hold.

    Returns:
        The FAISS index.

    Raises:
        MissingPackageError: If FAISS is not installed.
        ValueError: If the bytes are no inner-product index of this size.
    """
    faiss = require_package("faiss", "cpu")
    limit = faiss.get_deserialization_vector_byte_limit()
    faiss.set_deserialization_vector_byte_limit(len(data))
    try:
        index = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
    except (RuntimeError, MemoryError) as error:
        raise ValueError(str(error).partition("\n")[0]) from None
    finally:
        faiss.set_deserialization_vector_byte_limit(limit)
    if (index.ntotal, index.d, index.metric_type) != (*shape, faiss.METRIC_INNER_PRODUCT):
        msg = f"an index of ({index.ntotal}, {index.d}) vectors instead of {shape}"
        raise ValueError(msg)
    return index


def checked_flat(index: FaissObject, vectors: Vectors) -> None:
    """Check a flat index.

    Args:
        index: From ``read_index``.
        vectors: Shape (N, D), float32, unit rows.

    Raises:
        ValueError: If it is no flat index, or holds other vectors.
    """
    faiss = require_package("faiss", "cpu")
    _expect(isinstance(index, faiss.IndexFlat) and index.ntotal * index.d == vectors.size, "no flat index")
    stored = faiss.rev_swig_ptr(index.get_xb(), vectors.size)
    _expect(stored.tobytes() == vectors.tobytes(), _OTHERS)


def checked_ivf(index: FaissObject, vectors: Vectors, ids: NDArray[np.int64]) -> None:
    """Check an IVF index: every row is in exactly one cell, under its own id.

    Args:
        index: From ``read_index``.
        vectors: Shape (N, D), float32, unit rows.
        ids: Shape (N,), int64, rising.

    Raises:
        ValueError: If it is no IVF index, or holds other rows.
    """
    faiss = require_package("faiss", "cpu")
    _expect(isinstance(index, faiss.IndexIVFFlat) and index.code_size == 4 * index.d, "no flat IVF index")
    centres = faiss.downcast_index(index.quantizer)
    fits = (type(centres), centres.d, centres.ntotal) == (faiss.IndexFlatIP, index.d, index.nlist)
    _expect(fits and index.invlists.nlist == index.nlist and index.is_trained, "cells and centres that disagree")
    seen = 0
    for cell in range(index.nlist):
        size = index.invlists.list_size(cell)
        own = faiss.rev_swig_ptr(index.invlists.get_ids(cell), size)
        places = np.minimum(np.searchsorted(ids, own), len(ids) - 1)
        codes = faiss.rev_swig_ptr(index.invlists.get_codes(cell), size * index.code_size)
        _expect(bool((ids[places] == own).all()) and codes.tobytes() == vectors[places].tobytes(), _OTHERS)
        seen += np.unique(own).size
    _expect(seen == len(ids), _OTHERS)


def checked_hnsw(index: FaissObject, vectors: Vectors, ids: NDArray[np.int64]) -> None:
    """Check an HNSW index: its vectors, its ids, and that no link leads out of the graph.

    Args:
        index: From ``read_index``.
        vectors: Shape (N, D), float32, unit rows.
        ids: Shape (N,), int64, rising.

    Raises:
        ValueError: If it is no HNSW index, holds other rows, or its graph is torn.
    """
    faiss = require_package("faiss", "cpu")
    _expect(isinstance(index, faiss.IndexIDMap2), "no index under ids")
    graph: FaissObject = faiss.downcast_index(index.index)
    _expect(isinstance(graph, faiss.IndexHNSWFlat), "no HNSW index")
    fits = (graph.ntotal, graph.d, graph.metric_type) == (*vectors.shape, faiss.METRIC_INNER_PRODUCT)
    _expect(fits and np.array_equal(faiss.vector_to_array(index.id_map), ids), _OTHERS)
    checked_flat(faiss.downcast_index(graph.storage), vectors)
    _expect(_whole_graph(graph.hnsw, len(ids)), "a graph whose links lead nowhere")


def _whole_graph(hnsw: FaissObject, rows: int) -> bool:
    """Tell whether every link of N nodes leads to a node that exists on the link's level."""
    faiss = require_package("faiss", "cpu")
    levels, starts = faiss.vector_to_array(hnsw.levels), faiss.vector_to_array(hnsw.offsets).astype(np.int64)
    slots = faiss.vector_to_array(hnsw.cum_nneighbor_per_level).astype(np.int64)
    links = faiss.vector_to_array(hnsw.neighbors)
    if levels.size != rows or not 1 <= levels.min() <= levels.max() < slots.size or (np.diff(slots) < 0).any():
        return False
    whole = np.array_equal(starts, np.concatenate([[0], np.cumsum(slots[levels])])) and starts[-1] == links.size
    top = int(levels.max()) - 1
    if not whole or not 0 <= hnsw.entry_point < rows or hnsw.max_level != top or levels[hnsw.entry_point] != top + 1:
        return False
    inside = np.arange(links.size) - np.repeat(starts[:-1], np.diff(starts))
    level = np.searchsorted(slots, inside, side="right") - 1
    real = links >= 0
    return bool((links >= -1).all() and (links < rows).all() and (levels[links[real]] > level[real]).all())


def _expect(fine: bool, otherwise: str) -> None:
    if not fine:
        raise ValueError(otherwise)


_BLOCK_ROWS = (
    16_384  # rows a matrix product: its scores for 256 queries, 16 MiB, are chosen from while they are in a cache
)
_QUERIES = 256
_GROUP = 64  # neighbouring scores whose largest stands for them in the first choice


def best_places(vectors: Vectors, queries: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the rows with the largest inner products.

    A row among the best ``count`` is in one of the ``count`` groups of 64 with the largest maxima. So most scores are
    looked at once, by a running maximum, and only those groups are sorted out: choosing then costs a quarter of the
    matrix product instead of several times as much.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        queries: Shape (Q, D), float32, unit rows.
        count: How many rows a query wants, 1 to N.

    Returns:
        Scores (Q, count), float32, falling, and places (Q, count), int64.
    """
    steps = range(0, len(queries), _QUERIES)
    found = [_best_of_all(vectors, queries[start : start + _QUERIES], count) for start in steps]
    if not found:
        return np.zeros((0, count), dtype=np.float32), np.zeros((0, count), dtype=np.int64)
    return np.concatenate([scores for scores, _ in found]), np.concatenate([places for _, places in found])


def _best_of_all(vectors: Vectors, queries: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Look at block after block of rows and keep the best (Q, count)."""
    found = []
    for start in range(0, len(vectors), _BLOCK_ROWS):
        products = _products(vectors[start : start + _BLOCK_ROWS], queries)
        scores, inside = _best_inside(products, count)
        found.append((scores, inside + start))
    best, where = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    if best.shape[1] > count:
        best, where = _largest(best, where, count)
    order = np.lexsort((where, -best), axis=1)
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(where, order, axis=1)


def _products(vectors: Vectors, queries: Vectors) -> NDArray[np.float32]:
    """Multiply rows (N, D) with queries (Q, D): (N, Q); this way round, few queries are quicker.

    A large product first copies its rows into another order, which takes as long as four queries do. BLAS leaves that
    out for products that are small enough.
    """
    rows, dim = vectors.shape
    height, most = _small_product()
    if len(queries) > most or rows % height:
        return np.asarray(vectors @ queries.T)
    grouped = vectors.reshape(rows // height, height, dim)
    return np.asarray((grouped @ queries.T).reshape(rows, len(queries)))


@cache
def _small_product() -> tuple[int, int]:
    """Return of how many rows small products are, and up to how many queries they are quicker than a large one.

    Measured at D = 512, 98,304 rows, milliseconds for 16, 24 and 40 queries: 26, 32 and 38 in products of 16 rows with
    AVX-512 (31, 37 and 45 in large ones); 38, 46 and 64 in products of 64 rows with AVX2 (39, 47 and 61 in large ones).
    """
    return (16, 40) if cpu_features()["AVX512"] else (64, 16)


def _best_inside(products: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the best ``count`` of each column of (N, Q) and where they are, in no order: (Q, at most count)."""
    rows, queries = products.shape
    groups = rows // _GROUP
    if 4 * count > groups or rows % _GROUP:  # little to gain, or the last block of all
        scores = np.ascontiguousarray(products.T)
        return _largest(scores, np.broadcast_to(np.arange(rows), scores.shape), min(count, rows))
    grouped = products.reshape(groups, _GROUP, queries)
    maxima = np.ascontiguousarray(grouped.max(axis=1).T)
    chosen = np.argpartition(maxima, -count, axis=1)[:, -count:]  # (Q, count)
    candidates = grouped[chosen, :, np.arange(queries)[:, None]].reshape(queries, -1)  # (Q, count * 64)
    places = (chosen[:, :, None] * _GROUP + np.arange(_GROUP)).reshape(queries, -1)
    return _largest(candidates, places, count)


def _largest(
    scores: NDArray[np.float32], places: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Keep the largest ``count`` of each row of (Q, N), with their places, in no order: both (Q, count)."""
    kept = np.argpartition(scores, -count, axis=1)[:, -count:]
    return np.take_along_axis(scores, kept, axis=1), np.take_along_axis(places, kept, axis=1)


class ExactIndex:
    """Every inner product, by NumPy.

    Args:
        vectors: Shape (N, D), float32, unit rows.
    """

    kind: Literal["exact"] = "exact"
    efforts: Efforts = NO_EFFORTS

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def search(
        self, queries: Vectors, count: int, kind: QueryKind = "image"
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the rows with the largest inner products.

        Args:
            queries: Shape (Q, D), float32, unit rows.
            count: How many rows a query wants, 1 to N.
            kind: What the queries are; not looked at, for all rows are compared.

        Returns:
            Scores (Q, count), float32, falling, and places (Q, count), int64.
        """
        del kind
        return best_places(self._vectors, queries, count)

    def updated(self, vectors: Vectors, ids: NDArray[np.int64]) -> "ExactIndex":
        """Return an index of other vectors.

        Args:
            vectors: Shape (M, D), float32, unit rows.
            ids: Shape (M,), int64; not looked at.
        """
        del ids
        return ExactIndex(vectors)

    def to_bytes(self) -> None:
        """Return None: the vectors are the index."""
        return


_NOISE = 0.35  # length of the noise that moves a query, beside a vector's 1: a cosine of 0.94
_MOVED = 0.5  # how far a row is moved to be another image, beside how far apart rows are
_CHARACTER = 2000  # images of one character in a large gallery; a series has few characters and many frames
_LEAST_CHARACTERS = 8
# Shares of a drawn vector's squared length, and how fast the variance falls along the axes. So drawn, same-character
# cosines, nearest neighbours and the effective dimension within a character are about those of tiny-clip's vectors of
# 560 images of 12 characters.
_COMMON, _BETWEEN, _WITHIN = 0.40, 0.49, 0.11
_FALL_BETWEEN, _FALL_WITHIN = 1.0, 1.25
_GAP = 1.0  # how far texts lie from images: the offset's length beside an image vector's 1
_ROWS_AT_ONCE = 65_536
_JITTER = 0.5  # of the spread within a character, beside a resampled image: no two rows are one


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
    """Draw vectors as an encoder gives them: few characters of many images, and few directions that matter.

    The queries are new images of the same characters.

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
    axes = rng.permutation(dim)  # images of one character differ in other directions than characters do
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
    is a character's mean, moved as a known image is from its own character's mean, and a little more.

    Args:
        vectors: Shape (P, D), float32, unit rows: what the encoder gave.
        labels: Shape (P,), int64, 0 to K - 1: whose image each is.
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
    """Move queries away from the rows by one common offset and noise of their own, as texts lie beside images.

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


def like_images(vectors: Vectors, places: NDArray[np.int64], seed: int) -> Vectors:
    """Move rows of a gallery as its rows differ from each other, so that they search as further images do.

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

    A text names some features, not one image, so its neighbours lie in many places of a gallery. With vectors moved
    by an offset they would lie as close together as an image's.

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


_CELLS = 6.0  # cells for each square root of a row: texts' neighbours lie in a smaller share of many small cells
_TRAINED_ON = 40  # rows for each cell that the k-means sees; the first number decides how long it takes
_ROUNDS = 8  # of the k-means; later ones move the centres little
_PROGRESS_ROWS = 50_000  # from here on building takes long enough for a progress bar
_ROWS = 2048  # a product's: with 4,000 centres its 32 MiB of scores stay in a cache

Advance = Callable[[int], None]
"""Is told how many more rows were held against the centres."""


@contextmanager
def build_progress(text: str, rows: int) -> Iterator[Advance]:
    """Show on a terminal how many rows were sorted into cells; small indexes are done too soon for that.

    Args:
        text: What is being done.
        rows: How many rows the index will have.

    Yields:
        What to tell of rows that were sorted.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    hidden = rows < _PROGRESS_ROWS
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True, disable=hidden
    ) as progress:
        trained = min(rows, round(_CELLS * math.sqrt(rows)) * _TRAINED_ON)
        job = progress.add_task(text, total=rows + _ROUNDS * trained)
        yield lambda count: progress.advance(job, count)


def filled_cells(
    vectors: Vectors, ids: NDArray[np.int64], train_on: NDArray[np.int64], seed: int, advance: Advance
) -> FaissObject:
    """Make an IVF index of FAISS's.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        ids: Shape (N,), int64.
        train_on: Shape (T,), int64: places of rows that the centres may be made of, the first ones first.
        seed: Chooses the first centres.
        advance: Is told of progress.

    Returns:
        A ``faiss.IndexIVFFlat``; equal input gives an equal one.

    Raises:
        MissingPackageError: If FAISS is not installed.
    """
    faiss = require_package("faiss", "cpu")
    rows, dim = vectors.shape
    cells = max(1, min(round(_CELLS * math.sqrt(rows)), len(train_on) // 39))  # 39: below, a k-means is starved
    chosen = np.sort(train_on[: cells * _TRAINED_ON])
    centres = train_centres(vectors[chosen], cells, _ROUNDS, seed, advance)
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(centres)
    index = faiss.IndexIVFFlat(quantizer, dim, cells, faiss.METRIC_INNER_PRODUCT)
    quantizer.this.own(False)  # the index deletes it
    index.own_fields = True
    _, own = nearest_centres(vectors, centres, advance)
    index.add_core(rows, faiss.swig_ptr(vectors), faiss.swig_ptr(ids), faiss.swig_ptr(own))
    return index


def centres_of(index: FaissObject) -> Vectors:
    """Copy the centres of an IVF index.

    Args:
        index: A ``faiss.IndexIVFFlat`` over an ``IndexFlatIP``.

    Returns:
        Shape (C, D), float32, unit rows.
    """
    faiss = require_package("faiss", "cpu")
    centres = faiss.rev_swig_ptr(faiss.downcast_index(index.quantizer).get_xb(), index.nlist * index.d)
    return np.array(centres, dtype=np.float32).reshape(index.nlist, index.d)


def search_cells(
    index: FaissObject, centres: Vectors, queries: Vectors, count: int, probed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Search the cells nearest to each query.

    FAISS would hold every query against the centres by itself, which takes longer than the cells do.

    Args:
        index: The IVF index.
        centres: Shape (C, D), float32, unit rows: its ``centres_of``.
        queries: Shape (Q, D), float32, unit rows.
        count: How many rows a query wants, at least 1.
        probed: Into how many cells to look, 1 to C.

    Returns:
        Scores (Q, count), float32, falling, and ids (Q, count), int64; -1 where fewer rows were found.

    Raises:
        MissingPackageError: If FAISS is not installed.
    """
    faiss = require_package("faiss", "cpu")
    near, cells = (np.ascontiguousarray(part) for part in best_places(centres, queries, probed))
    asked = np.ascontiguousarray(queries)
    scores = np.empty((len(queries), count), dtype=np.float32)
    found = np.empty((len(queries), count), dtype=np.int64)
    pointers = [faiss.swig_ptr(part) for part in (cells, near, scores, found)]
    limits = faiss.SearchParametersIVF(nprobe=probed)
    index.search_preassigned_c(len(asked), faiss.swig_ptr(asked), count, *pointers, False, limits)
    return scores, found


def train_centres(vectors: Vectors, count: int, rounds: int, seed: int, advance: Advance) -> Vectors:
    """Find centres so that the rows lie near their own one.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        count: C, at most N.
        rounds: How often rows are sorted to centres and centres moved to their rows' mean.
        seed: Chooses the first centres.
        advance: Is told of progress; ``rounds`` times N rows in all.

    Returns:
        Shape (C, D), float32, unit rows.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:count])
    centres = vectors[chosen]
    for _ in range(rounds):
        scores, cells = nearest_centres(vectors, centres, advance)
        centres = _means(vectors, scores, cells, count)
    return centres


def nearest_centres(
    vectors: Vectors, centres: Vectors, advance: Advance
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find each row's nearest centre.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        centres: Shape (C, D), float32, unit rows.
        advance: Is told of progress; N rows in all.

    Returns:
        Scores (N,), float32, and which centres (N,), int64.
    """
    scores, cells = np.empty(len(vectors), dtype=np.float32), np.empty(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), _ROWS):
        products = vectors[start : start + _ROWS] @ centres.T
        best = products.argmax(axis=1)
        cells[start : start + _ROWS] = best
        scores[start : start + _ROWS] = np.take_along_axis(products, best[:, None], axis=1)[:, 0]
        advance(len(products))
    return scores, cells


def _means(vectors: Vectors, scores: NDArray[np.float32], cells: NDArray[np.int64], count: int) -> Vectors:
    """Move each of ``count`` centres to the mean of its rows (N, D); empty cells begin anew at the loneliest rows."""
    sizes = np.bincount(cells, minlength=count)
    full = np.flatnonzero(sizes)
    order = np.argsort(cells, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes[full])[:-1]])
    centres = np.empty((count, vectors.shape[1]), dtype=np.float32)
    centres[full] = np.add.reduceat(vectors[order], starts, axis=0)
    empty = np.flatnonzero(sizes == 0)
    centres[empty] = vectors[np.argsort(scores, kind="stable")[: len(empty)]]
    opposed = ~centres.any(axis=1)  # rows that cancel out have no direction in common
    centres[opposed, 0] = 1.0
    return normalised(centres)


TARGETS: Mapping[QueryKind, float] = MappingProxyType({"image": 0.99, "text": 0.99})
"""Share of the ten true neighbours that is to be found.

Some real texts are harder than all that stands for them here: where those reach 0.99, tiny-clip's captions reach 0.96.
"""

QUERIES = 256
_COUNT = 10  # neighbours: the usual recall@10
_SLACK = 1e-5  # scores that differ by less are one score
_SAMPLE_SEED = 20_011

Search: TypeAlias = Callable[[Vectors, int, int], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""From queries (Q, D), how many neighbours and a width to scores and places, both (Q, K), places -1 for none."""


def measure_efforts(search: Search, vectors: Vectors, places: NDArray[np.int64], widths: Iterable[int]) -> Efforts:
    """Find the least width that reaches the targets, for images and for texts.

    Queries are rows of the gallery, moved as rows differ; the row itself does not count as found. Directions that know
    nothing of the rows stand for texts: the gallery's own encoder is not at hand here. What is found has to pass the
    target by the error of the measurement.

    Args:
        search: The index.
        vectors: Shape (N, D), float32, unit rows.
        places: Shape (Q,), int64: which rows to ask for.
        widths: Rising; where none of them reaches a target, the last one is taken.

    Returns:
        Kind of query to effort.
    """
    tried = list(widths)
    images = like_images(vectors, places, _SAMPLE_SEED)
    texts = any_directions(len(places), vectors.shape[1], _SAMPLE_SEED)
    nobody = np.full_like(places, -1)
    asked: dict[QueryKind, tuple[Vectors, NDArray[np.int64]]] = {"image": (images, places), "text": (texts, nobody)}
    return {kind: _least(search, vectors, own, queries, tried, TARGETS[kind]) for kind, (queries, own) in asked.items()}


def _least(
    search: Search,
    vectors: Vectors,
    places: NDArray[np.int64],
    queries: Vectors,
    widths: list[int],
    target: float,
) -> Effort:
    """Try widths until queries (Q, D) made of the rows at places (Q,), -1 for none, find the share ``target``."""
    count = min(_COUNT, len(vectors) - 1)
    worst = _others(*best_places(vectors, queries, count + 1), places)[:, count - 1 : count]  # the last one's score
    for width in widths:
        own = _others(*search(queries, count + 1, width), places)[:, :count]
        found = (own >= worst - _SLACK).mean(axis=1) if count else np.ones(len(queries))
        recall, error = float(found.mean()), float(found.std() / np.sqrt(len(found)))
        if recall - error >= target:
            break
    return Effort(width, recall, len(queries), len(vectors))


def _others(scores: NDArray[np.float32], places: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.float32]:
    """Drop the row that a query was made of: scores and places (Q, K), own (Q,), to scores (Q, K), falling."""
    kept = np.where((places == own[:, None]) | (places < 0), -np.inf, scores)
    return np.asarray(-np.sort(-kept, axis=1), dtype=np.float32)


ApproximateKind: TypeAlias = Literal["hnsw", "ivf"]

_LINKS = 32  # of a node to others in the HNSW graph; more finds more and takes longer to build
_BUILD_WIDTH = 80  # candidates looked at while a node is linked
_WIDEST = 4096  # candidates at most that a search of the graph looks at
_SEED = 1234


class ApproximateIndex:
    """An HNSW or IVF index whose entries carry the gallery's ids.

    Args:
        kind: Which.
        index: The FAISS index.
        ids: Shape (N,), int64, rising: the gallery's.
        efforts: How far to look, by kind of query; without, as far as the index itself says.
    """

    def __init__(
        self, kind: ApproximateKind, index: FaissObject, ids: NDArray[np.int64], efforts: Efforts = NO_EFFORTS
    ) -> None:
        self.kind: ApproximateKind = kind
        self.efforts = efforts
        self._faiss = require_package("faiss", "cpu")
        self._index: FaissObject = index
        self._ids = ids
        self._centres = centres_of(index) if kind == "ivf" else np.zeros((0, 0), dtype=np.float32)

    @classmethod
    def build(cls, kind: ApproximateKind, vectors: Vectors, ids: NDArray[np.int64]) -> "ApproximateIndex":
        """Make an index.

        Args:
            kind: Which.
            vectors: Shape (N, D), float32, unit rows.
            ids: Shape (N,), int64, rising.

        Returns:
            The index; equal input gives an equal one.

        Raises:
            MissingPackageError: If FAISS is not installed.
        """
        known = np.random.default_rng(_SEED).permutation(len(vectors))
        asked, rest = np.sort(known[:QUERIES]), known[QUERIES:] if len(vectors) > 2 * QUERIES else known
        with build_progress(f"building {kind}", len(vectors)) as advance:
            match kind:
                case "hnsw":
                    index = _graph(vectors, ids)
                case "ivf":
                    index = filled_cells(vectors, ids, rest, _SEED, advance)
            built = cls(kind, index, ids)
            built.efforts = measure_efforts(built.search_within, vectors, asked, built.widths())
        _set_width(index, kind, built.efforts["image"].width)  # for other programs that read the file
        return built

    @classmethod
    def from_bytes(
        cls,
        kind: ApproximateKind,
        data: bytes,
        vectors: Vectors,
        ids: NDArray[np.int64],
        efforts: Efforts = NO_EFFORTS,
    ) -> "ApproximateIndex":
        """Read ``faiss.index`` and check that it holds exactly these vectors under these ids.

        Args:
            kind: Which.
            data: The bytes of the file.
            vectors: Shape (N, D), float32, unit rows.
            ids: Shape (N,), int64, rising.
            efforts: What was measured when it was built.

        Returns:
            The index.

        Raises:
            MissingPackageError: If FAISS is not installed.
            ValueError: If the bytes are no such index.
        """
        index = read_index(data, vectors.shape)
        match kind:
            case "hnsw":
                checked_hnsw(index, vectors, ids)
            case "ivf":
                checked_ivf(index, vectors, ids)
        return cls(kind, index, ids, efforts)

    def search(
        self, queries: Vectors, count: int, kind: QueryKind = "image"
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find rows with large inner products; mostly, but not surely, the largest.

        Args:
            queries: Shape (Q, D), float32, unit rows.
            count: How many rows a query wants, 1 to N.
            kind: What the queries are: texts are looked for in more places.

        Returns:
            Scores (Q, count), float32, falling, and places (Q, count), int64; -1 where fewer rows were found.
        """
        width = self.efforts[kind].width if kind in self.efforts else self._own_width()
        return self.search_within(queries, count, width)

    def search_within(self, queries: Vectors, count: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find rows with large inner products, looking at a given number of cells or candidates.

        Args:
            queries: Shape (Q, D), float32, unit rows.
            count: How many rows a query wants, 1 to N.
            width: Cells (``nprobe``) or candidates (``efSearch``), at least 1.

        Returns:
            Scores (Q, count), float32, falling, and places (Q, count), int64; -1 where fewer rows were found.
        """
        scores, found = self._look(queries, count, width)
        short = np.flatnonzero(found[:, -1] < 0)
        if self.kind == "ivf" and short.size:  # the cells held too few rows: look into all of them
            scores[short], found[short] = self._look(queries[short], count, self._index.nlist)
        places = np.where(found < 0, -1, np.searchsorted(self._ids, found))
        return scores, places.astype(np.int64)

    def widths(self) -> list[int]:
        """Return the widths that are tried when the index is built, rising; the last one is all there is to look at."""
        largest = self._index.nlist if self.kind == "ivf" else max(1, min(_WIDEST, len(self._ids)))
        steps = [round(2 ** (step / 3)) for step in range(3 * largest.bit_length())]
        return [width for width in dict.fromkeys(steps) if width < largest] + [largest]

    def _look(self, queries: Vectors, count: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return scores (Q, count) and ids (Q, count), -1 for none, for queries (Q, D)."""
        match self.kind:
            case "hnsw":
                limits = self._faiss.SearchParametersHNSW(efSearch=min(width, _WIDEST))
                scores, found = self._index.search(queries, count, params=limits)
                return scores, found
            case "ivf":
                return search_cells(self._index, self._centres, queries, count, min(width, self._index.nlist))

    def _own_width(self) -> int:
        match self.kind:
            case "hnsw":
                return int(self._faiss.downcast_index(self._index.index).hnsw.efSearch)
            case "ivf":
                return int(self._index.nprobe)

    def updated(self, vectors: Vectors, ids: NDArray[np.int64]) -> "ApproximateIndex":
        """Return an index of other rows, made from this one where that is quicker.

        IVF drops and appends entries and keeps its cells; HNSW appends, and is made anew when rows are gone, for a
        graph cannot let go of a node.

        Args:
            vectors: Shape (M, D), float32, unit rows; a row with an id that is known is known too.
            ids: Shape (M,), int64, rising.

        Returns:
            The index; this one stays as it is.
        """
        gone, fresh = np.setdiff1d(self._ids, ids), np.flatnonzero(~np.isin(ids, self._ids))
        if gone.size and self.kind == "hnsw":
            return ApproximateIndex.build(self.kind, vectors, ids)
        index = self._faiss.clone_index(self._index)
        if gone.size:
            index.remove_ids(gone)
        if fresh.size:
            index.add_with_ids(vectors[fresh], ids[fresh])
        return ApproximateIndex(self.kind, index, ids, self.efforts)

    def to_bytes(self) -> bytes:
        """Return the index as the bytes of ``faiss.index``."""
        return bytes(self._faiss.serialize_index(self._index).tobytes())


def _graph(vectors: Vectors, ids: NDArray[np.int64]) -> FaissObject:
    """Make the HNSW graph of N vectors (N, D) under ids (N,)."""
    faiss = require_package("faiss", "cpu")
    graph = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = _BUILD_WIDTH
    index = faiss.IndexIDMap2(graph)
    graph.this.own(False)  # the map deletes it
    index.own_fields = True
    index.add_with_ids(vectors, ids)
    return index


def _set_width(index: FaissObject, kind: ApproximateKind, width: int) -> None:
    match kind:
        case "hnsw":
            require_package("faiss", "cpu").downcast_index(index.index).hnsw.efSearch = width
        case "ivf":
            index.nprobe = width


IndexChoice: TypeAlias = Literal["auto", "flat", "faiss", "exact", "hnsw", "ivf"]
"""What is asked for; "flat" and "faiss" are one: every row compared, by FAISS. "exact" is the same by NumPy."""

IndexKind: TypeAlias = Literal["faiss", "exact", "hnsw", "ivf"]
FLAT_ROWS = 100_000
"""Up to how many rows "auto" compares with all of them; docs/gallery.md has the times and the recall beyond."""

_LOG = logging.getLogger(__name__)
_SCAN_QUERIES = 2  # below this many queries FAISS's scan is as fast as anything: it reads each vector once
_FLAT_MARK = b"IxFI"  # how the bytes of a flat inner-product index start
_NO_FAISS = "FAISS is not installed: exact NumPy search; pip install 'naruto-vision[cpu]' for FAISS"


class VectorIndex(Protocol):
    """Finds the nearest of N unit rows. Rows are known by their place, 0 to N - 1."""

    @property
    def kind(self) -> IndexKind:
        """Which index this is."""
        ...

    @property
    def efforts(self) -> Efforts:
        """How far an approximate index looks, and what was measured of it."""
        ...

    def search(
        self, queries: Vectors, count: int, kind: QueryKind = "image"
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the rows with the largest inner products.

        Args:
            queries: Shape (Q, D), float32, unit rows.
            count: How many rows a query wants, 1 to N.
            kind: What the queries are; an approximate index looks further for texts.

        Returns:
            Scores (Q, count), float32, falling, and places (Q, count), int64; -1 where an approximate index found
            fewer rows.
        """
        ...

    def updated(self, vectors: Vectors, ids: NDArray[np.int64]) -> "VectorIndex":
        """Return an index of the same kind of a gallery's next generation; this one stays as it is.

        Args:
            vectors: Shape (M, D), float32, unit rows; rows with known ids are known.
            ids: Shape (M,), int64, rising.
        """
        ...

    def to_bytes(self) -> bytes | None:
        """Return the index as the bytes of ``faiss.index``, or None where there is nothing to store."""
        ...


class FaissIndex:
    """A flat inner-product index of FAISS.

    Args:
        index: A ``faiss.IndexFlatIP``; None makes one of the vectors.
        vectors: Shape (N, D), float32, unit rows.

    Raises:
        MissingPackageError: If FAISS is not installed.
    """

    kind: IndexKind = "faiss"
    efforts: Efforts = NO_EFFORTS

    def __init__(self, vectors: Vectors, index: FaissObject = None) -> None:
        self._faiss = require_package("faiss", "cpu")
        if index is None:
            index = self._faiss.IndexFlatIP(vectors.shape[1])
            index.add(vectors)
        self._index = index
        self._vectors = vectors

    @classmethod
    def from_bytes(cls, data: bytes, vectors: Vectors) -> "FaissIndex":
        """Read ``faiss.index`` and check that it holds exactly these vectors.

        Args:
            data: The bytes of the file.
            vectors: Shape (N, D), float32, unit rows.

        Returns:
            The index.

        Raises:
            MissingPackageError: If FAISS is not installed.
            ValueError: If the bytes are no flat inner-product index of these vectors.
        """
        # A length check before FAISS sees the bytes: its reader trusts the counts that they state.
        if not data.startswith(_FLAT_MARK) or not 0 <= len(data) - vectors.nbytes <= 256:
            msg = (
                f"a flat inner-product index of {vectors.nbytes} bytes was expected, {len(data)} bytes of another found"
            )
            raise ValueError(msg)
        index = read_index(data, vectors.shape)
        checked_flat(index, vectors)
        return cls(vectors, index)

    def search(
        self, queries: Vectors, count: int, kind: QueryKind = "image"
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the rows with the largest inner products.

        FAISS 1.15 scans query by query unless Q·D reaches 128,000, and its own product is slower than NumPy's; so
        FAISS answers a single query, for which a scan is best, and matrix products answer more. FAISS's settings,
        which are the whole process's, are left alone.

        Args:
            queries: Shape (Q, D), float32, unit rows.
            count: How many rows a query wants, 1 to N.
            kind: What the queries are; not looked at, for all rows are compared.

        Returns:
            Scores (Q, count), float32, falling, and places (Q, count), int64.
        """
        del kind
        if len(queries) >= _SCAN_QUERIES:
            return best_places(self._vectors, queries, count)
        scores, places = self._index.search(queries, count)
        return scores, places

    def updated(self, vectors: Vectors, ids: NDArray[np.int64]) -> "FaissIndex":
        """Return an index of other vectors.

        It is made anew, which is one copy of the vectors, no more than a clone to edit would be: so it is the index
        that a fresh gallery would have, and FAISS's habit of shifting places at a removal cannot matter.

        Args:
            vectors: Shape (M, D), float32, unit rows.
            ids: Shape (M,), int64; not looked at.
        """
        del ids
        return FaissIndex(vectors)

    def to_bytes(self) -> bytes:
        """Return the index as the bytes of ``faiss.index``."""
        return bytes(self._faiss.serialize_index(self._index).tobytes())


def choose_kind(choice: IndexChoice, rows: int = 0, stored: IndexKind | None = None) -> IndexKind:
    """Turn what the caller wants into what will search.

    Args:
        choice: "auto" is by size, or what a gallery was stored with; without FAISS it is "exact", logged.
        rows: How many rows are searched.
        stored: The kind that a gallery on disk has.

    Returns:
        The kind of index.

    Raises:
        MissingPackageError: If a kind of FAISS's is wanted and FAISS is not installed.
    """
    match choice:
        case "exact":
            return "exact"
        case "flat" | "faiss":
            require_package("faiss", "cpu")
            return "faiss"
        case "hnsw" | "ivf":
            require_package("faiss", "cpu")
            return choice
        case "auto":
            if not has_package("faiss"):
                _LOG.warning(_NO_FAISS)
                return "exact"
            if stored is not None and stored != "exact":
                return stored
            return "faiss" if rows <= FLAT_ROWS else "ivf"


def make_index(vectors: Vectors, kind: IndexKind, ids: NDArray[np.int64] | None = None) -> VectorIndex:
    """Make an index of vectors.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        kind: From ``choose_kind``.
        ids: Shape (N,), int64, rising: the gallery's; None numbers the rows.

    Returns:
        The index.

    Raises:
        MissingPackageError: If FAISS is wanted and not installed.
    """
    match kind:
        case "faiss":
            return FaissIndex(vectors)
        case "exact":
            return ExactIndex(vectors)
        case "hnsw" | "ivf":
            own = np.arange(len(vectors), dtype=np.int64) if ids is None else ids
            return ApproximateIndex.build(kind, vectors, own)


def read_stored(
    kind: IndexKind, data: bytes, vectors: Vectors, ids: NDArray[np.int64], efforts: Efforts = NO_EFFORTS
) -> VectorIndex:
    """Read an index that was stored, and check that it holds exactly the gallery's vectors.

    Args:
        kind: Which.
        data: The bytes of ``faiss.index``.
        vectors: Shape (N, D), float32, unit rows.
        ids: Shape (N,), int64, rising.
        efforts: What was measured when an approximate index was built.

    Returns:
        The index.

    Raises:
        MissingPackageError: If FAISS is not installed.
        ValueError: If the bytes are no such index of these vectors.
    """
    match kind:
        case "hnsw" | "ivf":
            return ApproximateIndex.from_bytes(kind, data, vectors, ids, efforts)
        case _:
            return FaissIndex.from_bytes(data, vectors)


_SPARE = 8  # rows beyond those asked for that the first look fetches
_CHUNK = 1 << 22  # numbers of float64 that scoring holds at once: 32 MiB


def exact_scores(vectors: Vectors, query: NDArray[np.float64]) -> NDArray[np.float32]:
    """Compute cosine similarities that depend on nothing but the two vectors.

    A matrix product adds in an order that changes with its size, so equal pairs score differently in different
    batches; this sums each pair on its own in double precision and rounds once.

    Args:
        vectors: Shape (..., D), float32, unit rows.
        query: Broadcastable with ``vectors``, float64, unit rows.

    Returns:
        Shape (...), float32, in [-1, 1].
    """
    products = (vectors.astype(np.float64) * query).sum(axis=-1)
    return np.asarray(np.clip(products, -1.0, 1.0), dtype=np.float32)


def nearest_rows(
    index: VectorIndex, vectors: Vectors, queries: Vectors, count: int, kind: QueryKind = "image"
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Find each query's nearest rows, ordered by score and, where scores are equal, by place.

    The index only proposes. It is asked for more rows until its last proposal scores below the last wanted one by
    more than float32 can err, so that rows with equal scores are all there to be ordered.

    Args:
        index: An index of ``vectors``.
        vectors: Shape (N, D), float32, unit rows.
        queries: Shape (Q, D), float32, unit rows.
        count: How many rows a query wants, at least 1; more than N gives N.
        kind: What the queries are; an approximate index looks further for texts.

    Returns:
        For each query its scores (K,), float32, falling, and places (K,), int64.
    """
    total, dim = vectors.shape
    wanted = min(count, total)
    slack = 2.0 * dim * float(np.finfo(np.float32).eps)
    found: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = [(np.zeros(0, np.float32), np.zeros(0, np.int64))]
    found *= len(queries)
    pending, width = np.arange(len(queries)), min(wanted + _SPARE, total)
    while pending.size:
        scores, places = index.search(queries[pending], width, kind)
        open_ended = (scores[:, -1] >= scores[:, wanted - 1] - slack) & (places[:, -1] >= 0) & (width < total)
        closed = np.flatnonzero(~open_ended)
        step = max(1, _CHUNK // (width * dim))
        for start in range(0, closed.size, step):
            part = closed[start : start + step]
            ordered = _order(vectors, queries[pending[part]], places[part], wanted)
            for place, answer in zip(pending[part].tolist(), ordered, strict=True):
                found[place] = answer
        pending, width = pending[open_ended], min(4 * width, total)
    return found


def _order(
    vectors: Vectors, queries: Vectors, places: NDArray[np.int64], wanted: int
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Score proposals (Q, W) anew and keep the best ``wanted`` of each query, without the empty ones (-1)."""
    scores = exact_scores(vectors[places], queries.astype(np.float64)[:, None, :])
    scores[places < 0] = -np.inf
    order = np.lexsort((places, -scores), axis=-1)[:, :wanted]
    scores, places = np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1)
    return [(row[place >= 0], place[place >= 0]) for row, place in zip(scores, places, strict=True)]
