"""A small run of ``predict``: images of squares, and the regions found in them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import naruto_vision as nv
from naruto_vision.io.bundles import file_sha256
from naruto_vision.io.images import write_image
from naruto_vision.recognition.writer import as_line, record_document


def square(x: int, y: int, side: int = 8) -> nv.Region:
    return nv.Region((x, y, x + side - 1, y + side - 1), np.ones((side, side), bool), prompt=f"point {x + 2},{y + 2}")


def make_run(folder: Path, scenes: Mapping[str, Sequence[int]], shown: Sequence[int] | None = None) -> Path:
    """Write images of squares of some reds, and the run of ``predict`` that found them."""
    lines = []
    for name, reds in scenes.items():
        image = np.zeros((32, 64, 3), np.uint8)
        regions = []
        for number, red in enumerate(reds):
            regions.append(square(16 * number, 4))
            image[4:12, 16 * number : 16 * number + 8, 0] = red
        write_image(folder / "images" / name, image)
        who = tuple(nv.Identity("Ana", 0.9) for _ in regions)
        found = nv.ScenePrediction(name, 64, 32, tuple(regions), who)
        drawn = range(len(regions)) if shown is None else shown
        lines.append(as_line(record_document(found, list(drawn), file_sha256(folder / "images" / name))))
    run = folder / "run"
    run.mkdir(exist_ok=True)
    (run / "predictions.jsonl").write_text("".join(lines), encoding="utf-8")
    (run / "run.json").write_text(
        json.dumps({"identity": {"scenes": str(folder / "images"), "segmenter": "ab" * 32}}), encoding="utf-8"
    )
    return run
