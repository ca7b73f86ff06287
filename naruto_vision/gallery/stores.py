"""Where vectors are searched: FAISS, or plain NumPy where FAISS is not installed. Both give the same neighbours."""

import logging
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from naruto_vision.optional import has_package, require_package
from naruto_vision.records import Vectors

IndexChoice: TypeAlias = Literal["auto", "faiss", "exact"]
IndexKind: TypeAlias = Literal["faiss", "exact"]

_LOG = logging.getLogger(__name__)
_SCAN_QUERIES = 4  # below this many queries FAISS's one-by-one scan is faster than a matrix product
_BLOCK = 1 << 24  # scores held at once by the NumPy search: 64 MiB
_FLAT_MARK = b"IxFI"  # how the bytes of a flat inner-product index start


class VectorIndex(Protocol):
    """Finds the nearest of N unit rows. Rows are known by their place, 0 to N - 1."""

    kind: IndexKind

    def search(self, queries: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the rows with the largest inner products.

        Args:
            queries: Shape (Q, D), float32, unit rows.
            count: How many rows a query wants, 1 to N.

        Returns:
            Scores (Q, count), float32, falling, and places (Q, count), int64; -1 where an approximate index found
            fewer rows.
        """
        ...

    def to_bytes(self) -> bytes | None:
        """Return the index as the bytes of ``faiss.index``, or None where there is nothing to store."""
        ...


class ExactIndex:
    """Every inner product, by NumPy.

    Args:
        vectors: Shape (N, D), float32, unit rows.
    """

    kind: IndexKind = "exact"

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def search(self, queries: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the rows with the largest inner products.

        Args:
            queries: Shape (Q, D), float32, unit rows.
            count: How many rows a query wants, 1 to N.

        Returns:
            Scores (Q, count), float32, falling, and places (Q, count), int64.
        """
        step = max(1, _BLOCK // len(self._vectors))
        blocks = [self._block(queries[start : start + step], count) for start in range(0, len(queries), step)]
        return np.concatenate([scores for scores, _ in blocks]), np.concatenate([places for _, places in blocks])

    def _block(self, queries: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        products = queries @ self._vectors.T
        places = np.argpartition(products, -count, axis=1)[:, -count:] if count < len(self._vectors) else None
        if places is None:
            places = np.broadcast_to(np.arange(count), products.shape)
        scores = np.take_along_axis(products, places, axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1).astype(np.int64)

    def to_bytes(self) -> None:
        """Return None: the vectors are the index."""
        return


class FaissIndex:
    """A flat inner-product index of FAISS.

    Args:
        index: A ``faiss.IndexFlatIP``; None makes one of the vectors.
        vectors: Shape (N, D), float32, unit rows.

    Raises:
        MissingPackageError: If FAISS is not installed.
    """

    kind: IndexKind = "faiss"

    def __init__(self, vectors: Vectors, index: Any = None) -> None:  # noqa: ANN401 - FAISS ships no types
        self._faiss = require_package("faiss", "cpu")
        if index is None:
            index = self._faiss.IndexFlatIP(vectors.shape[1])
            index.add(vectors)
        self._index = index

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
        faiss = require_package("faiss", "cpu")
        # A length check before FAISS sees the bytes: its reader trusts the counts that they state.
        if not data.startswith(_FLAT_MARK) or not 0 <= len(data) - vectors.nbytes <= 256:
            msg = (
                f"a flat inner-product index of {vectors.nbytes} bytes was expected, {len(data)} bytes of another found"
            )
            raise ValueError(msg)
        limit = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(len(data))
        try:
            index = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        except RuntimeError as error:
            raise ValueError(str(error).splitlines()[0]) from None
        finally:
            faiss.set_deserialization_vector_byte_limit(limit)
        if (index.ntotal, index.d, index.metric_type) != (*vectors.shape, faiss.METRIC_INNER_PRODUCT):
            msg = f"an index of ({index.ntotal}, {index.d}) vectors instead of {vectors.shape}"
            raise ValueError(msg)
        stored = faiss.rev_swig_ptr(index.get_xb(), vectors.size)
        if stored.tobytes() != vectors.tobytes():
            msg = "other vectors than those of embeddings.npy"
            raise ValueError(msg)
        return cls(vectors, index)

    def search(self, queries: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the rows with the largest inner products.

        FAISS 1.15 scans query by query unless Q·D reaches 128,000, five to fifteen times slower than a matrix
        product; so the bar is lowered for this call. Threads are left alone: FAISS and PyTorch share their setting.

        Args:
            queries: Shape (Q, D), float32, unit rows.
            count: How many rows a query wants, 1 to N.

        Returns:
            Scores (Q, count), float32, falling, and places (Q, count), int64.
        """
        settings = self._faiss.cvar
        usual = settings.distance_compute_blas_threshold
        settings.distance_compute_blas_threshold = _SCAN_QUERIES * queries.shape[1]
        try:
            scores, places = self._index.search(queries, count)
        finally:
            settings.distance_compute_blas_threshold = usual
        return scores, places

    def to_bytes(self) -> bytes:
        """Return the index as the bytes of ``faiss.index``."""
        return bytes(self._faiss.serialize_index(self._index).tobytes())


def choose_kind(choice: IndexChoice) -> IndexKind:
    """Turn what the caller wants into what will search.

    Args:
        choice: "auto" is FAISS where it is installed, and says so in the log where it is not.

    Returns:
        The kind of index.

    Raises:
        MissingPackageError: If "faiss" is wanted and not installed.
    """
    match choice:
        case "exact":
            return "exact"
        case "faiss":
            require_package("faiss", "cpu")
            return "faiss"
        case "auto":
            if has_package("faiss"):
                return "faiss"
            _LOG.warning("FAISS is not installed: exact NumPy search; pip install 'naruto-vision[cpu]' for FAISS")
            return "exact"


def make_index(vectors: Vectors, kind: IndexKind) -> VectorIndex:
    """Make an index of vectors.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        kind: From ``choose_kind``.

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
