"""``naruto-vision bench index``; and what all benchmarks share: interleaved timing, GEMM rate, machine and report."""

import argparse
import gc
import os
import platform
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from naruto_vision.cli.console import count, make_table, show, whole_number
from naruto_vision.cli.trainer_args import gallery_place
from naruto_vision.errors import InputError
from naruto_vision.io.machine import allowed_cpus, installed_versions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from naruto_vision.encoders.base import Encoder
    from naruto_vision.gallery.index import IndexChoice, QueryKind, VectorIndex
    from naruto_vision.records import Vectors

    Search: TypeAlias = Callable[[Vectors, QueryKind], NDArray[np.int64]]

GEMM_SIDE = 1024
_PACKAGES = ("numpy", "torch", "faiss-cpu", "open_clip_torch", "timm", "lightning")
KINDS = ("naive", "flat-default", "flat", "hnsw", "ivf", "sq", "pq")
_COMPARED = ["naive", "flat-default", "flat", "ivf"]

_CHARACTERS, _IMAGES = 100, 8  # of --encoder: characters, and images of each that the rows are resampled from
_SIDE = 96  # pixels of a synthetic image
_NOISE = 0.35  # length of the noise added to a unit vector for a query: a cosine of 0.94
_CHARACTER = 2000  # rows of one character in a large gallery; a series has few characters and many frames
_LEAST_CHARACTERS = 8
# Shares of a random vector's squared length, and how fast the variance falls along the axes. So chosen, same-character
# cosines, nearest neighbours and the effective dimension within a character are about those of tiny-clip's vectors of
# 560 images of 12 characters.
_COMMON, _BETWEEN, _WITHIN = 0.40, 0.49, 0.11
_FALL_BETWEEN, _FALL_WITHIN = 1.0, 1.25
_GAP = 1.0  # length of the offset of texts from images, which are unit vectors
_ROWS_AT_ONCE = 65_536
_JITTER = 0.5  # of the spread within a character, added to a resampled row: no two rows are equal


@dataclass(frozen=True)
class Timing:
    """Wall time and CPU time of the process for each repeat, in seconds; CPU time says more if cores are shared.

    Examples:
        >>> Timing((3.0, 1.0, 2.0), (1.0, 1.0, 1.0)).median
        2.0
    """

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.seconds or len(self.seconds) != len(self.cpu_seconds):
            raise ValueError(
                f"timing: expected as many, found {len(self.seconds)} wall times and {len(self.cpu_seconds)} CPU times"
            )

    @property
    def median(self) -> float:
        """Median wall time."""
        return statistics.median(self.seconds)

    @property
    def cpu_median(self) -> float:
        """Median CPU time."""
        return statistics.median(self.cpu_seconds)

    def as_json(self) -> dict[str, Any]:
        """Return the values of a report, in seconds."""
        return {
            "median_s": self.median,
            "min_s": min(self.seconds),
            "max_s": max(self.seconds),
            "cpu_median_s": self.cpu_median,
            "repeats": len(self.seconds),
        }


def interleaved(
    candidates: Mapping[str, Callable[[], object]], repeats: int = 5, warm_up: int = 1
) -> dict[str, Timing]:
    """Time candidates in turns, so that a machine that slows down slows all of them; warm-up rounds are not timed.

    Every other round is in reverse order, so that no candidate always runs after the same other one.
    """
    if repeats < 1:
        raise ValueError(f"interleaved: expected repeats >= 1, found {repeats}")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    gc.collect()
    gc.freeze()  # what is there already would be visited by each collection below
    for round_ in range(-warm_up, repeats):
        for name in list(candidates)[:: -1 if round_ % 2 else 1]:
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            candidates[name]()
            took = (time.perf_counter() - wall, time.process_time() - cpu)
            if round_ >= 0:
                times[name].append(took)
    return {name: Timing(tuple(t[0] for t in took), tuple(t[1] for t in took)) for name, took in times.items()}


def gemm_rate(library: Literal["numpy", "torch"] = "numpy", repeats: int = 5) -> float:
    """Measure the current speed of the machine: the best of some square float32 matrix products, in GFLOP/s."""
    import numpy as np

    left: Any = np.random.default_rng(0).normal(size=(GEMM_SIDE, GEMM_SIDE)).astype(np.float32)
    if library == "torch":
        import torch

        left = torch.from_numpy(left)
    times = interleaved({"product": lambda: left @ left}, repeats)["product"]
    return 2.0 * GEMM_SIDE**3 / min(times.seconds) / 1e9


def machine_facts() -> dict[str, Any]:
    """Return the conditions of a timing: processor, cores, thread settings and versions."""
    return {
        "machine": platform.machine(),
        "cores": allowed_cpus(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "python": platform.python_version(),
        "versions": installed_versions(_PACKAGES),
    }


def write_report(path: str | Path, bench: str, settings: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Write a benchmark's JSON file; an older one is replaced."""
    from naruto_vision.io.atomic import write_json

    write_json(path, {"bench": bench, "machine": machine_facts(), "settings": dict(settings), "results": dict(results)})


def _index_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--gallery", type=gallery_place, metavar="DIR", help="search this gallery (default: random vectors)")
    text = (
        "search vectors resampled from this encoder's vectors of synthetic characters; queries are further images and, "
        "with --text-queries, captions"
    )
    add("--encoder", metavar="NAME", help=text)
    add("--vectors", type=count, default=100_000, metavar="N", help="number of vectors")
    add("--dim", type=count, default=512, metavar="D", help="dimension of random vectors")
    add("--queries", type=count, default=500, metavar="Q", help="number of queries")
    add("--batch", type=whole_number, default=0, metavar="B", help="queries per call; 0 for all at once")
    add("-k", "--top-k", type=count, default=5, metavar="K", help="neighbours per query")
    add("--seed", type=whole_number, default=42, metavar="N", help="random seed of vectors and queries")
    add("--repeats", type=count, default=5, metavar="N", help="timed rounds")
    text = (
        f"indexes to compare, of {', '.join(KINDS)}: naive is one NumPy product and a sort, flat-default a plain "
        "faiss.IndexFlatIP, the others as in `gallery reindex`; speedups are relative to the first "
        f"(default: {' '.join(_COMPARED)})"
    )
    add("--kinds", nargs="+", choices=KINDS, default=_COMPARED, metavar="KIND", help=text)
    text = (
        "also search in these vector stores as galleries in them are searched: faiss:DIR, chroma:DIR, "
        "chroma+http://HOST:PORT, milvus:FILE.db, milvus+http://HOST:PORT; the vectors are deleted there afterwards"
    )
    add("--store", nargs="+", default=[], metavar="URI", help=text)
    text = "also search ivf and sq with these nprobe and hnsw with these efSearch, without exact re-scoring"
    add("--widths", nargs="+", type=count, default=[], metavar="W", help=text)
    text = "use entries of the gallery as queries, as the reference system does (default: hold them out)"
    add("--self-match", action="store_true", help=text)
    add("--text-queries", action="store_true", help="also search with texts, or with vectors that simulate them")
    add("--json-out", type=Path, metavar="FILE", help="also write the results to this file")


def bench_index(arguments: argparse.Namespace) -> int:
    """Build the indexes, time them in turns, compare their neighbours."""
    if arguments.encoder and (arguments.gallery or arguments.self_match):
        msg = "--encoder: expected neither --gallery nor --self-match with it; it has vectors and queries of its own"
        raise InputError(msg)
    data, texts = _data(arguments)
    with ExitStack() as stores:
        searches, built = _searches(arguments, data.vectors)
        for uri in dict.fromkeys(arguments.store):
            start = time.perf_counter()
            searches[uri] = stores.enter_context(_in_store(uri, data.vectors, min(arguments.top_k, len(data.vectors))))
            built[uri] = time.perf_counter() - start
            sys.stderr.write(f"{uri}: filled in {built[uri]:.1f} s\n")
        _report(arguments, data, texts, searches, built)
    return 0


def _report(
    arguments: argparse.Namespace,
    data: "BenchData",
    texts: "tuple[Vectors, str] | None",
    searches: "Mapping[str, Search]",
    built: Mapping[str, float],
) -> None:
    """Time the searches, and show and write their times and recall."""
    rate = gemm_rate()
    results: dict[str, Any] = {"gemm_gflops": rate, "build_s": built, "rows": len(data.vectors)}
    kinds: Mapping[QueryKind, tuple[Vectors, str]] = {
        "image": (data.queries, data.source),
        **({"text": texts} if texts else {}),
    }
    for kind, (queries, source) in kinds.items():
        results[kind] = {"source": source, "queries": len(queries), **_measure(arguments, searches, queries, kind)}
        show(_table(kind, results[kind], arguments.top_k, len(data.vectors)))
    show(f"NumPy multiplied at {rate:.0f} GFLOP/s in this run")
    if arguments.json_out:
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
        write_report(arguments.json_out, "index", settings, results)


@dataclass(frozen=True)
class BenchData:
    """Rows (N, D) to search, queries (Q, D), both unit rows, and where they come from."""

    vectors: "Vectors"
    queries: "Vectors"
    source: str


def _data(arguments: argparse.Namespace) -> "tuple[BenchData, tuple[Vectors, str] | None]":
    if arguments.encoder:
        from naruto_vision.encoders.opening import open_encoder

        data, texts = encoded_data(
            open_encoder(arguments.encoder), arguments.vectors, arguments.queries, arguments.seed
        )
        if arguments.text_queries and texts is None:
            raise InputError(f"--encoder {arguments.encoder} --text-queries: it has no text tower; omit --text-queries")
        return data, texts if arguments.text_queries else None
    if arguments.gallery is None:
        data = random_data(arguments.vectors, arguments.dim, arguments.queries, arguments.seed)
        if arguments.self_match:
            data = self_match(data.vectors, arguments.queries, arguments.seed)
    else:
        from naruto_vision.gallery.gallery import Gallery

        vectors = Gallery.open(arguments.gallery, index="exact").vectors
        data = (self_match if arguments.self_match else held_out)(vectors, arguments.queries, arguments.seed)
    if not arguments.text_queries:
        return data, None
    stand_in = "image queries moved by a random offset and noise, to simulate texts"
    texts = _label_texts(arguments) if arguments.gallery else None
    return data, texts or (shifted(data.queries, arguments.seed), stand_in)


def _label_texts(arguments: argparse.Namespace) -> "tuple[Vectors, str] | None":
    """Embed the gallery's labels in prompt templates, if its encoder is available and has a text tower."""
    from naruto_vision.encoders.opening import recorded_encoder
    from naruto_vision.encoders.prompts import TEMPLATES
    from naruto_vision.gallery.gallery import Gallery

    gallery = Gallery.open(arguments.gallery, index="exact")
    if not gallery.note.get("encoder"):
        return None
    encoder = recorded_encoder(arguments.gallery, gallery.note["encoder"], gallery.fingerprint)
    if not encoder.has_text:
        return None
    texts = [template.format(label) for label in gallery.labels for template in TEMPLATES]
    return encoder.encode_texts(texts).detach().cpu().numpy(), f"{len(texts)} texts of {len(gallery.labels)} labels"


def _searches(arguments: argparse.Namespace, vectors: "Vectors") -> "tuple[dict[str, Search], dict[str, float]]":
    """Build the indexes: name to search function, and kind to build time in seconds."""
    from naruto_vision.gallery.index import VectorIndex, choose_kind

    k = min(arguments.top_k, len(vectors))
    found: dict[str, Search] = {}
    built: dict[str, float] = {}
    for kind in dict.fromkeys(arguments.kinds):
        start = time.perf_counter()
        if kind in ("naive", "flat-default"):
            found[kind] = _plain(kind, vectors, k)
        else:
            index = VectorIndex.build(choose_kind(cast("IndexChoice", kind)), vectors)
            found[kind] = partial(_search, index, k)
        built[kind] = time.perf_counter() - start
        sys.stderr.write(f"{kind}: built in {built[kind]:.1f} s\n")
        if kind in ("hnsw", "ivf", "sq", "pq"):
            for query_kind, budget in index.budgets.items():
                facts = f"recall@10 {budget.recall:.4f} of {budget.queries} queries"
                sys.stderr.write(f"{kind}: {budget.width} for {query_kind} queries ({facts} when built)\n")
            found |= {f"{kind} {width}": partial(_propose, index, k, width) for width in arguments.widths}
    return found, built


def _plain(kind: str, vectors: "Vectors", k: int) -> "Search":
    """Return a search that uses no code of this project."""
    import numpy as np

    from naruto_vision.io.machine import require_package

    if kind == "naive":
        return lambda queries, _: np.argsort(-(queries @ vectors.T), axis=1)[:, :k]
    plain = require_package("faiss", "cpu").IndexFlatIP(vectors.shape[1])
    plain.add(vectors)
    return lambda queries, _: plain.search(queries, k)[1]


def _search(index: "VectorIndex", k: int, queries: "Vectors", kind: "QueryKind") -> "NDArray[np.int64]":
    import numpy as np

    found = np.full((len(queries), k), -1, dtype=np.int64)  # an approximate index may find fewer than k
    for row, (_, rows) in zip(found, index.search(queries, k, kind), strict=True):
        row[: len(rows)] = rows
    return found


@contextmanager
def _in_store(uri: str, vectors: "Vectors", k: int) -> "Iterator[Search]":
    """Put the vectors into a new collection of a store, which is deleted at the end."""
    import numpy as np

    from naruto_vision.gallery.stored import search_collection
    from naruto_vision.gallery.vector_store import BATCH, open_store

    def search(queries: "Vectors", _: "QueryKind") -> "NDArray[np.int64]":
        found = np.full((len(queries), k), -1, dtype=np.int64)
        for row, hits in zip(found, search_collection(collection, queries, k, lambda hit: int(hit.id)), strict=True):
            row[: len(hits)] = [number for _, number in hits]
        return found

    name = f"bench index {uuid.uuid4().hex[:12]}"
    with open_store(uri) as store:
        collection = store.create(name, {"dim": vectors.shape[1]})
        try:
            for start in range(0, len(vectors), BATCH):
                numbers = range(start, min(start + BATCH, len(vectors)))
                facts = [{"row": number} for number in numbers]
                collection.add([f"{number:019}" for number in numbers], vectors[start : numbers.stop], facts)
            yield search
        finally:
            store.delete(name)


def _propose(index: "VectorIndex", k: int, width: int, queries: "Vectors", kind: "QueryKind") -> "NDArray[np.int64]":
    return index.propose(queries, k, kind, width)[1]


def _measure(
    arguments: argparse.Namespace, searches: "Mapping[str, Search]", queries: "Vectors", query_kind: "QueryKind"
) -> dict[str, Any]:
    import numpy as np

    step = arguments.batch or len(queries)
    found: dict[str, NDArray[np.int64]] = {}

    def search(kind: str) -> None:
        parts = [searches[kind](queries[start : start + step], query_kind) for start in range(0, len(queries), step)]
        found[kind] = np.concatenate(parts)

    times = interleaved({kind: partial(search, kind) for kind in searches}, arguments.repeats)
    first = next(iter(searches))
    exact = next((kind for kind in ("flat", "flat-default", "naive") if kind in found), first)
    truth = found[exact]
    return {
        "truth": exact,
        "kinds": {
            kind: {
                **_figures(timing, len(queries), times[first]),
                "top1_same": int((found[kind][:, 0] == truth[:, 0]).sum()),
                "all_same": int((found[kind] == truth).all(axis=1).sum()),
                "recall": recall(found[kind], truth),
            }
            for kind, timing in times.items()
        },
    }


def _figures(timing: "Timing", queries: int, baseline: "Timing") -> dict[str, Any]:
    return {
        **timing.as_json(),
        "ms_per_query": 1000.0 * timing.median / queries,
        "cpu_ms_per_query": 1000.0 * timing.cpu_median / queries,
        "times_as_fast": baseline.median / timing.median,
        "times_as_fast_cpu": baseline.cpu_median / timing.cpu_median if timing.cpu_median else None,
    }


def _table(kind: str, found: Mapping[str, Any], k: int, rows: int) -> "Table":
    queries = found["queries"]
    title = f"{rows} vectors, {queries} {kind} queries ({found['source']}); ground truth: {found['truth']}"
    heads = ("index", "ms/query", "CPU", "speedup", "CPU", "same top 1", f"same top {k}", f"recall@{k}")
    return make_table(heads, (_row(name, one, queries) for name, one in found["kinds"].items()), title)


def _row(name: str, one: Mapping[str, Any], queries: int) -> tuple[str, ...]:
    by_cpu = one["times_as_fast_cpu"]
    return (
        name,
        f"{one['ms_per_query']:.4f}",
        f"{one['cpu_ms_per_query']:.4f}",
        f"{one['times_as_fast']:.2f}",
        "-" if by_cpu is None else f"{by_cpu:.2f}",
        f"{one['top1_same']}/{queries}",
        f"{one['all_same']}/{queries}",
        f"{one['recall']:.4f}",
    )


def member_sampler(rows: int, dim: int, rng: "np.random.Generator") -> "tuple[Callable[[int], Vectors], int]":
    """Return a function that samples a number of images of random characters, and how many characters there are."""
    import numpy as np

    count = max(_LEAST_CHARACTERS, rows // _CHARACTER)
    common = normalised(rng.standard_normal(size=(1, dim), dtype=np.float32)) * np.float32(np.sqrt(_COMMON))
    means = common + _falling(count, dim, _BETWEEN, _FALL_BETWEEN, rng)
    axes = rng.permutation(dim)  # within-character variance lies along other axes than between-character variance

    def members(number: int) -> "Vectors":
        chosen = means[rng.integers(len(means), size=number)]
        chosen[:, axes] += _falling(number, dim, _WITHIN, _FALL_WITHIN, rng)
        return normalised(chosen)

    return members, count


def random_data(rows: int, dim: int, queries: int, seed: int) -> BenchData:
    """Sample vectors distributed like an encoder's: few characters of many images; queries are held-out images."""
    import numpy as np

    from naruto_vision.gallery.index import exact_search

    members, count = member_sampler(rows, dim, np.random.default_rng(seed))
    vectors = np.concatenate([members(min(_ROWS_AT_ONCE, rows - start)) for start in range(0, rows, _ROWS_AT_ONCE)])
    query_rows = members(queries)
    nearest = exact_search(vectors, query_rows[:200], min(10, rows))[0]
    first, last = float(np.median(nearest[:, 0])), float(np.median(nearest[:, -1]))
    text = f"{count} random characters; cosine of the first neighbour {first:.2f}, of the tenth {last:.2f} (medians)"
    return BenchData(vectors, query_rows, text)


def encoded_data(
    encoder: "Encoder", rows: int, queries: int, seed: int
) -> "tuple[BenchData, tuple[Vectors, str] | None]":
    """Embed synthetic images and resample many rows from them; queries are further images or captions."""
    import numpy as np

    from naruto_vision.encoders.base import embed_images
    from naruto_vision.synthetic.attributes import random_attributes
    from naruto_vision.synthetic.captions import caption
    from naruto_vision.synthetic.dataset import seed_of
    from naruto_vision.synthetic.scene import draw_image

    rng = np.random.default_rng([4, seed])
    cast_ = [random_attributes(rng) for _ in range(_CHARACTERS)]
    known, query_labels = np.arange(_CHARACTERS * _IMAGES) % _CHARACTERS, np.arange(queries) % _CHARACTERS
    images = [
        draw_image(cast_[who], seed_of("bench index", seed, number), _SIDE).image
        for number, who in enumerate([*known.tolist(), *query_labels.tolist()])
    ]
    vectors, further = np.split(embed_images(encoder, images).numpy(), [len(known)])
    made = f"{len(known)} synthetic images of {_CHARACTERS} characters, resampled with their covariance"
    data = BenchData(grown(vectors, known, rows, seed), further, f"{queries} further images; rows: {made}")
    if not encoder.has_text:
        return data, None
    texts = [caption(cast_[who], rng) for who in query_labels.tolist()]
    return data, (encoder.encode_texts(texts).detach().cpu().numpy(), f"{len(set(texts))} captions by its text tower")


def grown(vectors: "Vectors", labels: "NDArray[np.int64]", rows: int, seed: int) -> "Vectors":
    """Resample many rows from the few (P, D) of labels (P,), with their means and covariances (smoothed bootstrap).

    In large galleries there are further characters, with the covariance of the known means.
    """
    import numpy as np

    rng = np.random.default_rng([3, seed])
    sums = np.zeros((int(labels.max()) + 1, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, labels, vectors)
    means = np.asarray(sums / np.bincount(labels)[:, None], dtype=np.float32)
    moves, others = vectors - means[labels], max(0, rows // _CHARACTER - len(means))
    centroids = np.concatenate([means, means.mean(axis=0) + _alike(means - means.mean(axis=0), others, rng)])
    found = np.empty((rows, vectors.shape[1]), dtype=np.float32)
    for start in range(0, rows, _ROWS_AT_ONCE):
        count = min(_ROWS_AT_ONCE, rows - start)
        moved = centroids[rng.integers(len(centroids), size=count)] + moves[rng.integers(len(moves), size=count)]
        found[start : start + count] = normalised(moved + np.float32(_JITTER) * _alike(moves, count, rng))
    return found


def held_out(vectors: "Vectors", queries: int, seed: int) -> BenchData:
    """Hold out rows of a gallery, at most half, as queries."""
    import numpy as np

    count = max(1, min(queries, len(vectors) // 2))
    order = np.random.default_rng(seed).permutation(len(vectors))
    text = f"{count} of the gallery's entries, held out"
    return BenchData(np.ascontiguousarray(vectors[np.sort(order[count:])]), vectors[order[:count]], text)


def self_match(vectors: "Vectors", queries: int, seed: int) -> BenchData:
    """Query a gallery with its own rows, as the reference system's benchmark does."""
    import numpy as np

    chosen = np.random.default_rng(seed).permutation(len(vectors))[:queries]
    return BenchData(vectors, vectors[chosen], f"{len(chosen)} of the gallery's entries, not held out")


def shifted(queries: "Vectors", seed: int) -> "Vectors":
    """Move image queries by one common offset and noise, to simulate text queries."""
    import numpy as np

    rng, dim = np.random.default_rng([1, seed]), queries.shape[1]
    offset = normalised(rng.normal(size=(1, dim)).astype(np.float32)) * np.float32(_GAP)
    noise = rng.standard_normal(size=queries.shape, dtype=np.float32) * np.float32(_NOISE / np.sqrt(dim))
    return normalised(queries + offset + noise)


def normalised(vectors: "NDArray[np.float32]") -> "Vectors":
    """L2-normalise rows (N, D) to full precision, so that galleries and stores do not change them."""
    import numpy as np

    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    return np.asarray(vectors / lengths[:, None], dtype=np.float32)


def recall(found: "NDArray[np.int64]", truth: "NDArray[np.int64]") -> float:
    """Return the fraction of the true neighbours (Q, K) that were found; -1 marks no neighbour."""
    import numpy as np

    hits = [len(np.intersect1d(mine, right)) for mine, right in zip(found, truth, strict=True)]
    return float(np.sum(hits) / truth.size)


def _alike(moves: "NDArray[np.float32]", count: int, rng: "np.random.Generator") -> "NDArray[np.float32]":
    """Draw (count, D) normal numbers with the covariance of (P, D) zero-mean offsets."""
    import numpy as np

    _, values, axes = np.linalg.svd(moves / np.float32(np.sqrt(len(moves))), full_matrices=False)
    drawn = rng.standard_normal(size=(count, len(values)), dtype=np.float32)
    return np.asarray((drawn * values) @ axes, dtype=np.float32)


def _falling(count: int, dim: int, power: float, fall: float, rng: "np.random.Generator") -> "NDArray[np.float32]":
    """Draw (count, dim) numbers of mean squared length ``power`` whose variance on axis i falls as ``i ** -fall``."""
    import numpy as np

    variance = np.arange(1, dim + 1, dtype=np.float64) ** -fall
    scale = np.sqrt(power * variance / variance.sum()).astype(np.float32)
    return np.asarray(rng.standard_normal(size=(count, dim), dtype=np.float32) * scale, dtype=np.float32)


COMMANDS = {"bench index": (_index_options, bench_index)}
