"""Reading ``faiss.index``: nothing that FAISS read is searched before it was held against the gallery's vectors."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from naruto_vision.optional import require_package
from naruto_vision.records import Vectors

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
