"""False alarms and power of the drift tests: clean runs, and runs of blurred and darkened scenes.

``python -m benchmarks.drift OUT`` draws scenes, or takes the images of ``--root DIR`` (a data set with ``train``, whose
images are the gallery, and ``valid`` and ``test``, whose images are the scenes), searches them with the packaged
encoder and segmenter, and prints JSON. A run is 30 scenes drawn from them, compared with 60 others. OUT keeps what was
found in the scenes, so that a stopped search goes on and a second call only tests.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import naruto_vision as nv
from naruto_vision.cli.console import show_json
from naruto_vision.data.readers import read_classes
from naruto_vision.gallery.store import DRIFT
from naruto_vision.io.bundles import config_path
from naruto_vision.io.typed_json import read_json_lines
from naruto_vision.metrics.stats import Rate
from naruto_vision.recognition.drift import compare_samples, image_quality, read_sample, sample_line, sampled
from naruto_vision.recognition.writer import SceneLog, as_line
from naruto_vision.records import ImageArray
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_image, draw_scene

RUN, REFERENCE = 30, 60
CLEAN, TRIALS = 100, 20
KINDS = ("clean", "blur", "gamma")
GALLERY = 10  # images of each class
FIRST_SEED = 7_300_000


def spoil(image: ImageArray, kind: str) -> ImageArray:
    """Blur an image with a sigma of 3 pixels, or darken it with a gamma of 2."""
    if kind == "blur":
        return np.asarray(cv2.GaussianBlur(image, (0, 0), 3), np.uint8)
    table = ((np.arange(256) / 255) ** 2 * 255).round().astype(np.uint8)
    return table[image] if kind == "gamma" else image


def gallery_images(root: Path | None) -> Iterator[tuple[ImageArray, nv.GalleryRow]]:
    """Yield ten labelled images of each class."""
    if root is None:
        for label, attributes in read_cast(config_path("cast.yaml")).members.items():
            for number in range(GALLERY):
                yield (
                    draw_image(attributes, FIRST_SEED - 1 - number, 192).image,
                    nv.GalleryRow(f"{label}/{number}", label),
                )
        return
    table, seen = read_classes(root, "train"), Counter[str]()
    for row in table.rows:
        seen[row.label] += 1
        if seen[row.label] <= GALLERY:
            yield nv.read_image(table.root / row.path), nv.GalleryRow(row.path, row.label)


def scene_images(root: Path | None, count: int) -> Iterator[tuple[str, ImageArray]]:
    """Yield scenes with their names; of a folder those with the lowest hashes, in their order."""
    if root is None:
        cast = read_cast(config_path("cast.yaml"))
        yield from ((f"{seed:04}.png", draw_scene(FIRST_SEED + seed, cast, size=256).image) for seed in range(count))
        return
    found = {path.name: path for split in ("valid", "test") for path in sorted((root / split).glob("*.jpg"))}
    yield from ((name, nv.read_image(found[name])) for name in sorted(sorted(sampled(found))[:count]))


def found_names(out: Path, kind: str) -> list[str]:
    """Return the scenes of a kind that were searched."""
    return [line["scene"] for line in read_json_lines(out / kind / DRIFT, dict[str, Any])]


def search(out: Path, root: Path | None, count: int) -> float:
    """Write the samples of all kinds, of which the last 60 scenes are spoilt; return the CPU seconds."""
    start = time.process_time()
    encoder = nv.ClipEnsemble("tiny-clip")
    pairs = list(gallery_images(root))
    vectors = nv.embed_images(encoder, [image for image, _ in pairs], mirror=True).numpy()
    gallery = nv.Gallery.build(vectors, [row for _, row in pairs], fingerprint=encoder.fingerprint)
    segmenter = nv.Segmenter(nv.GridPrompter(16), nv.SamModel(weights="tiny-sam"))
    analyzer = nv.SceneAnalyzer(segmenter, encoder, gallery, more_crops=[nv.CropConfig(background=128)])
    logs, scenes = {kind: SceneLog(out / kind / DRIFT) for kind in KINDS}, list(scene_images(root, count))
    done = {kind: {*found_names(out, kind)} for kind in KINDS}
    for number, (name, image) in enumerate(scenes):
        for kind in KINDS if number >= len(scenes) - 2 * RUN else KINDS[:1]:
            if name not in done[kind]:
                changed = spoil(image, kind)
                line = sample_line(image_quality(changed), analyzer(changed, name), analyzer.facts())
                logs[kind].append(as_line(line))
    return time.process_time() - start


def compare(out: Path, kind: str, query: Sequence[str], reference: Sequence[str]) -> dict[str, Any]:
    """Compare a run of some scenes with clean ones."""
    return compare_samples(read_sample(out / "clean", reference), read_sample(out / kind, query), "at enrolment")


def measure(out: Path, seed: int) -> dict[str, Any]:
    """Count alarms of clean runs, and of pairs of runs of spoilt scenes."""
    rng = np.random.default_rng(seed)
    names = {kind: found_names(out, kind) for kind in KINDS}
    report: dict[str, Any] = {"scenes": len(names["clean"]), "run": RUN, "reference": REFERENCE, "seed": seed}
    for kind in KINDS:
        found = []
        for _ in range(CLEAN if kind == "clean" else TRIALS):
            query = rng.permutation(names[kind])[: RUN if kind == "clean" else 2 * RUN].tolist()
            reference = rng.permutation(sorted({*names["clean"]} - {*query}))[:REFERENCE].tolist()
            runs = [query[at : at + RUN] for at in range(0, len(query), RUN)]
            found.append([compare(out, kind, run, reference) for run in runs])
        runs = [run for trial in found for run in trial]
        by_figure = Counter(n for run in runs for n, one in run["figures"].items() if one["verdict"] == "drift")
        report[kind] = {"runs": Rate(sum(run["drifted"] for run in runs), len(runs)).as_json(), "figures": by_figure}
        if kind != "clean":
            two = [any(run["drifted"] for run in trial) for trial in found]
            report[kind]["within_two_runs"] = Rate(sum(two), len(two)).as_json()
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Search, test and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", type=Path, help="a data set (default: drawn scenes)")
    parser.add_argument("--scenes", type=int, default=130, help="at least 120")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    facts: dict[str, Any] = {}
    if len(found_names(arguments.out, "gamma")) < 2 * RUN:
        facts["search_cpu_seconds"] = round(search(arguments.out, arguments.root, arguments.scenes), 1)
    start = time.process_time()
    report = measure(arguments.out, arguments.seed)
    facts["test_cpu_seconds"] = round(time.process_time() - start, 1)
    show_json({**facts, **report})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
