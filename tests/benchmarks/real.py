"""Accuracy on real images: the gallery alone, after a fit, regions learnt from boxes, and who is in a scene.

Run ``make real REAL=DIR [ONLY=gallery,fit,series,names] [OUT=FILE]``. DIR has one folder for each set: a data set that
``fit`` reads, whose training split is enrolled and whose other splits are the queries. Boxes of a split's
``_annotations.coco.json`` are cropped first, and the crops take the place of the images. A set with boxes and a folder
``scenes_real`` (images and gt.json) is a series: regions are learnt from 25, 50, 100 and all of its boxed frames, and
the characters of the scenes named with them; part ``names`` compares galleries of boxes, of whole frames and of the
regions found in them. Part ``fit`` takes the default fit, for sets without boxes.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import naruto_vision as nv
from naruto_vision.data.ground_truth import read_gt
from naruto_vision.data.image_hash import image_signature, near_pairs
from naruto_vision.data.leaks import frame_runs
from naruto_vision.data.readers import find_split, read_classes
from naruto_vision.data.tables import Split
from naruto_vision.errors import InputError
from naruto_vision.metrics.detection import detection_curve
from naruto_vision.metrics.stats import Rate
from naruto_vision.recognition.decision import Decision
from naruto_vision.recognition.heads import compare_rules
from naruto_vision.records import UNKNOWN, ImageArray, Vectors

SHARES = (1.0, 0.7, 0.5, 0.3, 0.0)  # of tiny-clip; EfficientNet-Lite0 has the rest
BOXES = "_annotations.coco.json"
SCENES = "scenes_real"
LIMITS = (25, 50, 100, None)  # boxed frames to learn regions from; None: all
SPLITS: tuple[Split, ...] = ("valid", "test")
PARTS = ("gallery", "fit", "series", "names")
FRAMES = ["--data.reader", "roboflow", "--model.enrol"]  # by their classes, without boxes
GALLERIES = {
    "labelled boxes": ["--data.reader", "boxes"],
    "whole frames": [*FRAMES, "image"],
    "their one region": [*FRAMES, "region"],
    "both": [*FRAMES, "both"],
    "what `auto` chooses": [*FRAMES, "auto"],
}
NAMED = ("names_precision", "names_recall", "object_accuracy")
CROPS = 30  # of a character in the gallery of a series
DECISIONS: tuple[Decision, ...] = ("top1", "vote", "centroid", "lda", "logreg", "auto")


def read_images(root: Path, split: Split) -> Iterator[tuple[ImageArray, nv.GalleryRow]]:
    """Yield the labelled images of a split, or its labelled boxes where it has any."""
    boxes = root / split / BOXES
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


def gallery_alone(root: Path) -> list[dict[str, Any]]:
    """Print a table of encoders and decision rules of one data set; return its rows."""
    enrolled, rows = embed_split(root, "train")
    asked, truth = embed_split(root, *SPLITS)
    if not rows or not truth:
        msg = f"expected images to enrol and to ask, found {len(rows)} and {len(truth)}"
        raise InputError(msg)
    classes, own = len({row.label for row in rows}), [row.label for row in truth]
    print(f"\n{root.name}: {len(rows)} enrolled, {classes} classes, {len(truth)} queries")  # noqa: T201
    print("| tiny-clip : lite0 | " + " | ".join(DECISIONS) + " |")  # noqa: T201
    table = []
    for share in SHARES:
        weights = [np.float32(weight**0.5) for weight in (share, 1.0 - share)]
        joined, queries = (
            np.concatenate([weight * part for weight, part in zip(weights, parts, strict=True) if weight], axis=1)
            for parts in (enrolled, asked)
        )
        heads = compare_rules(joined, rows, frame_runs(rows))
        gallery = nv.Gallery.build(joined, rows, fingerprint="0" * 64, note={"heads": heads})
        cells, row = [], dict[str, Any]()
        for decision in DECISIONS:
            found = nv.look_up(gallery, queries, [row.path for row in truth], "image", decision=decision)
            right = sum(one.identity.label == label for one, label in zip(found, own, strict=True))
            row[decision] = Rate(right, len(own)).as_json()
            low, high = Rate(right, len(own)).interval or (0.0, 0.0)
            cells.append(f"{right} [{low:.2f}, {high:.2f}]" if decision == "auto" else str(right))
        print(f"| {share:g} : {1 - share:g} | {' | '.join(cells)} {heads['decision']} |", flush=True)  # noqa: T201
        table.append({"tiny-clip": share, "chosen": heads["decision"], **row})
    return table


def run(work: Path, *words: str) -> float:
    """Run a command in a folder, with what it prints in ``log.txt`` there; return its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (work / "log.txt").open("a", encoding="utf-8") as log:
        command = [sys.executable, "-m", "naruto_vision", *words]
        subprocess.run(command, cwd=work, stdout=log, stderr=log, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def after_fit(root: Path, work: Path) -> dict[str, Any]:
    """Run ``fit`` with its defaults, enrol with the kept weights, and name the queries."""
    pairs = [pair for split in SPLITS for pair in read_images(root, split)]  # also says what is no such data set
    seconds = {
        name: run(work, "fit", "--config", f"{name}.yaml", "--data.root", str(root)) for name in ("clip", "gallery")
    }
    with contextlib.chdir(work):  # the gallery records its encoder by a relative path
        analyzer = nv.load("runs")
        queries = nv.embed_images(analyzer.encoder, [image for image, _ in pairs], mirror=True).numpy()
    found = nv.look_up(analyzer.gallery, queries, [row.path for _, row in pairs], "image")
    right = sum(one.identity.label == row.label for one, (_, row) in zip(found, pairs, strict=True))
    weights = json.loads((work / "runs/clip/weights.json").read_text(encoding="utf-8"))
    result = {"right": Rate(right, len(pairs)).as_json(), "cpu_seconds": seconds, "weights": weights}
    print(f"{root.name} after the default fit: {right} of {len(pairs)}; {seconds}", flush=True)  # noqa: T201
    return result


def twins(root: Path) -> set[str]:
    """Return the scenes of a series that have a near twin among its training images."""
    folder, frames = root / SCENES / "images", sorted((root / "train").glob("*.jpg"))
    names = sorted(read_gt(root / SCENES / "gt.json"))
    files = [*(folder / name for name in names), *frames]
    pairs = near_pairs([image_signature(nv.read_image(file)) for file in files])
    return {names[pair.first] for pair in pairs if pair.first < len(names) <= pair.second}


def series(root: Path, work: Path) -> list[dict[str, Any]]:
    """Learn regions from some of a series' boxed frames, enrol crops, and name the characters of its scenes."""
    truth, rows = read_gt(root / SCENES / "gt.json"), []
    images = {name: nv.read_image(root / SCENES / "images" / name) for name in truth}
    near = twins(root)
    for limit in LIMITS:
        folder = work / f"frames_{limit or 'all'}"
        folder.mkdir()
        some = [] if limit is None else ["--data.limit", str(limit)]
        data = ["--data.root", str(root)]
        seconds = run(folder, "fit", "--config", "regions.yaml", *data, *some)
        plan = ["--data.plan.max_per_class", str(CROPS)]
        seconds += run(folder, "fit", "--config", "gallery.yaml", *data, *plan)
        scenes = run(folder, "test", "--config", "scenes.yaml", "--data.test", str(root / SCENES)) / len(truth)
        shown = json.loads((folder / "runs/scenes/results.json").read_text(encoding="utf-8"))["shown"]
        detector = nv.BoxDetector(str(folder / "runs/regions/bundle")).eval()
        row: dict[str, Any] = {"frames": limit, "cpu_seconds": seconds, "cpu_seconds_a_scene": scenes}
        for kind, names in (("all", set(truth)), ("without a near twin", set(truth) - near)):
            seen = [(*detector.detect(images[name], 0.0), [each.box for each in truth[name]]) for name in names]
            curve = detection_curve(seen)
            found = round(curve.recall(detector.threshold) * curve.objects)
            row[kind] = {
                "scenes": len(names),
                "recall": Rate(found, curve.objects).as_json(),
                "boxes_per_object": curve.count(detector.threshold) / max(1, curve.objects),
                "average_precision": curve.average_precision(),
            }
        row |= {name: shown[name] for name in NAMED}
        rows.append(row)
        print(json.dumps(row), flush=True)  # noqa: T201
    return rows


def names(root: Path, work: Path) -> list[dict[str, Any]]:
    """Name the characters of a series' scenes, with regions learnt from all boxed frames and with tiny-sam's grid."""
    learnt, rows = work / "learnt", []
    learnt.mkdir()
    run(learnt, "fit", "--config", "regions.yaml", "--data.root", str(root))
    halves = [half_of_scenes(root / SCENES, work / f"half_{start}", start) for start in (0, 1)]
    for regions, galleries in (("learnt", list(GALLERIES)), ("tiny-sam", list(GALLERIES)[:2])):
        for gallery in galleries:
            folder = work / f"{regions} {gallery}"
            shutil.copytree(learnt, folder) if regions == "learnt" else folder.mkdir()
            run(folder, "fit", "--config", "gallery.yaml", "--data.root", str(root), *GALLERIES[gallery])
            rows.append(
                {"regions": regions, "gallery": gallery, "thresholds": "gallery", **named(folder, root / SCENES)}
            )
            found = []
            for valid, test in (halves, halves[::-1]):
                run(folder, "validate", "--config", "scenes.yaml", "--data.valid", str(valid))
                found.append(named(folder, test))
            both = {name: Rate(*(sum(one[name][key] for one in found) for key in ("count", "total"))) for name in NAMED}
            rates = {name: rate.as_json() for name, rate in both.items()}
            rows.append({"regions": regions, "gallery": gallery, "thresholds": "halves", **rates})
            print(json.dumps(rows[-2:]), flush=True)  # noqa: T201
    return rows


def half_of_scenes(scenes: Path, half: Path, start: int) -> Path:
    """Copy every other scene with its ground truth."""
    truth = json.loads((scenes / "gt.json").read_text(encoding="utf-8"))
    chosen = sorted(truth)[start::2]
    (half / "images").mkdir(parents=True)
    for name in chosen:
        shutil.copy(scenes / "images" / name, half / "images" / name)
    (half / "gt.json").write_text(json.dumps({name: truth[name] for name in chosen}), encoding="utf-8")
    return half


def named(folder: Path, scenes: Path) -> dict[str, Any]:
    """Return the rates of the names that are shown in scenes, by the gallery in a folder."""
    run(folder, "test", "--config", "scenes.yaml", "--data.test", str(scenes))
    shown = json.loads((folder / "runs/scenes/results.json").read_text(encoding="utf-8"))["shown"]
    return {name: shown[name] for name in NAMED}


def measure(root: Path, parts: Container[str]) -> dict[str, Any]:
    """Measure the parts that a data set is good for."""
    boxed, found = (root / "train" / BOXES).is_file(), dict[str, Any]()
    if "gallery" in parts:
        found["gallery"] = gallery_alone(root)
    with tempfile.TemporaryDirectory() as work:
        if "fit" in parts and not boxed and find_split(root, "train"):
            found["fit"] = after_fit(root, Path(work))
        for part, function in (("series", series), ("names", names)):
            if part in parts and boxed and (root / SCENES).is_dir():
                found[part] = function(root, Path(work))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("REAL"), help="folder of data sets (or REAL)")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to measure (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args(argv)
    if options.data is None:
        parser.error("give the folder of data sets: --data DIR, or the environment variable REAL")
    parts = set(options.only.split(","))
    torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
    figures: dict[str, Any] = {}
    for root in sorted(path.resolve() for path in Path(options.data).iterdir() if path.is_dir()):
        try:
            figures[root.name] = measure(root, parts)
        except InputError as error:  # another kind of folder, or one without its images
            print(f"\n{root.name}: left out: {error}")  # noqa: T201
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
