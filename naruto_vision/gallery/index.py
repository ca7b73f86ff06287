"""Nearest-neighbour search over a gallery's unit vectors: every row by NumPy, or IVF and HNSW by FAISS.

FAISS only selects candidates. Scores are computed again from the vectors, so each depends on its two vectors alone.
The vectors may be a mapped file: they are read in blocks, and nothing is as large as all of them but the index.
"""

import io
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, BinaryIO, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import first_line
from naruto_vision.io.blocks import Blocks, FileBlocks
from naruto_vision.io.machine import has_package, require_package
from naruto_vision.records import Vectors

FaissIndex: TypeAlias = Any
"""An untyped FAISS object."""

IndexChoice: TypeAlias = Literal["auto", "flat", "faiss", "exact", "hnsw", "ivf", "sq", "pq"]
"""Index kinds of the callers: "flat" and "faiss" both compare every row; "exact" is the same and stores no index."""

IndexKind: TypeAlias = Literal["faiss", "exact", "hnsw", "ivf", "sq", "pq"]
"""Kinds of a ``VectorIndex``."""

QueryKind: TypeAlias = Literal["image", "text"]
"""Text vectors are far from image vectors, so their neighbours need a larger search budget."""

FLAT_ROWS = 100_000
"""Maximum number of rows for which "auto" is flat; docs/gallery.md has times and recall above."""
IVF_ROWS = 1_000_000
"""Maximum number of rows for which "auto" is IVF with whole vectors; above it is "pq", whose index is much smaller."""
TARGET_RECALL: Mapping[QueryKind, float] = MappingProxyType({"image": 0.99, "text": 0.97})
"""Recall@10 that the search budget of a kind of query is chosen for. Neighbours of a text lie in many cells: 0.99 would
take 1.6 times the cells of 0.97, and be less than 20 times as fast as flat at a million rows."""

_LOG = logging.getLogger(__name__)
_NO_FAISS = "FAISS is not installed: exact NumPy search; pip install 'naruto-vision[cpu]' for FAISS"
_FACTORY = {  # FAISS's index_factory strings
    "ivf": "IVF{cells},Flat",
    "sq": "IVF{cells},SQ8",
    "pq": "IVF{cells},PQ{parts}x4",
    "hnsw": "IDMap2,HNSW32",
}
_CELLS = {"ivf": 4.0, "sq": 4.0, "pq": 0.5, "hnsw": 0.0}  # for each square root of a row; codes are compared fast
_CELL_POINTS = 40  # training rows of a cell
_PQ_PART = 4  # numbers of a vector that share 4 bits of its code; with 8 bits for 8, FAISS trains for minutes
_EF_CONSTRUCTION = 80
_EF_LEAST = 16  # FAISS's default; less suffices while measuring on few rows, but misses rows in the full index
_EF_LIMIT = 4096
_HELD_OUT = 256  # rows that the search budget is measured with
_RECALL_AT = 10
_SEED = 1234
_OWN_CODES = 0.75
_SAMPLE = 1000  # stored vectors compared with the gallery's when an index is opened

_BLOCK = 16_384  # rows of a matrix product: its scores for 256 queries, 16 MiB, stay in a cache
_QUERIES = 256
_GROUP = 64  # neighbouring scores per group; the first selection compares group maxima
_GPU_MOST = 2048  # neighbours, and IVF cells, of a search on a GPU
_SPARE = 8  # candidate rows beyond k at first
_GAIN = 0.005  # of recall@10, below which a wider search of "pq" is not worth its time
_PQ_CANDIDATES = 256  # rows of "pq" whose exact scores are compared, for any smaller k
_ADDED = 65_536  # rows that are added at once
_RESCORED = 1 << 22  # float64 numbers that rescoring holds at once: 32 MiB


_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True)
class SearchBudget:
    """The ``nprobe`` (IVF) or ``efSearch`` (HNSW) of a query, and its measured recall."""

    width: _Count
    recall: Annotated[float, msgspec.Meta(ge=0, le=1)]
    queries: _Count
    rows: _Count

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values of ``faiss_meta.json``."""
        return {**asdict(self), "recall": round(self.recall, 4)}


Budgets: TypeAlias = Mapping[QueryKind, SearchBudget]
NO_BUDGETS: Budgets = MappingProxyType({})


@dataclass(frozen=True)
class IndexMeta:
    """The contents of ``faiss_meta.json``; ``efforts`` are the budgets of both kinds of query, once measured."""

    metric: Literal["ip", "l2"]
    kind: Literal["flat", "hnsw", "ivf", "sq", "pq"]
    dim: int
    size: int
    efforts: Annotated[dict[QueryKind, SearchBudget], msgspec.Meta(min_length=2)] | None = None

    @property
    def budgets(self) -> Budgets:
        """The search budgets; none of an index that was not measured."""
        return self.efforts or NO_BUDGETS


def choose_kind(choice: IndexChoice, rows: int = 0, stored: IndexKind | None = None) -> IndexKind:
    """Resolve "auto" by the stored kind or the number of rows; without FAISS it is "exact", which is logged."""
    if choice == "exact":
        return "exact"
    if choice != "auto":
        require_package("faiss", "cpu")
        return "faiss" if choice == "flat" else choice
    if not has_package("faiss"):
        _LOG.warning(_NO_FAISS)
        return "exact"
    if stored is not None and stored != "exact":
        return stored
    return "faiss" if rows <= FLAT_ROWS else "ivf" if rows <= IVF_ROWS else "pq"


def exact_search(
    vectors: Vectors, queries: Vectors, k: int, without: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the rows of (N, D) with the largest products with (Q, D): scores (Q, k), falling, and rows (Q, k).

    Rows of ``without`` (M,), rising, are passed over.
    """
    scores, rows = np.empty((len(queries), k), dtype=np.float32), np.empty((len(queries), k), dtype=np.int64)
    for first in range(0, len(queries), _QUERIES):
        part, found = slice(first, first + _QUERIES), []
        for start in range(0, len(vectors), _BLOCK):
            products = _products(np.asarray(vectors[start : start + _BLOCK]), queries[part])
            if without is not None:
                first_out, last_out = np.searchsorted(without, (start, start + _BLOCK))
                products[without[first_out:last_out] - start] = -np.inf
            best, inside = _best_of_block(products, k)
            found.append((best, inside + start))
        candidates, where = (np.concatenate(column, axis=1) for column in zip(*found, strict=True))
        best, where = _largest(candidates, where, k)
        order = np.lexsort((where, -best), axis=1)
        scores[part], rows[part] = np.take_along_axis(best, order, 1), np.take_along_axis(where, order, 1)
    return scores, rows


def _products(vectors: Vectors, queries: Vectors) -> NDArray[np.float32]:
    """Multiply a block (N, D) with queries (Q, D): (N, Q).

    BLAS reorders the rows of a large product first, which costs as much as four queries; products of 16 rows skip that.
    """
    if len(vectors) % 16 or not 1 < len(queries) <= 40:
        return np.asarray(vectors @ queries.T)
    return np.asarray((vectors.reshape(-1, 16, vectors.shape[1]) @ queries.T).reshape(len(vectors), -1))


def _best_of_block(products: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the best k of each column of (N, Q), unordered, with their rows: (Q, at most k).

    A row among the best k lies in one of the k groups of 64 with the largest maxima, so only those are partitioned.
    """
    rows, queries = products.shape
    if rows % _GROUP or 4 * k > rows // _GROUP:
        return _largest(np.ascontiguousarray(products.T), np.broadcast_to(np.arange(rows), (queries, rows)), k)
    grouped = products.reshape(-1, _GROUP, queries)
    chosen = np.argpartition(np.ascontiguousarray(grouped.max(axis=1).T), -k, axis=1)[:, -k:]
    candidates = grouped[chosen, :, np.arange(queries)[:, None]].reshape(queries, -1)
    return _largest(candidates, (chosen[:, :, None] * _GROUP + np.arange(_GROUP)).reshape(queries, -1), k)


def _largest(
    scores: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Keep the largest k of each line of (Q, N), unordered, with their rows."""
    if k >= scores.shape[1]:
        return scores, rows
    kept = np.argpartition(scores, -k, axis=1)[:, -k:]
    return np.take_along_axis(scores, kept, axis=1), np.take_along_axis(rows, kept, axis=1)


def exact_scores(vectors: Vectors, query: NDArray[np.float64]) -> NDArray[np.float32]:
    """Compute cosines (...) of (..., D) that depend on the two vectors alone: summed in float64, rounded once.

    The sums of a matrix product change with its size, so equal pairs would score differently in different batches.
    """
    products = (vectors.astype(np.float64) * query).sum(axis=-1)
    return np.asarray(np.clip(products, -1.0, 1.0), dtype=np.float32)


@cache
def has_gpus() -> bool:
    """Return whether FAISS has a GPU; where it was installed for one and finds none, that is logged once."""
    if not has_package("faiss"):
        return False
    faiss = require_package("faiss", "cpu")
    if not hasattr(faiss, "StandardGpuResources"):  # FAISS for a CPU alone
        return False
    if not faiss.get_num_gpus():
        _LOG.warning("faiss-gpu finds no GPU: search on the CPU")
        return False
    return True


def on_gpus(index: FaissIndex) -> FaissIndex | None:
    """Copy a flat or IVF index to the GPUs, in shards if there are several; None, which is logged, if it cannot be."""
    faiss = require_package("faiss", "cpu")
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True  # several GPUs divide the rows, instead of a copy of all for each
    try:
        return faiss.index_cpu_to_all_gpus(index, co=options)
    except RuntimeError as error:  # mostly its memory
        _LOG.warning("the index does not fit on the GPU: search on the CPU (%s)", first_line(error))
        return None


class VectorIndex:
    """Finds the nearest of N unit rows: "faiss" (flat) and "exact" compare every row, the other kinds most of them.

    ``index`` is the FAISS index of an approximate kind; its entries carry ``ids`` (N,), rising. ``budgets`` is how
    much of it a query examines; by default FAISS's own ``nprobe`` or ``efSearch``.
    """

    def __init__(
        self,
        kind: IndexKind,
        vectors: Vectors,
        ids: NDArray[np.int64],
        index: FaissIndex = None,
        budgets: Budgets = NO_BUDGETS,
        file: Path | None = None,
    ) -> None:
        self.kind, self.vectors, self.ids, self.budgets, self._index = kind, vectors, ids, budgets, index
        self._file = file  # that ``index`` is mapped from

    @classmethod
    def build(
        cls,
        kind: IndexKind,
        vectors: Vectors,
        ids: NDArray[np.int64] | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> "VectorIndex":
        """Index vectors (N, D) under rising ids (N,), by default 0 to N - 1.

        An approximate index is built without 256 rows at first: they measure its search budget, then they are added.
        ``advance`` is called with the rows that are indexed so far, and all rows.
        """
        ids = np.arange(len(vectors), dtype=np.int64) if ids is None else ids
        if kind in ("faiss", "exact"):
            return cls(kind, vectors, ids)
        order = np.random.default_rng(_SEED).permutation(len(vectors))
        held, rest = (np.sort(part) for part in np.split(order, [min(_HELD_OUT, len(vectors) // 2)]))
        index = _trained(kind, vectors, rest)
        if len(vectors) > FLAT_ROWS:
            _LOG.info("building the %s index of %d vectors; this takes minutes", kind, len(vectors))
        for start in range(0, len(rest), _ADDED):
            part = rest[start : start + _ADDED]
            index.add_with_ids(vectors[part], ids[part])
            if advance is not None:
                advance(start + len(part), len(vectors))
        budgets = cls(kind, vectors, ids, index)._measured(held)
        if len(held):
            index.add_with_ids(vectors[held], ids[held])
        built = cls(kind, vectors, ids, index, budgets)  # again, as one on a GPU has no rows that are added later
        built._set_own_width(built.budgets["image"].width)
        return built

    @classmethod
    def read(
        cls, kind: IndexKind, data: bytes, vectors: Vectors, ids: NDArray[np.int64], budgets: Budgets = NO_BUDGETS
    ) -> "VectorIndex":
        """Read ``faiss.index`` and check that it is an index of these vectors under these ids.

        The bytes are untrusted: FAISS gets an allocation limit, and the index is checked before it is searched. A flat
        index is not read, because the vectors are the index.
        """
        if kind in ("faiss", "exact"):
            if not (
                data.startswith(b"IxFI") and len(data) <= vectors.nbytes + 256 and data.endswith(vectors.tobytes())
            ):
                raise ValueError(f"{len(data)} bytes that are no flat inner-product index of these vectors")
            return cls(kind, vectors, ids)
        try:
            with _byte_limit(len(data)):
                index = _read(io.BytesIO(data))
                _check_index(index, kind, vectors, ids)
        except (RuntimeError, MemoryError) as error:
            raise ValueError(first_line(error)) from None
        return cls(kind, vectors, ids, index, budgets)

    @classmethod
    def map(
        cls, kind: IndexKind, file: Path, vectors: Vectors, ids: NDArray[np.int64], budgets: Budgets = NO_BUDGETS
    ) -> "VectorIndex":
        """Open ``faiss.index`` as ``read`` does, with its inverted lists left in the file."""
        if kind in ("faiss", "exact"):
            return cls(kind, vectors, ids, file=file)
        try:
            with _byte_limit(file.stat().st_size), file.open("rb") as stream:
                index = _read(stream) if kind == "hnsw" else _mapped(stream, file)
                _check_index(index, kind, vectors, ids)
        except (RuntimeError, MemoryError) as error:
            raise ValueError(first_line(error)) from None
        return cls(kind, vectors, ids, index, budgets, file)

    def search(
        self, queries: Vectors, k: int, kind: QueryKind = "image", width: int | None = None
    ) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Find the k nearest rows of each query (Q, D), by falling score and, where scores are equal, rising row.

        More candidates are fetched until the last one scores below the k-th by more than the float32 error, so that
        neither the batch nor k changes the result. ``width`` replaces the measured search budget.
        """
        total, dim = self.vectors.shape
        wanted = min(k, total)
        slack = 2.0 * dim * float(np.finfo(np.float32).eps)
        found = [(np.zeros(0, np.float32), np.zeros(0, np.int64))] * len(queries)
        least = _PQ_CANDIDATES if self.kind == "pq" else 0
        pending, count = np.arange(len(queries)), min(max(wanted + _SPARE, least), total)
        while pending.size:
            scores, rows = self.propose(queries[pending], count, kind, width)
            unclear = (scores[:, -1] >= scores[:, wanted - 1] - slack) & (rows[:, -1] >= 0) & (count < total)
            clear, step = np.flatnonzero(~unclear), max(1, _RESCORED // (count * dim))
            for part in (clear[start : start + step] for start in range(0, clear.size, step)):
                results = _rescored(self.vectors, queries[pending[part]], rows[part], wanted)
                for query, result in zip(pending[part].tolist(), results, strict=True):
                    found[query] = result
            pending, count = pending[unclear], min(4 * count, total)
        return found

    def propose(
        self, queries: Vectors, count: int, kind: QueryKind, width: int | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return scores (Q, count), falling, and rows (Q, count), -1 where fewer were found."""
        if self._index is None:
            if count > _GPU_MOST or self._gpus is None:
                return exact_search(self.vectors, queries, count)
            scores, found = self._gpus.search(queries, count)
            return scores, found
        if width is None and kind in self.budgets:
            width = self.budgets[kind].width
        scores, found = self._candidates(queries, count, width)
        short = np.flatnonzero(found[:, -1] < 0)
        if self.kind != "hnsw" and short.size:  # the probed cells have too few rows: probe all of them
            scores[short], found[short] = self._candidates(queries[short], count, self._index.nlist)
        rows = np.minimum(np.searchsorted(self.ids, found), len(self.ids) - 1)
        return scores, np.where(self.ids[rows] == found, rows, -1)

    @cached_property
    def _gpus(self) -> FaissIndex | None:
        """The index on the GPUs; None without them, for kinds that have none there, and for a mapped file."""
        if self.kind in ("exact", "hnsw", "pq") or self._file is not None or not has_gpus():
            return None
        return on_gpus(self._flat() if self._index is None else self._index)

    def _flat(self) -> FaissIndex:
        index = require_package("faiss", "cpu").IndexFlatIP(self.vectors.shape[1])
        index.add(self.vectors)
        return index

    def _candidates(
        self, queries: Vectors, count: int, width: int | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search the approximate index: scores (Q, count) and ids (Q, count)."""
        if self._gpus is None or max(count, width or 1) > _GPU_MOST:
            scores, found = self._index.search(queries, count, params=self._parameters(width))
            return scores, found
        space = require_package("faiss", "cpu").GpuParameterSpace()  # shards take no parameters with a search
        space.set_index_parameter(self._gpus, "nprobe", min(width or self._index.nprobe, self._index.nlist))
        scores, found = self._gpus.search(queries, count)
        return scores, found

    def _parameters(self, width: int | None) -> FaissIndex:
        faiss = require_package("faiss", "cpu")
        if width is None:
            return None
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=min(width, _EF_LIMIT))
        return faiss.SearchParametersIVF(nprobe=min(width, self._index.nlist))

    def _set_own_width(self, width: int) -> None:
        """Store the search budget in the FAISS index too, for other programs that read the file."""
        if self.kind == "hnsw":
            require_package("faiss", "cpu").downcast_index(self._index.index).hnsw.efSearch = width
        else:
            self._index.nprobe = width

    def widths(self) -> list[int]:
        """Return the search budgets that are tried, rising, up to the maximum."""
        least, largest = (_EF_LEAST, min(_EF_LIMIT, len(self.ids))) if self.kind == "hnsw" else (1, self._index.nlist)
        steps = [round(2 ** (step / 3)) for step in range(3 * largest.bit_length())]
        return [width for width in dict.fromkeys(steps) if least <= width < largest] + [max(least, largest)]

    def _measured(self, held: NDArray[np.int64]) -> Budgets:
        """Measure the budgets while the index lacks the rows ``held`` (M,): with those, and for texts.

        Random directions are used as texts: the encoder is not available here, and a text's neighbours lie in many
        cells because it names some features, not one image.
        """
        images = self.vectors[held] if len(held) else np.asarray(self.vectors)
        texts = np.random.default_rng(_SEED).standard_normal(images.shape, dtype=np.float32)
        texts /= np.linalg.norm(texts, axis=1, keepdims=True)
        return {
            "image": self._least_budget(held, images, TARGET_RECALL["image"]),
            "text": self._least_budget(held, texts, TARGET_RECALL["text"]),
        }

    def _least_budget(self, held: NDArray[np.int64], queries: Vectors, target: float) -> SearchBudget:
        """Find the smallest budget whose recall@10 exceeds the target by the standard error of the measurement.

        The codes of "pq" lose neighbours that no wider search brings back: there the search also ends where twice the
        width gains less than ``_GAIN``.
        """
        k = min(_RECALL_AT, len(self.vectors) - len(held))
        lowest = exact_search(self.vectors, queries, k, held)[0][:, -1] - 1e-5
        found: dict[int, float] = {}
        for width in self.widths():
            results = self.search(queries, k, width=width)
            hits = np.array([(scores >= low).sum() / k for (scores, _), low in zip(results, lowest, strict=True)])
            found[width] = float(hits.mean())
            halves = [recall for other, recall in found.items() if other <= width / 2]
            if hits.mean() - hits.std() / np.sqrt(len(hits)) >= target:
                break
            if self.kind == "pq" and halves and found[width] - halves[-1] < _GAIN:
                break
        return SearchBudget(width, found[width], len(queries), len(self.ids))

    def updated(self, vectors: Vectors, ids: NDArray[np.int64]) -> "VectorIndex":
        """Return an index of the gallery's next generation: rows (M, D) under rising ids (M,); known ids keep theirs.

        IVF removes and appends entries; HNSW appends, and is rebuilt after removals.
        """
        if self._index is None:
            return VectorIndex(self.kind, vectors, ids)
        gone, fresh = np.setdiff1d(self.ids, ids), np.flatnonzero(~np.isin(ids, self.ids))
        if gone.size and self.kind == "hnsw":
            return VectorIndex.build(self.kind, vectors, ids)
        index = self._copy()
        if gone.size:
            index.remove_ids(gone)
        if fresh.size:
            index.add_with_ids(vectors[fresh], ids[fresh])
        return VectorIndex(self.kind, vectors, ids, index, self.budgets)

    def _copy(self) -> FaissIndex:
        """Return a copy in memory of the approximate index."""
        if self._file is None:
            return require_package("faiss", "cpu").clone_index(self._index)
        with _byte_limit(self._file.stat().st_size), self._file.open("rb") as stream:
            return _read(stream)

    def to_blocks(self) -> Blocks | None:
        """Return the content of ``faiss.index``; None for "exact", which stores none."""
        if self.kind == "exact":
            return None
        if self._file is not None:
            return FileBlocks(self._file)
        faiss = require_package("faiss", "cpu")
        index = self._flat() if self._index is None else self._index
        return [memoryview(faiss.serialize_index(index))]


def _trained(kind: IndexKind, vectors: Vectors, rest: NDArray[np.int64]) -> FaissIndex:
    """Make an empty FAISS index, with centroids and codes learnt from a sample of the rows ``rest`` (M,)."""
    faiss = require_package("faiss", "cpu")
    dim = vectors.shape[1]
    cells = max(1, min(round(_CELLS[kind] * np.sqrt(len(vectors))), len(rest) // 39))  # FAISS wants 39 rows a cell
    parts = next(parts for parts in range(max(1, dim // _PQ_PART), 0, -1) if dim % parts == 0)
    index = faiss.index_factory(dim, _FACTORY[kind].format(cells=cells, parts=parts), faiss.METRIC_INNER_PRODUCT)
    if kind == "hnsw":
        faiss.downcast_index(index.index).hnsw.efConstruction = _EF_CONSTRUCTION
        return index
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, _CELL_POINTS
    count = cells * _CELL_POINTS
    if kind == "pq":
        index.pq.cp.min_points_per_centroid = 1
        count = max(count, index.pq.ksub * index.pq.cp.max_points_per_centroid)
    chosen = np.random.default_rng(_SEED).permutation(len(rest))[:count]
    sample = vectors[np.sort(rest[chosen])]
    if kind == "pq" and len(sample) < index.pq.ksub:  # FAISS wants as many rows as a code has values
        sample = np.tile(sample, (index.pq.ksub, 1))
    index.train(sample)
    return index


@contextmanager
def _byte_limit(size: int) -> Iterator[None]:
    """Limit what FAISS allocates for each array of a file to its size."""
    faiss = require_package("faiss", "cpu")
    limit = faiss.get_deserialization_vector_byte_limit()
    faiss.set_deserialization_vector_byte_limit(size)
    try:
        yield
    finally:
        faiss.set_deserialization_vector_byte_limit(limit)


_LISTS = b"ilar"
"""FAISS's mark of inverted lists inside of an index."""


def _reader(stream: BinaryIO, marks: list[bytes], *, whole: bool = True) -> FaissIndex:
    """Let FAISS read a stream, up to the inverted lists if not ``whole``; ``marks`` gets what its parts are.

    Lists of other kinds name a file, which FAISS maps whatever it is: reading ends there.
    """

    def read(size: int) -> bytes:
        if _LISTS in marks:
            return stream.read(size) if whole else b""
        data = stream.read(size)
        if size == len(_LISTS) and data.isalnum():
            marks.append(data)
            if data.startswith(b"il") and marks[1:] != [b"IxFI", _LISTS]:
                return b""
        return data

    return require_package("faiss", "cpu").PyCallbackIOReader(read)


def _read(stream: BinaryIO) -> FaissIndex:
    """Read an index whole; no other file that it names."""
    return require_package("faiss", "cpu").read_index(_reader(stream, []))


def _mapped(stream: BinaryIO, file: Path) -> FaissIndex:
    """Open an IVF index with its inverted lists left in the file, after a look at what comes before them."""
    faiss, marks = require_package("faiss", "cpu"), list[bytes]()
    with suppress(RuntimeError):  # the file seems to end at its lists
        faiss.read_index(_reader(stream, marks, whole=False))
    lists = int.from_bytes(stream.read(8), "little")  # as many as centroids, which the file has
    if marks[1:] != [b"IxFI", _LISTS] or lists > file.stat().st_size:
        raise ValueError(f"{b' '.join(marks).decode()[:60]!r} of {lists} lists instead of an IVF index with its lists")
    return faiss.read_index(str(file), faiss.IO_FLAG_MMAP)


def _rescored(
    vectors: Vectors, queries: Vectors, rows: NDArray[np.int64], wanted: int
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Score candidates (Q, W) and keep the best of each query, without the empty ones (-1)."""
    scores = exact_scores(vectors[rows], queries.astype(np.float64)[:, None, :])
    scores[rows < 0] = -np.inf
    order = np.lexsort((rows, -scores), axis=-1)[:, :wanted]
    scores, rows = np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
    return [(one[row >= 0], row[row >= 0]) for one, row in zip(scores, rows, strict=True)]


def _check_index(index: FaissIndex, kind: IndexKind, vectors: Vectors, ids: NDArray[np.int64]) -> None:
    """Check the type, size and a sample of the entries of a FAISS index; raise ValueError otherwise."""
    faiss = require_package("faiss", "cpu")
    types = {
        "ivf": faiss.IndexIVFFlat,
        "sq": faiss.IndexIVFScalarQuantizer,
        "pq": faiss.IndexIVFPQ,
        "hnsw": faiss.IndexIDMap2,
    }
    size = (index.ntotal, index.d, index.metric_type)
    usable = index.is_trained and getattr(index, "nprobe", 1) > 0
    if type(index) is not types[kind] or size != (*vectors.shape, faiss.METRIC_INNER_PRODUCT) or not usable:
        msg = f"{type(index).__name__} of ({index.ntotal}, {index.d}) vectors instead of {kind} of {vectors.shape}"
        raise ValueError(msg)
    inner = faiss.downcast_index(index.index if kind == "hnsw" else index.quantizer)
    entries = len(ids) if kind == "hnsw" else index.nlist
    if type(inner) is not (faiss.IndexHNSWFlat if kind == "hnsw" else faiss.IndexFlatIP) or (
        (inner.ntotal, inner.d) != (entries, index.d)
    ):
        raise ValueError(f"{type(inner).__name__} of ({inner.ntotal}, {inner.d}) inside {kind} of {entries} entries")
    if kind == "pq" and (index.pq.nbits, index.pq.M * index.pq.dsub) != (4, index.d):  # FAISS makes tables of these
        raise ValueError(f"codes of {index.pq.M} parts of {index.pq.nbits} bits instead of 4 bits")
    if kind != "hnsw":
        index.set_direct_map_type(faiss.DirectMap.Hashtable)
    sample = np.unique(np.linspace(0, len(ids) - 1, _SAMPLE).astype(np.int64))
    stored = index.reconstruct_batch(ids[sample])
    if kind != "hnsw":
        index.set_direct_map_type(faiss.DirectMap.NoMap)
    own, cosines = vectors[sample], (stored * vectors[sample]).sum(axis=1)
    if kind == "pq":  # codes are coarse, but most are nearer to their own vector than to another
        same = np.mean(cosines >= (stored * np.roll(own, 1, axis=0)).sum(axis=1)) >= _OWN_CODES
    else:
        same = (cosines > 0.5).all() if kind == "sq" else (stored == own).all()
    if not same:
        raise ValueError("other vectors than those of embeddings.npy")
