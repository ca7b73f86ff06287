"""Indexes for galleries that are too large to compare with row by row: HNSW and IVF, by FAISS, under stable ids.

Both only propose rows, which are then scored exactly. HNSW is a graph of neighbours (Malkov and Yashunin, 2016);
IVF sorts the rows into cells around k-means centres and looks into the cells nearest to a query. How far they look is
measured when they are built.
"""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from naruto_vision.gallery.cells import build_progress, centres_of, filled_cells, search_cells
from naruto_vision.gallery.effort import NO_EFFORTS, Efforts, QueryKind
from naruto_vision.gallery.measuring import QUERIES, measure_efforts
from naruto_vision.gallery.stored import FaissObject, checked_hnsw, checked_ivf, read_index
from naruto_vision.optional import require_package
from naruto_vision.records import Vectors

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
