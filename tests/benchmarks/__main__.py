"""`python -m benchmarks`: run benchmarks, print their tables and write JSON. From a checkout, with PYTHONPATH=tests."""

import argparse
import importlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.timing import Row
from naruto_vision.cli.bench import gemm_rate, machine_facts
from naruto_vision.io.atomic import write_json

BENCHMARKS = {
    "T1": ("automatic masks against segment_anything, ViT-B", "segment:official", "at least 7 times as fast"),
    "T1t": ("automatic masks against segment_anything, tiny-sam", "segment:packaged", "at least 10 times"),
    "T1s": ("automatic masks against transformers' pipeline, SAM 2.1", "segment:second", "at least 2 times as fast"),
    "T2": ("automatic masks in 16 bits against float32 stock", "segment:low_precision", "97 % found again"),
    "T3": ("mask decoder against segment_anything", "segment:decoder", "at least 3 times"),
    "T4": ("what follows the decoder against segment_anything", "segment:post", "at least 6 times"),
    "T5": ("image encoder against segment_anything", "segment:encoder", "at least 1.7 times"),
    "T6": ("masks to vectors against PIL and one crop a pass", "pipeline:embedding", "at least 1.9 times"),
    "T7": ("exact search against IndexFlatIP untouched", "search:exact", "at least 5 times"),
    "T8": ("approximate search against IndexFlatIP untouched", "search:approximate", "at least 20 times"),
    "T10": ("start-up against a plain LightningCLI --help", "startup:answers", "at least 20 times"),
    "T11": ("fit against a plain loop in torch", "train:overhead", "at least 0.95 times, that is 1.05 times the time"),
    "T12": ("one prompt a class against one caption an image", "train:text_cache", "at least 1.3 times"),
    "D1": ("streamed shards against files into fit, 2 workers", "shards:streaming", "at least 1.5 times"),
    "T16": ("predict against stock parts, region by region", "pipeline:whole", "at least 6 times"),
    "T17": ("peak memory", "pipeline:memory", "flat; ViT-B at most 3 GiB"),
    "V1": ("frames of a video against a bare PyAV loop", "video:frames", "at least 0.9 times as fast"),
    "V2": ("peak memory over long videos", "video:memory", "flat"),
}
"""Name → (title, module and function that yields rows, target)."""


HEADS = ("what", "stock CPU s", "ours CPU s", "times as fast", "by the clock", "the same")


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the cells of a row of a report."""
    stock, ours = ((row[key] or {}).get("cpu_seconds") for key in ("baseline", "ours"))
    yield str(row["what"])
    for number in (stock and median(stock), median(ours), row["times_as_fast_cpu"], row["times_as_fast"]):
        yield "" if number is None else f"{number:.3g}"
    yield row["same"] if row["passed"] else f"FAILED: {row['same']}"


def markdown(results: Mapping[str, Sequence[Mapping[str, Any]]], names: Iterable[str]) -> str:
    """Return one table of some benchmarks of a report."""
    rows = [
        [f"{name} {cell}" if not at else cell for at, cell in enumerate(_cells(row))]
        for name in names
        for row in results[name]
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [HEADS, ["---"] * len(HEADS), *rows])


def run(name: str, *, quick: bool) -> Iterator[Row]:
    """Run one benchmark."""
    module, function = BENCHMARKS[name][1].split(":")
    yield from getattr(importlib.import_module(f"benchmarks.{module}"), function)(quick)


def print_table(name: str, rows: list[Row]) -> None:
    """Print CPU seconds and how many times as fast ours is, with what both have in common."""
    title, _, target = BENCHMARKS[name]
    table = Table(title=f"{name}: {title} ({target})", title_justify="left")
    for head in HEADS:
        table.add_column(head, justify="left" if head in {HEADS[0], HEADS[-1]} else "right")
    for row in rows:
        table.add_row(*_cells(row.as_json()), style="" if row.passed else "red")
    console = Console()
    console.width = max(console.width, 110)
    console.print(table)


def main(argv: list[str] | None = None) -> int:
    """Run them; the exit code is 1 where results are not the baseline's. Times only have targets: machines differ."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Time this project against its libraries."
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether everything runs, no figures")
    parser.add_argument("--only", default="", metavar="T1,T6", help=f"some of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--json-out", type=Path, default=Path("runs/bench.json"), help="(default: runs/bench.json)")
    text = "print the tables of this report as Markdown, and run nothing"
    parser.add_argument("--table", type=Path, metavar="FILE", help=text)
    arguments = parser.parse_args(argv)
    names = [name for name in arguments.only.replace(",", " ").split() if name] or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"--only {', '.join(unknown)}: expected some of {', '.join(BENCHMARKS)}")
    if arguments.table:
        results = json.loads(arguments.table.read_text(encoding="utf-8"))["results"]
        sys.stdout.write(markdown(results, names if arguments.only else results) + "\n")
        return 0
    rate = gemm_rate("torch")
    settings = {"quick": arguments.quick, "only": names}
    found, failed = {}, []
    arguments.json_out.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        rows = list(run(name, quick=arguments.quick))
        print_table(name, rows)
        found[name] = [row.as_json() for row in rows]
        failed += [f"{name} {row.what}" for row in rows if not row.passed]
        document = {"machine": machine_facts(), "settings": settings, "gemm_gflops": rate, "results": found}
        write_json(arguments.json_out, document)  # after each, so that a stop keeps those before it
    sys.stdout.write(f"PyTorch multiplied at {rate:.0f} GFLOP/s in this run; figures: {arguments.json_out}\n")
    if failed:
        sys.stdout.write(f"results are not the baseline's: {'; '.join(failed)}\n")
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
