"""Accuracy on real images from the gallery alone: encoders and decision rules, without any tuning.

Run ``PYTHONPATH=tests python -m benchmarks.real --data DIR`` (or set REAL). DIR has one folder for each set: a data set
that ``fit`` reads, whose training split is enrolled and whose other splits are the queries. Boxes of a split's
``_annotations.coco.json`` are cropped first, and the crops take the place of the images.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

import naruto_vision as nv
from naruto_vision.data.leaks import frame_runs
from naruto_vision.data.readers import find_split, read_classes
from naruto_vision.data.tables import Split
from naruto_vision.errors import InputError
from naruto_vision.metrics.stats import Rate
from naruto_vision.recognition.decision import Decision
from naruto_vision.recognition.heads import compare_rules
from naruto_vision.records import UNKNOWN, ImageArray, Vectors

SHARES = (1.0, 0.7, 0.5, 0.3, 0.0)  # of tiny-clip; EfficientNet-Lite0 has the rest
DECISIONS: tuple[Decision, ...] = ("top1", "vote", "centroid", "lda", "logreg", "auto")


def read_images(root: Path, split: Split) -> Iterator[tuple[ImageArray, nv.GalleryRow]]:
    """Yield the labelled images of a split, or its labelled boxes where it has any."""
    boxes = root / split / "_annotations.coco.json"
    if boxes.is_file():
        coco = json.loads(boxes.read_text(encoding="utf-8"))
        names = {one["id"]: one["name"] for one in coco["categories"]}
        files = {one["id"]: one["file_name"] for one in coco["images"]}
        for number, one in enumerate(coco["annotations"]):
            file, label = files[one["image_id"]], names[one["category_id"]]
            x, y, width, height = (round(value) for value in one["bbox"])
            if label.casefold() not in {UNKNOWN, "unlabeled"} and min(width, height) > 3:
                crop = nv.read_image(root / split / file)[max(0, y) : y + height, max(0, x) : x + width]
                yield crop, nv.GalleryRow(f"{number}/{file}", label)
    elif find_split(root, split) is not None:
        table = read_classes(root, split)
        for row in table.rows:
            yield nv.read_image(table.root / row.path), nv.GalleryRow(row.path, row.label)


def embed_split(root: Path, *splits: Split) -> tuple[list[Vectors], list[nv.GalleryRow]]:
    """Embed splits with both encoders: vectors (N, D) of each, and the rows."""
    found = [pair for split in splits for pair in read_images(root, split)]
    encoders = nv.ClipEncoder("tiny-clip").eval(), nv.TimmEncoder("efficientnet-lite0").eval()
    images = [image for image, _ in found]
    return [nv.embed_images(each, images, mirror=True).numpy() for each in encoders], [row for _, row in found]


def measure(root: Path) -> None:
    """Print a table of one data set."""
    enrolled, rows = embed_split(root, "train")
    asked, truth = embed_split(root, "valid", "test")
    if not rows or not truth:
        msg = f"expected images to enrol and to ask, found {len(rows)} and {len(truth)}"
        raise InputError(msg)
    classes, own = len({row.label for row in rows}), [row.label for row in truth]
    print(f"\n{root.name}: {len(rows)} enrolled, {classes} classes, {len(truth)} queries")  # noqa: T201
    print("| tiny-clip : lite0 | " + " | ".join(DECISIONS) + " |")  # noqa: T201
    for share in SHARES:
        weights = [np.float32(weight**0.5) for weight in (share, 1.0 - share)]
        joined, queries = (
            np.concatenate([weight * part for weight, part in zip(weights, parts, strict=True) if weight], axis=1)
            for parts in (enrolled, asked)
        )
        heads = compare_rules(joined, rows, frame_runs(rows))
        gallery = nv.Gallery.build(joined, rows, fingerprint="0" * 64, note={"heads": heads})
        cells = []
        for decision in DECISIONS:
            found = nv.look_up(gallery, queries, [row.path for row in truth], "image", decision=decision)
            right = sum(one.identity.label == label for one, label in zip(found, own, strict=True))
            low, high = Rate(right, len(own)).interval or (0.0, 0.0)
            cells.append(f"{right} [{low:.2f}, {high:.2f}]" if decision == "auto" else str(right))
        print(f"| {share:g} : {1 - share:g} | {' | '.join(cells)} {heads['decision']} |", flush=True)  # noqa: T201


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("REAL"), help="folder of data sets (or REAL)")
    folder = parser.parse_args(argv).data
    if folder is None:
        parser.error("give the folder of data sets: --data DIR, or the environment variable REAL")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for root in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
        try:
            measure(root)
        except InputError as error:  # another kind of folder, or one without its images
            print(f"\n{root.name}: left out: {error}")  # noqa: T201


if __name__ == "__main__":
    main()
