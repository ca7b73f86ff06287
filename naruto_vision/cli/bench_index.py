"""``naruto-vision bench index``: how fast each index answers, and how many of the true neighbours it finds."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from naruto_vision.encoders.base import Encoder, embed_images
from naruto_vision.errors import InputError
from naruto_vision.gallery.index import Trial, grown
from naruto_vision.records import Vectors
from naruto_vision.synthetic.attributes import random_attributes
from naruto_vision.synthetic.captions import caption
from naruto_vision.synthetic.dataset import seed_of
from naruto_vision.synthetic.scene import draw_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from naruto_vision.gallery.index import ApproximateIndex, QueryKind, VectorIndex

    Ask: TypeAlias = Callable[[Vectors, QueryKind], NDArray[np.int64]]
    from naruto_vision.cli.bench import Timing

_CHARACTERS = 100
_IMAGES = 8  # of each character, that the rows are made of
_SIDE = 96  # pixels of a drawn image


def encoded_trial(encoder: Encoder, rows: int, queries: int, seed: int) -> tuple[Trial, tuple[Vectors, str] | None]:
    """Embed images of drawn characters and make many rows of them; ask with further images, and with texts.

    Args:
        encoder: Embeds the images and, where it reads, the texts.
        rows: N.
        queries: Q images and Q texts, none of which the rows were made of.
        seed: Draws the characters; any number from 0.

    Returns:
        Rows (N, D) and image queries (Q, D); and text queries (Q, D) with their source, None where it reads none.
    """
    rng = np.random.default_rng([4, seed])
    cast = [random_attributes(rng) for _ in range(_CHARACTERS)]
    known = np.arange(_CHARACTERS * _IMAGES) % _CHARACTERS
    asked = np.arange(queries) % _CHARACTERS
    drawn = [
        draw_image(cast[who], seed_of("bench index", seed, place), _SIDE).image
        for place, who in enumerate([*known.tolist(), *asked.tolist()])
    ]
    vectors, images = np.split(embed_images(encoder, drawn).numpy(), [len(known)])
    made = f"{len(known)} drawn images of {_CHARACTERS} characters, multiplied with their covariance"
    trial = Trial(grown(vectors, known, rows, seed), images, f"{queries} further images; rows: {made}")
    if not encoder.has_text:
        return trial, None
    texts = [caption(cast[who], rng) for who in asked.tolist()]
    return trial, (encoder.encode_texts(texts).detach().cpu().numpy(), f"{len(set(texts))} captions by its text tower")


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
    from naruto_vision.gallery.index import ApproximateIndex

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

    from naruto_vision.io.machine import require_package

    if kind == "naive":
        return lambda queries, _: np.argsort(-(queries @ vectors.T), axis=1)[:, :k]
    plain = require_package("faiss", "cpu").IndexFlatIP(vectors.shape[1])
    plain.add(vectors)
    return lambda queries, _: plain.search(queries, k)[1]


def _index(kind: str, vectors: "Vectors") -> "VectorIndex":
    from naruto_vision.gallery.index import IndexChoice, choose_kind, make_index

    choice: IndexChoice = "hnsw" if kind == "hnsw" else "ivf" if kind == "ivf" else "flat"
    return make_index(vectors, choose_kind(choice))


def _ask(
    index: "VectorIndex", vectors: "Vectors", k: int, queries: "Vectors", kind: "QueryKind"
) -> "NDArray[np.int64]":
    import numpy as np

    from naruto_vision.gallery.index import nearest_rows

    found = np.full((len(queries), k), -1, dtype=np.int64)  # where an approximate index finds fewer than k
    for row, (_, places) in zip(found, nearest_rows(index, vectors, queries, k, kind), strict=True):
        row[: len(places)] = places
    return found


def _ask_within(
    index: "ApproximateIndex", k: int, width: int, queries: "Vectors", _kind: "QueryKind"
) -> "NDArray[np.int64]":
    return index.search_within(queries, k, min(width, index.widths()[-1]))[1]


KINDS = ("naive", "flat-default", "flat", "hnsw", "ivf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision bench index``.
    """
    parser.add_argument("--gallery", type=Path, metavar="DIR", help="use this gallery's vectors (default: drawn ones)")
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="make the vectors of what this encoder (as for `gallery add`) gives for drawn characters, and ask with "
        "further images; texts are captions by its text tower",
    )
    parser.add_argument("--vectors", type=int, default=100_000, metavar="N", help="drawn vectors (default: 100000)")
    parser.add_argument("--dim", type=int, default=512, metavar="D", help="their length (default: 512)")
    parser.add_argument("--queries", type=int, default=500, metavar="Q", help="how many queries (default: 500)")
    parser.add_argument("--batch", type=int, default=0, metavar="B", help="queries a call (default: 0, all at once)")
    parser.add_argument("-k", "--k", type=int, default=5, help="neighbours a query (default: 5)")
    parser.add_argument("--seed", type=int, default=42, help="draws vectors and chooses queries (default: 42)")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=KINDS,
        default=["naive", "flat-default", "flat", "ivf"],
        help="naive is one NumPy product and a sort, flat-default FAISS's flat index with its own settings, flat the "
        "same with ours; the first one is what the others are compared with (default: all but hnsw)",
    )
    parser.add_argument(
        "--widths",
        nargs="+",
        type=int,
        default=[],
        metavar="W",
        help="have ivf and hnsw look at so many cells or candidates too, beside what was measured best",
    )
    parser.add_argument(
        "--self-match", action="store_true", help="ask for the gallery's own rows, as the reference does"
    )
    parser.add_argument("--text-queries", action="store_true", help="ask with texts too, or what stands in for them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def run(arguments: argparse.Namespace) -> int:
    """Build the indexes, time them in turns, compare their answers.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If a number makes no sense, or FAISS is needed and not installed.
    """
    for name in ("vectors", "dim", "queries", "k", "repeats"):
        if getattr(arguments, name) < 1:
            msg = f"--{name} {getattr(arguments, name)}: expected 1 or more"
            raise InputError(msg)
    if min(arguments.widths, default=1) < 1:
        msg = f"--widths {min(arguments.widths)}: expected 1 or more"
        raise InputError(msg)
    if arguments.encoder and (arguments.gallery or arguments.self_match):
        msg = "--encoder: expected neither --gallery nor --self-match with it; it draws rows and queries of its own"
        raise InputError(msg)
    from naruto_vision.cli.bench import gemm_rate, write_report

    trial, texts = _trial(arguments)
    indexes, built = build_ways(arguments.kinds, trial.vectors, arguments.k, arguments.widths)
    rate = gemm_rate()
    results: dict[str, Any] = {"gemm_gflops": rate, "build_s": built, "rows": len(trial.vectors)}
    kinds: Mapping[QueryKind, tuple[Vectors, str]] = {
        "image": (trial.queries, trial.source),
        **({"text": texts} if texts else {}),
    }
    for kind, (queries, source) in kinds.items():
        results[kind] = {"source": source, "queries": len(queries), **_measure(arguments, indexes, queries, kind)}
        _print_table(kind, results[kind], arguments.k, len(trial.vectors))
    sys.stdout.write(f"NumPy multiplied at {rate:.0f} GFLOP/s in this run\n")
    if arguments.json:
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
        write_report(arguments.json, "index", settings, results)
    return 0


def _trial(arguments: argparse.Namespace) -> "tuple[Trial, tuple[Vectors, str] | None]":
    from naruto_vision.gallery.index import drawn_trial, held_out, self_match, shifted

    if arguments.encoder:
        return _encoded(arguments)
    if arguments.gallery is None:
        trial = drawn_trial(arguments.vectors, arguments.dim, arguments.queries, arguments.seed)
        if arguments.self_match:
            trial = self_match(trial.vectors, arguments.queries, arguments.seed)
    else:
        from naruto_vision.gallery.gallery import Gallery

        vectors = Gallery.open(arguments.gallery, index="exact").vectors
        trial = (self_match if arguments.self_match else held_out)(vectors, arguments.queries, arguments.seed)
    if not arguments.text_queries:
        return trial, None
    read = _texts(arguments) if arguments.gallery else None
    stand_in = "image queries moved by a drawn offset and noise, in the place of texts"
    return trial, read or (shifted(trial.queries, arguments.seed), stand_in)


def _encoded(arguments: argparse.Namespace) -> "tuple[Trial, tuple[Vectors, str] | None]":
    from naruto_vision.encoders.opening import open_encoder

    encoder = open_encoder(arguments.encoder)
    trial, texts = encoded_trial(encoder, arguments.vectors, arguments.queries, arguments.seed)
    if arguments.text_queries and texts is None:
        msg = f"--encoder {arguments.encoder} --text-queries: it has no text tower; leave out one of the two"
        raise InputError(msg)
    return trial, texts if arguments.text_queries else None


def _texts(arguments: argparse.Namespace) -> "tuple[Vectors, str] | None":
    """Embed the templates with the gallery's labels, where its encoder is at hand and reads."""
    from naruto_vision.cli.gallery_options import gallery_encoder
    from naruto_vision.encoders.prompts import TEMPLATES
    from naruto_vision.gallery.gallery import Gallery

    gallery = Gallery.open(arguments.gallery, index="exact")
    if not gallery.note.get("encoder"):
        return None
    encoder = gallery_encoder(
        argparse.Namespace(gallery=arguments.gallery, encoder=""), gallery.note, gallery.fingerprint
    )
    if not encoder.has_text:
        return None
    texts = [template.format(label) for label in gallery.labels for template in TEMPLATES]
    return encoder.encode_texts(texts).detach().cpu().numpy(), f"{len(texts)} texts of {len(gallery.labels)} labels"


def _measure(
    arguments: argparse.Namespace, indexes: "Mapping[str, Ask]", queries: "Vectors", query_kind: "QueryKind"
) -> dict[str, Any]:
    import numpy as np

    from naruto_vision.cli.bench import interleaved
    from naruto_vision.gallery.index import recall

    step = arguments.batch or len(queries)
    answers: dict[str, NDArray[np.int64]] = {}

    def ask(kind: str) -> None:
        parts = [indexes[kind](queries[start : start + step], query_kind) for start in range(0, len(queries), step)]
        answers[kind] = np.concatenate(parts)

    times = interleaved({kind: partial(ask, kind) for kind in indexes}, arguments.repeats)
    first = next(iter(indexes))
    exact = next((kind for kind in ("flat", "flat-default", "naive") if kind in answers), first)
    truth = answers[exact]
    return {
        "truth": exact,
        "kinds": {
            kind: {
                **_figures(timing, len(queries), times[first]),
                "top1_same": int((answers[kind][:, 0] == truth[:, 0]).sum()),
                "all_same": int((answers[kind] == truth).all(axis=1).sum()),
                "recall": recall(answers[kind], truth),
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
    title = f"{rows} rows, {count} {kind} queries ({found['source']}); truth: {found['truth']}"
    heads = ("index", "ms/query", "CPU", "times as fast", "by CPU", "same first", f"same {k}", f"recall@{k}")
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
