"""What ``naruto-vision bench index`` compares: NumPy, FAISS as it is, and the gallery's own indexes."""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from naruto_vision.gallery.approximate import ApproximateIndex
    from naruto_vision.gallery.effort import QueryKind
    from naruto_vision.gallery.stores import VectorIndex
    from naruto_vision.records import Vectors

    Ask: TypeAlias = Callable[[Vectors, QueryKind], NDArray[np.int64]]

PLAIN = ("naive", "flat-default")
"""What needs nothing of ours."""


def build_ways(
    kinds: Sequence[str], vectors: "Vectors", count: int, widths: Sequence[int]
) -> "tuple[dict[str, Ask], dict[str, float]]":
    """Build indexes, and say on stderr how long that took and what was measured of them.

    Args:
        kinds: Of "naive", "flat-default", "flat", "hnsw" and "ivf".
        vectors: Shape (N, D), float32, unit rows.
        count: How many neighbours a query wants; more than N gives N.
        widths: How many cells or candidates approximate indexes shall look at, beside what was measured best; these
            answers are not scored anew.

    Returns:
        Name to what answers, and kind to the seconds that building took.

    Raises:
        MissingPackageError: If FAISS is needed and not installed.
    """
    from naruto_vision.gallery.approximate import ApproximateIndex

    k = min(count, len(vectors))
    found: dict[str, Ask] = {}
    built: dict[str, float] = {}
    for kind in dict.fromkeys(kinds):
        start = time.perf_counter()
        index = None if kind in PLAIN else _index(kind, vectors)
        found[kind] = _plain(kind, vectors, k) if index is None else partial(_ask, index, vectors, k)
        built[kind] = time.perf_counter() - start
        sys.stderr.write(f"{kind}: built in {built[kind]:.1f} s\n")
        if isinstance(index, ApproximateIndex):
            for query_kind, effort in index.efforts.items():
                facts = f"recall@10 {effort.recall:.4f} of {effort.queries} queries"
                sys.stderr.write(f"{kind}: looks at {effort.width} for {query_kind} queries ({facts} when built)\n")
            found |= {f"{kind} {width}": partial(_ask_within, index, k, width) for width in widths}
    return found, built


def _plain(kind: str, vectors: "Vectors", k: int) -> "Ask":
    """Return what finds the places (Q, k) of the nearest of N vectors without anything of ours."""
    import numpy as np

    from naruto_vision.optional import require_package

    if kind == "naive":
        return lambda queries, _: np.argsort(-(queries @ vectors.T), axis=1)[:, :k]
    plain = require_package("faiss", "cpu").IndexFlatIP(vectors.shape[1])
    plain.add(vectors)
    return lambda queries, _: plain.search(queries, k)[1]


def _index(kind: str, vectors: "Vectors") -> "VectorIndex":
    from naruto_vision.gallery.stores import IndexChoice, choose_kind, make_index

    choice: IndexChoice = "hnsw" if kind == "hnsw" else "ivf" if kind == "ivf" else "flat"
    return make_index(vectors, choose_kind(choice))


def _ask(
    index: "VectorIndex", vectors: "Vectors", k: int, queries: "Vectors", kind: "QueryKind"
) -> "NDArray[np.int64]":
    import numpy as np

    from naruto_vision.gallery.nearest import nearest_rows

    found = np.full((len(queries), k), -1, dtype=np.int64)  # where an approximate index finds fewer than k
    for row, (_, places) in zip(found, nearest_rows(index, vectors, queries, k, kind), strict=True):
        row[: len(places)] = places
    return found


def _ask_within(
    index: "ApproximateIndex", k: int, width: int, queries: "Vectors", _kind: "QueryKind"
) -> "NDArray[np.int64]":
    return index.search_within(queries, k, min(width, index.widths()[-1]))[1]
