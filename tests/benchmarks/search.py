"""T7 and T8: `naruto-vision bench index`, exact and approximate search against `IndexFlatIP` untouched."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.timing import Row, silence
from naruto_vision.cli.bench import Timing
from naruto_vision.cli.main import main

STOCK = "flat-default"


def exact(quick: bool) -> Iterator[Row]:
    """T7: 100,000 rows of 512 numbers, few to many queries; the neighbours have to be the same."""
    rows = 2000 if quick else 100_000
    for count in (16,) if quick else (16, 17, 40, 64, 200, 249):
        kinds = _bench_index(f"--vectors={rows}", f"--queries={count}", "--kinds", STOCK, "flat")["image"]["kinds"]
        same = kinds["flat"]["all_same"]
        equal = f"{same}/{count} queries"
        yield Row(f"flat, {count} queries", _timing(kinds["flat"]), _timing(kinds[STOCK]), equal, same == count)


def approximate(quick: bool) -> Iterator[Row]:
    """T8: a million rows as tiny-clip makes them; images and texts."""
    sizes = ["--vectors=3000", "--queries=100"] if quick else ["--vectors=1000000", "--queries=100", "--repeats=2"]
    options = ["--encoder=tiny-clip", "--top-k=10", "--text-queries", "--kinds", STOCK, "flat", "ivf"]
    found = _bench_index(*sizes, *options)
    few = 0.95 if quick else 0.99  # with 3,000 vectors the search budget is measured on few queries
    for kind, least in (("image", few), ("text", 0.95)):
        kinds = found[kind]["kinds"]
        for name in ("flat", "ivf"):
            recall = kinds[name]["recall"]
            same = f"recall@10 {recall:.4f}"
            yield Row(f"{name}, {kind}s", _timing(kinds[name]), _timing(kinds[STOCK]), same, recall >= least)


def _bench_index(*options: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.json"
        with silence():
            code = main(["bench", "index", *options, "--json-out", str(path)])
        if code:
            msg = f"bench index {' '.join(options)}: failed with code {code}"
            raise RuntimeError(msg)
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["results"]
    return results


def _timing(figures: dict[str, Any]) -> Timing:
    return Timing((figures["median_s"],), (figures["cpu_median_s"],))
