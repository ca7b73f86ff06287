"""Indexes for galleries that are too large to compare with row by row: HNSW and IVF, by FAISS, under stable ids.

Both only propose rows, which are then scored exactly. HNSW is a graph of neighbours (Malkov and Yashunin, 2016);
IVF sorts the rows into cells around k-means centres and looks into the cells nearest to a query.
"""

import math
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from naruto_vision.gallery.stored import FaissObject, checked_hnsw, checked_ivf, read_index
from naruto_vision.optional import require_package
from naruto_vision.records import Vectors

ApproximateKind: TypeAlias = Literal["hnsw", "ivf"]

_LINKS = 32  # of a node to others in the HNSW graph; more finds more and takes longer to build
_BUILD_WIDTH = 80  # candidates looked at while a node is linked
_SEARCH_WIDTH = 128  # candidates looked at while a query is answered
_CELLS = 4.0  # cells for each square root of a row, as FAISS's own guidelines have it
_PROBED = 1 / 64  # share of the cells that a query looks into; docs/gallery.md has the recall
_LEAST_PROBED = 16
_TRAINED_ON = 50  # rows for each cell that the k-means sees
_ROUNDS = 10  # of the k-means; later ones move the centres little


class ApproximateIndex:
    """An HNSW or IVF index whose entries carry the gallery's ids.

    Args:
        kind: Which.
        index: The FAISS index.
        ids: Shape (N,), int64, rising: the gallery's.
    """

    def __init__(self, kind: ApproximateKind, index: FaissObject, ids: NDArray[np.int64]) -> None:
        self.kind: ApproximateKind = kind
        self._faiss = require_package("faiss", "cpu")
        self._index: FaissObject = index
        self._ids = ids

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
        faiss = require_package("faiss", "cpu")
        match kind:
            case "hnsw":
                graph = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
                graph.hnsw.efConstruction, graph.hnsw.efSearch = _BUILD_WIDTH, _SEARCH_WIDTH
                index = faiss.IndexIDMap2(graph)
                graph.this.own(False)  # the map deletes it
                index.own_fields = True
            case "ivf":
                index = _trained_cells(vectors)
        index.add_with_ids(vectors, ids)
        return cls(kind, index, ids)

    @classmethod
    def from_bytes(
        cls, kind: ApproximateKind, data: bytes, vectors: Vectors, ids: NDArray[np.int64]
    ) -> "ApproximateIndex":
        """Read ``faiss.index`` and check that it holds exactly these vectors under these ids.

        Args:
            kind: Which.
            data: The bytes of the file.
            vectors: Shape (N, D), float32, unit rows.
            ids: Shape (N,), int64, rising.

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
        return cls(kind, index, ids)

    def search(self, queries: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find rows with large inner products; mostly, but not surely, the largest.

        Args:
            queries: Shape (Q, D), float32, unit rows.
            count: How many rows a query wants, 1 to N.

        Returns:
            Scores (Q, count), float32, falling, and places (Q, count), int64; -1 where fewer rows were found.
        """
        scores, found = self._index.search(queries, count)
        short = np.flatnonzero(found[:, -1] < 0)
        if self.kind == "ivf" and short.size:  # the cells held too few rows: look into all of them
            everywhere = self._faiss.SearchParametersIVF(nprobe=self._index.nlist)
            scores[short], found[short] = self._index.search(queries[short], count, params=everywhere)
        places = np.where(found < 0, -1, np.searchsorted(self._ids, found))
        return scores, places.astype(np.int64)

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
        return ApproximateIndex(self.kind, index, ids)

    def to_bytes(self) -> bytes:
        """Return the index as the bytes of ``faiss.index``."""
        return bytes(self._faiss.serialize_index(self._index).tobytes())


def _trained_cells(vectors: Vectors) -> FaissObject:
    """Make an empty IVF index with cells for N vectors (N, D)."""
    faiss = require_package("faiss", "cpu")
    rows, dim = vectors.shape
    cells = max(1, min(round(_CELLS * math.sqrt(rows)), rows // 39))  # 39: below, FAISS calls a k-means starved
    quantizer = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFFlat(quantizer, dim, cells, faiss.METRIC_INNER_PRODUCT)
    quantizer.this.own(False)  # the index deletes it
    index.own_fields = True
    index.cp.spherical, index.cp.niter, index.cp.seed = True, _ROUNDS, 1234
    index.cp.max_points_per_centroid = _TRAINED_ON
    index.train(vectors)
    index.nprobe = min(cells, max(_LEAST_PROBED, round(cells * _PROBED)))
    return index
