"""``naruto-vision bench index``: time NumPy and FAISS indexes in turns, and measure their recall."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from naruto_vision.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from naruto_vision.cli.bench import Timing
    from naruto_vision.encoders.base import Encoder
    from naruto_vision.gallery.index import IndexChoice, QueryKind, VectorIndex
    from naruto_vision.records import Vectors

    Search: TypeAlias = Callable[[Vectors, QueryKind], NDArray[np.int64]]

KINDS = ("naive", "flat-default", "flat", "hnsw", "ivf", "sq")

_CHARACTERS, _IMAGES = 100, 8  # of --encoder: characters, and images of each that the rows are made from
_SIDE = 96  # pixels of a synthetic image
_NOISE = 0.35  # length of the noise that moves a query, beside a vector's 1: a cosine of 0.94
_CHARACTER = 2000  # rows of one character in a large gallery; a series has few characters and many frames
_LEAST_CHARACTERS = 8
# Shares of a random vector's squared length, and how fast the variance falls along the axes. So chosen, same-character
# cosines, nearest neighbours and the effective dimension within a character are about those of tiny-clip's vectors of
# 560 images of 12 characters.
_COMMON, _BETWEEN, _WITHIN = 0.40, 0.49, 0.11
_FALL_BETWEEN, _FALL_WITHIN = 1.0, 1.25
_GAP = 1.0  # the offset of texts from images, beside an image vector's length of 1
_ROWS_AT_ONCE = 65_536
_JITTER = 0.5  # of the spread within a character, added to a resampled row: no two rows are equal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--gallery", type=Path, metavar="DIR", help="search this gallery (default: random vectors)")
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="resample the vectors that this encoder gives for synthetic characters; the queries are further images, "
        "and with --text-queries captions by its text tower",
    )
    parser.add_argument("--vectors", type=int, default=100_000, metavar="N", help="random vectors (default: 100000)")
    parser.add_argument("--dim", type=int, default=512, metavar="D", help="their length (default: 512)")
    parser.add_argument("--queries", type=int, default=500, metavar="Q", help="number of queries (default: 500)")
    parser.add_argument("--batch", type=int, default=0, metavar="B", help="queries a call (default: 0, all at once)")
    parser.add_argument("-k", "--k", type=int, default=5, help="neighbours a query (default: 5)")
    parser.add_argument("--seed", type=int, default=42, help="random seed of vectors and queries (default: 42)")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=KINDS,
        default=["naive", "flat-default", "flat", "ivf"],
        help="naive is one NumPy product and a sort, flat-default an untouched faiss.IndexFlatIP, the others are as in "
        "`gallery reindex`; speeds are relative to the first one (default: naive flat-default flat ivf)",
    )
    parser.add_argument(
        "--widths",
        nargs="+",
        type=int,
        default=[],
        metavar="W",
        help="also search ivf, sq and hnsw with these nprobe or efSearch, without scoring the rows again",
    )
    parser.add_argument(
        "--self-match", action="store_true", help="queries are rows of the gallery, as in the reference system"
    )
    parser.add_argument("--text-queries", action="store_true", help="measure texts too, or their stand-ins")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")


def run(arguments: argparse.Namespace) -> int:
    """Build the indexes, time them in turns, compare their neighbours."""
    for name in ("vectors", "dim", "queries", "k", "repeats"):
        if getattr(arguments, name) < 1:
            msg = f"--{name} {getattr(arguments, name)}: expected 1 or more"
            raise InputError(msg)
    if min(arguments.widths, default=1) < 1:
        msg = f"--widths {min(arguments.widths)}: expected 1 or more"
        raise InputError(msg)
    if arguments.encoder and (arguments.gallery or arguments.self_match):
        msg = "--encoder: expected neither --gallery nor --self-match with it; it has rows and queries of its own"
        raise InputError(msg)
    from naruto_vision.cli.bench import gemm_rate, write_report

    data, texts = _data(arguments)
    searches, built = _searches(arguments, data.vectors)
    rate = gemm_rate()
    results: dict[str, Any] = {"gemm_gflops": rate, "build_s": built, "rows": len(data.vectors)}
    kinds: Mapping[QueryKind, tuple[Vectors, str]] = {
        "image": (data.queries, data.source),
        **({"text": texts} if texts else {}),
    }
    for kind, (queries, source) in kinds.items():
        results[kind] = {"source": source, "queries": len(queries), **_measure(arguments, searches, queries, kind)}
        _print_table(kind, results[kind], arguments.k, len(data.vectors))
    sys.stdout.write(f"NumPy multiplied at {rate:.0f} GFLOP/s in this run\n")
    if arguments.json:
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
        write_report(arguments.json, "index", settings, results)
    return 0


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
            msg = f"--encoder {arguments.encoder} --text-queries: it has no text tower; leave out one of the two"
            raise InputError(msg)
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
    stand_in = "image queries moved by a random offset and noise, in the place of texts"
    texts = _label_texts(arguments) if arguments.gallery else None
    return data, texts or (shifted(data.queries, arguments.seed), stand_in)


def _label_texts(arguments: argparse.Namespace) -> "tuple[Vectors, str] | None":
    """Embed the templates with the gallery's labels, where its encoder is available and has a text tower."""
    from naruto_vision.cli.gallery import gallery_encoder
    from naruto_vision.encoders.prompts import TEMPLATES
    from naruto_vision.gallery.gallery import Gallery

    gallery = Gallery.open(arguments.gallery, index="exact")
    if not gallery.note.get("encoder"):
        return None
    own = argparse.Namespace(gallery=arguments.gallery, encoder="")
    encoder = gallery_encoder(own, gallery.note, gallery.fingerprint)
    if not encoder.has_text:
        return None
    texts = [template.format(label) for label in gallery.labels for template in TEMPLATES]
    return encoder.encode_texts(texts).detach().cpu().numpy(), f"{len(texts)} texts of {len(gallery.labels)} labels"


def _searches(arguments: argparse.Namespace, vectors: "Vectors") -> "tuple[dict[str, Search], dict[str, float]]":
    """Build what is timed: name to search, and kind to the seconds that building took."""
    from naruto_vision.gallery.index import VectorIndex, choose_kind

    k = min(arguments.k, len(vectors))
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
        if kind in ("hnsw", "ivf", "sq"):
            for query_kind, budget in index.budgets.items():
                facts = f"recall@10 {budget.recall:.4f} of {budget.queries} queries"
                sys.stderr.write(f"{kind}: {budget.width} for {query_kind} queries ({facts} when built)\n")
            found |= {f"{kind} {width}": partial(_propose, index, k, width) for width in arguments.widths}
    return found, built


def _plain(kind: str, vectors: "Vectors", k: int) -> "Search":
    """Return a search without code of this project."""
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


def _propose(index: "VectorIndex", k: int, width: int, queries: "Vectors", kind: "QueryKind") -> "NDArray[np.int64]":
    return index.propose(queries, k, kind, width)[1]


def _measure(
    arguments: argparse.Namespace, searches: "Mapping[str, Search]", queries: "Vectors", query_kind: "QueryKind"
) -> dict[str, Any]:
    import numpy as np

    from naruto_vision.cli.bench import interleaved

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


def _print_table(kind: str, found: Mapping[str, Any], k: int, rows: int) -> None:
    from rich.console import Console
    from rich.table import Table

    count = found["queries"]
    title = f"{rows} rows, {count} {kind} queries ({found['source']}); ground truth: {found['truth']}"
    heads = ("index", "ms/query", "CPU", "speedup", "CPU", "same top 1", f"same top {k}", f"recall@{k}")
    table = Table(*heads, title=title)
    for name, one in found["kinds"].items():
        by_cpu = one["times_as_fast_cpu"]
        table.add_row(
            name,
            f"{one['ms_per_query']:.4f}",
            f"{one['cpu_ms_per_query']:.4f}",
            f"{one['times_as_fast']:.2f}",
            "-" if by_cpu is None else f"{by_cpu:.2f}",
            f"{one['top1_same']}/{count}",
            f"{one['all_same']}/{count}",
            f"{one['recall']:.4f}",
        )
    Console().print(table)


def random_data(rows: int, dim: int, queries: int, seed: int) -> BenchData:
    """Draw vectors as an encoder gives them: few characters of many images; queries are new images of these."""
    import numpy as np

    from naruto_vision.gallery.index import exact_search

    rng = np.random.default_rng(seed)
    count = max(_LEAST_CHARACTERS, rows // _CHARACTER)
    common = normalised(rng.standard_normal(size=(1, dim), dtype=np.float32)) * np.float32(np.sqrt(_COMMON))
    means = common + _falling(count, dim, _BETWEEN, _FALL_BETWEEN, rng)
    axes = rng.permutation(dim)  # images of one character differ in other directions than characters do

    def members(number: int) -> "Vectors":
        chosen = means[rng.integers(len(means), size=number)]
        chosen[:, axes] += _falling(number, dim, _WITHIN, _FALL_WITHIN, rng)
        return normalised(chosen)

    vectors = np.concatenate([members(min(_ROWS_AT_ONCE, rows - start)) for start in range(0, rows, _ROWS_AT_ONCE)])
    asked = members(queries)
    nearest = exact_search(vectors, asked[:200], min(10, rows))[0]
    first, last = float(np.median(nearest[:, 0])), float(np.median(nearest[:, -1]))
    text = f"{count} random characters; cosine of the first neighbour {first:.2f}, of the tenth {last:.2f} (medians)"
    return BenchData(vectors, asked, text)


def encoded_data(
    encoder: "Encoder", rows: int, queries: int, seed: int
) -> "tuple[BenchData, tuple[Vectors, str] | None]":
    """Embed synthetic images and resample many rows from them; queries are further images, and captions if it reads."""
    import numpy as np

    from naruto_vision.encoders.base import embed_images
    from naruto_vision.synthetic.attributes import random_attributes
    from naruto_vision.synthetic.captions import caption
    from naruto_vision.synthetic.dataset import seed_of
    from naruto_vision.synthetic.scene import draw_image

    rng = np.random.default_rng([4, seed])
    cast_ = [random_attributes(rng) for _ in range(_CHARACTERS)]
    known, asked = np.arange(_CHARACTERS * _IMAGES) % _CHARACTERS, np.arange(queries) % _CHARACTERS
    images = [
        draw_image(cast_[who], seed_of("bench index", seed, number), _SIDE).image
        for number, who in enumerate([*known.tolist(), *asked.tolist()])
    ]
    vectors, further = np.split(embed_images(encoder, images).numpy(), [len(known)])
    made = f"{len(known)} synthetic images of {_CHARACTERS} characters, resampled with their covariance"
    data = BenchData(grown(vectors, known, rows, seed), further, f"{queries} further images; rows: {made}")
    if not encoder.has_text:
        return data, None
    texts = [caption(cast_[who], rng) for who in asked.tolist()]
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
    """Take rows, at most half, out of a gallery to be its queries."""
    import numpy as np

    count = max(1, min(queries, len(vectors) // 2))
    order = np.random.default_rng(seed).permutation(len(vectors))
    text = f"{count} of the gallery's rows, taken out of it"
    return BenchData(np.ascontiguousarray(vectors[np.sort(order[count:])]), vectors[order[:count]], text)


def self_match(vectors: "Vectors", queries: int, seed: int) -> BenchData:
    """Query a gallery with its own rows, as the reference system's benchmark does."""
    import numpy as np

    chosen = np.random.default_rng(seed).permutation(len(vectors))[:queries]
    return BenchData(vectors, vectors[chosen], f"{len(chosen)} of the gallery's own rows, still in it")


def shifted(queries: "Vectors", seed: int) -> "Vectors":
    """Move image queries by one common offset and noise, as a stand-in for texts."""
    import numpy as np

    rng, dim = np.random.default_rng([1, seed]), queries.shape[1]
    offset = normalised(rng.normal(size=(1, dim)).astype(np.float32)) * np.float32(_GAP)
    noise = rng.standard_normal(size=queries.shape, dtype=np.float32) * np.float32(_NOISE / np.sqrt(dim))
    return normalised(queries + offset + noise)


def normalised(vectors: "NDArray[np.float32]") -> "Vectors":
    """Scale rows (N, D) to length 1."""
    import numpy as np

    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def recall(found: "NDArray[np.int64]", truth: "NDArray[np.int64]") -> float:
    """Return the fraction of the true neighbours (Q, K) that were found; -1 stands for none."""
    import numpy as np

    hits = [len(np.intersect1d(mine, right)) for mine, right in zip(found, truth, strict=True)]
    return float(np.sum(hits) / truth.size)


def _alike(moves: "NDArray[np.float32]", count: int, rng: "np.random.Generator") -> "NDArray[np.float32]":
    """Draw (count, D) normal numbers with the covariance of (P, D) moves, whose mean is zero."""
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
