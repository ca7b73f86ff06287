"""An index of millions of vectors on this machine: memory, time and recall.

``python -m benchmarks.large [--vectors 5000000] [--dim 512] [--folder DIR] [--json-out FILE]`` writes vectors of random
characters to a file, builds the index that a gallery of that size gets from the mapped file, and searches it with 200
further images; exact search has the true neighbours. Private memory is limited to 6 GiB.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from naruto_vision.cli.bench import member_sampler, recall
from naruto_vision.cli.console import progress, show
from naruto_vision.gallery.index import VectorIndex, choose_kind, exact_search
from naruto_vision.io.atomic import write_json

BLOCK, QUERIES, LIMIT = 65_536, 200, 6 << 30


def main() -> None:
    """Measure one size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=5_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--folder", type=Path, help="of the file of vectors, 4 bytes a number (default: temporary)")
    parser.add_argument("--json-out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))  # of private memory; mapped files are not in it
    rows = options.vectors
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "vectors.npy"
        vectors = np.lib.format.open_memmap(path, "w+", np.float32, (rows, options.dim))
        members, _ = member_sampler(rows, options.dim, np.random.default_rng(42))
        with progress("sampling vectors", -(-rows // BLOCK)) as advance:
            for start in range(0, rows, BLOCK):
                vectors[start : start + BLOCK] = members(min(BLOCK, rows - start))
                advance()
        vectors.flush()
        queries, vectors = members(QUERIES), np.load(path, mmap_mode="r")
        start_of = time.process_time()
        index = VectorIndex.build(choose_kind("auto", rows), vectors)
        built = time.process_time() - start_of
        truth = exact_search(vectors, queries, 10)[1]
        start_of = time.process_time()
        found = np.stack([index.search(query[None], 10)[0][1] for query in queries])
        took = (time.process_time() - start_of) / QUERIES
    figures = {
        "vectors": rows,
        "dim": options.dim,
        "kind": index.kind,
        "budgets": {kind: budget.as_json() for kind, budget in index.budgets.items()},
        "built_cpu_seconds": built,
        "recall_at_10": recall(found, truth),
        "cpu_ms_a_query": 1000 * took,
        "limit_bytes": LIMIT,
    }
    show(f"{figures}")
    if options.json_out:
        write_json(options.json_out, figures)


if __name__ == "__main__":
    main()
