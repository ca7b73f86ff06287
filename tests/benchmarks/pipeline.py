"""T6, T16 and T17: crops to vectors, `predict` as a whole, and its memory."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip import list_models
from pycocotools import mask as coco
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks.stock import stock_embedding, stock_regions
from benchmarks.timing import Finished, Row, compare, draw_image, own, run_process, silence
from naruto_vision.cli.bench import Timing
from naruto_vision.cli.main import main
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.int8 import Int8Encoder
from naruto_vision.errors import InputError
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.images import read_image, scan_folder
from naruto_vision.io.typed_json import read_json_lines
from naruto_vision.recognition.decision import decide
from naruto_vision.recognition.open_set import thresholds_of
from naruto_vision.recognition.writer import LOG, SceneWriter
from naruto_vision.records import Neighbour, Region, ScenePrediction
from naruto_vision.segmentation.crops import CropConfig, embed_regions
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.sam import SamModel

SAME = 0.99  # mask IoU of equal regions, and the share of regions that have to be equal
CROPS, VOTES, POINTS = (CropConfig(), CropConfig(background=128)), 20, 16  # as scenes.yaml
GALLERY_IMAGES = 20  # of each character; enough that every search is a real one


def embedding(quick: bool) -> Iterator[Row]:
    """T6: masks of one image to vectors in batches, in float32 and in integers, against PIL and one crop a pass."""
    torch.manual_seed(7)
    name = "tiny-clip" if quick else "ViT-B-32"
    floats = ClipEncoder(name, "random" if name in list_models() else None).eval()
    count, size = (6, 192) if quick else (60, 768)
    image, regions, way = draw_image(size, size, 7), _ellipses(size, count), [CropConfig()]
    vectors: dict[str, Tensor] = {}

    def stock() -> None:
        vectors["stock"] = torch.stack([stock_embedding(floats, image, region, way) for region in regions])

    def batches(encoder: Any) -> None:
        vectors["ours"] = embed_regions(encoder, [(image, regions)], way)[0][0]

    def same(least: float) -> tuple[str, bool]:
        found = float(cosine_similarity(vectors["ours"], vectors["stock"], dim=-1).min())
        return f"least cosine {found:.5f}", found >= least

    repeats = 2 if quick else 5
    what = f"{name}, {count} masks"
    yield compare(what, lambda: batches(floats), stock, lambda: same(0.999), repeats)
    try:
        integers = Int8Encoder(floats)
    except InputError:  # this processor has no instructions for it
        return
    yield compare(f"{what}, 8-bit integers", lambda: batches(integers), stock, lambda: same(0.99), repeats)


def _ellipses(size: int, count: int) -> list[Region]:
    """Draw ellipses from a sixteenth to a half of an image's side."""
    generator = np.random.default_rng(7)
    regions = []
    for _ in range(count):
        width, height = (int(side) for side in size * np.exp2(generator.uniform(-4, -1, 2)))
        left, top = (int(generator.integers(0, size - side + 1)) for side in (width, height))
        mask = np.linspace(-1, 1, height)[:, None] ** 2 + np.linspace(-1, 1, width)[None] ** 2 <= 1.05
        regions.append(Region((left, top, left + width - 1, top + height - 1), mask))
    return regions


def whole(quick: bool) -> Iterator[Row]:
    """T16: `predict` with the packaged weights, from the first image to `run.json`, against stock parts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _draw_and_enrol(folder, scenes=2 if quick else 40)
        scenes = folder / "world/scenes/test/images"

        def ours() -> None:
            shutil.rmtree(folder / "ours", ignore_errors=True)
            _run(
                "predict",
                str(scenes),
                "--decision=vote",
                "--gallery",
                str(folder / "gallery"),
                "--out",
                str(folder / "ours"),
            )

        def stock() -> None:
            shutil.rmtree(folder / "stock", ignore_errors=True)
            _one_by_one(scenes, folder / "gallery", folder / "stock")

        count = len(scan_folder(scenes).images)
        yield compare(
            f"{count} drawn scenes", ours, stock, lambda: _equal_regions(folder / "ours", folder / "stock"), 2
        )


def _draw_and_enrol(folder: Path, scenes: int, size: int = 384) -> None:
    counts = {"train": GALLERY_IMAGES, "valid": 0, "test": 0, "scenes": scenes, "valid-scenes": 0, "size": size}
    _run("draw", "--out", str(folder / "world"), *(f"--{name}={value}" for name, value in counts.items()))
    options = [
        "--model.encoder=ClipEncoder",
        "--model.encoder.init_args.model=tiny-clip",
        f"--model.gallery={folder / 'gallery'}",
    ]
    _run("fit", "--config", "gallery.yaml", f"--data.root={folder / 'world'}", *options)


def _run(*argv: str) -> None:
    with silence():
        code = main(argv)
    if code:
        msg = f"naruto-vision {' '.join(argv)}: failed with code {code}"
        raise RuntimeError(msg)


@torch.inference_mode()
def _one_by_one(scenes: Path, gallery_folder: Path, out: Path) -> None:
    """Do the job of `predict` the usual way: stock masks, then region by region and crop by crop; write the same."""
    encoder, gallery = ClipEncoder("tiny-clip").eval(), Gallery.open(gallery_folder)
    thresholds = thresholds_of(gallery, "vote")  # the gallery's own are for the rule that it chose
    segmenter = Segmenter(GridPrompter(POINTS), SamModel(weights="tiny-sam").eval())
    names = [str(path) for path in scan_folder(scenes).images]
    writer = SceneWriter(out, names, gallery.labels, {}, crop=CROPS[0])
    for name in names:
        image = read_image(scenes / name)
        regions, identities = stock_regions(segmenter, image), []
        for region in regions:
            scores = gallery.vectors @ stock_embedding(encoder, image, region, CROPS, mirror=True).numpy()
            best = np.argsort(-scores, kind="stable")[:VOTES].tolist()
            rows, ids = gallery.rows, gallery.content.ids
            found = [Neighbour(int(ids[i]), rows[i].label, float(scores[i]), rows[i].path) for i in best]
            identities.append(decide(found, thresholds, "vote"))
        height, width = image.shape[:2]
        writer.write(image, ScenePrediction(name, width, height, tuple(regions), tuple(identities), {}))
    writer.close()
    writer.finish([], {})


def _equal_regions(ours: Path, stock: Path) -> tuple[str, bool]:
    """Count the regions that both logs have, with the same label and the same name."""
    found = {record["scene"]: record["regions"] for record in read_json_lines(ours / LOG, dict)}
    equal, every = 0, sum(map(len, found.values()))
    for record in read_json_lines(stock / LOG, dict):
        theirs, own_regions = record["regions"], found[record["scene"]]
        matched = 0
        if theirs and own_regions:
            masks = [[region["mask"] for region in some] for some in (theirs, own_regions)]
            overlap = np.asarray(coco.iou(*masks, [0] * len(own_regions)))
            for region, row in zip(theirs, overlap, strict=True):
                if row.max() >= SAME:
                    other = own_regions[int(row.argmax())]
                    matched += 1
                    equal += (region["label"], region["name"]) == (other["label"], other["name"])
        every += len(theirs) - matched
    return f"{equal} of {every} regions and names", equal >= SAME * every


def memory(quick: bool) -> Iterator[Row]:
    """T17: peak memory of `predict` over more and more scenes, and of ViT-B on one large image; MiB, no time."""
    counts = (3, 9) if quick else (50, 400, 2000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _draw_and_enrol(folder, scenes=3 if quick else 50, size=128)
        drawn = sorted((folder / "world/scenes/test/images").iterdir())
        peaks: dict[str, float] = {}
        for count in counts:
            scenes = folder / f"scenes-{count}"
            scenes.mkdir()
            for number in range(count):
                (scenes / f"{number:05}.jpg").hardlink_to(drawn[number % len(drawn)])
            grid = "--model.segmenter.init_args.prompter.init_args.points_per_side=4"
            argv = own("predict", str(scenes), "--gallery", str(folder / "gallery"), grid)
            finished = run_process([*argv, "--out", str(folder / f"out-{count}"), "--trainer.logger=false"])
            peaks[f"{count} scenes"] = finished.peak_mib
            flat = max(peaks.values()) - min(peaks.values()) <= 24
            same = f"{finished.peak_mib:.0f} MiB"
            yield Row(f"predict, {count} scenes of 128 x 128", _timing(finished), None, same, flat)
    height, width, points = (240, 320, 2) if quick else (1080, 1920, 32)
    code = f"from benchmarks.segment import segment_once; segment_once({height}, {width}, {points})"
    finished = run_process([sys.executable, "-c", f"import sys; sys.path[:] = {sys.path}; {code}"])
    same, passed = f"{finished.peak_mib:.0f} MiB", finished.peak_mib <= 3 * 1024
    yield Row(f"ViT-B, {height} x {width}, {points} x {points} points", _timing(finished), None, same, passed)


def _timing(finished: Finished) -> Timing:
    return Timing((finished.seconds,), (finished.cpu_seconds,))
