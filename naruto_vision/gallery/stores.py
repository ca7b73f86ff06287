"""Where vectors are searched: FAISS, or plain NumPy where FAISS is not installed. Both give the same neighbours.

Galleries of many rows may trade some neighbours for speed: ``hnsw`` and ``ivf``, in ``approximate``.
"""

import logging
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from naruto_vision.gallery.approximate import ApproximateIndex
from naruto_vision.gallery.effort import NO_EFFORTS, Efforts, QueryKind
from naruto_vision.gallery.exact import ExactIndex, best_places
from naruto_vision.gallery.stored import FaissObject, checked_flat, read_index
from naruto_vision.optional import has_package, require_package
from naruto_vision.records import Vectors

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
