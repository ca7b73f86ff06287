"""``naruto-vision doctor data``: whether encoder and segmenter fit the user's images, and what to do if not."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.cli.console import add_json_option, count, progress, show, show_json
from naruto_vision.cli.gallery import add_encoder_options
from naruto_vision.cli.trainer_args import REGIONS, SCENES_CONFIG, find_config, learnt_segmenter, read_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naruto_vision.records import LabelledBox, Region
    from naruto_vision.segmentation.generator import Segmenter

_HELD, _WHOLE = 0.9, 0.6  # of the box that is inside; of the image, more than which holds anything


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", metavar="DIR", help="labelled images: an export, manifests or class folders")
    text = "also segment scenes: a folder of images, with or without boxes (gt.json, COCO, VOC, YOLO)"
    parser.add_argument("--scenes", metavar="DIR", help=text)
    parser.add_argument("--limit", type=count, default=40, metavar="N", help="scenes to segment, evenly chosen")
    add_encoder_options(parser, without="the one of gallery.yaml")
    add_json_option(parser)


def doctor_data(arguments: argparse.Namespace) -> int:
    """Print what encoder and segmenter do on the images, and a line for each that does not fit; then exit code 1."""
    document, lines, problems = _images(arguments)
    if arguments.scenes:
        scenes, line, problem = _scenes(arguments)
        document["scenes"] = scenes
        lines.append(line)
        problems += [problem] if problem else []
    if arguments.json:
        show_json({**document, "wrong": problems})
    else:
        show(*lines, *problems, *([] if problems else ["nothing is wrong"]))
    return 1 if problems else 0


def _images(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str], list[str]]:
    """Name the validation images by the training images."""
    import torch

    from naruto_vision.data.class_data import ClassDataModule
    from naruto_vision.encoders.ensemble import TUNED, ClipEnsemble
    from naruto_vision.encoders.opening import open_encoder
    from naruto_vision.modules.advice import advise
    from naruto_vision.modules.head_test import HeadTest

    encoder = open_encoder(arguments.encoder, arguments.weights) if arguments.encoder else ClipEnsemble().eval()
    test = HeadTest(ClassDataModule(arguments.root))
    if not test.usable:
        line = "images: expected several classes and validation images, found too few to compare"
        return {"images": None}, [], [f"{line}; add images to {arguments.root}"]
    with torch.inference_mode():
        named, floors = test.measure(encoder), test.floors()
    tuned = bool(arguments.encoder) or Path(TUNED).is_dir()
    advice = advise(named, floors, str(arguments.root), tuned=tuned)
    document = {"images": {"decision": named.rule, **named.right.as_json(), **asdict(floors)}}
    return document, [f"images: {named} ({len(test.labels)} training images); {floors}"], [advice] if advice else []


def _scenes(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, str]:
    """Segment scenes, and compare the regions with labelled boxes if there are any."""
    from naruto_vision.data.boxes import find_boxes_in
    from naruto_vision.data.scenes import TRUTH, SceneDataset

    folder = Path(arguments.scenes)
    labelled = folder.is_dir() and ((folder / TRUTH).is_file() or find_boxes_in(folder) is not None)
    scenes, segmenter = SceneDataset(arguments.scenes, need_truth=labelled), _segmenter()
    regions: list[int] = []
    boxes, found = 0, 0
    numbers = _evenly(len(scenes), arguments.limit)
    with progress("segmenting scenes", len(numbers), hidden=arguments.json) as advance:
        for number in numbers:
            item = scenes.read(number)
            advance()
            if item.image is None:
                continue
            own = segmenter(item.image)
            regions.append(len(own))
            truth = item.truth or ()
            boxes += len(truth)
            found += sum(_is_found(box, own, item.image.shape[0] * item.image.shape[1]) for box in truth)
    from naruto_vision.metrics.stats import Rate
    from naruto_vision.modules.advice import advise_scenes

    empty, rate = Rate(regions.count(0), len(regions)), Rate(found, boxes)
    line = f"scenes: {sum(regions)} regions in {len(regions)} scenes, {empty.count} of them without any"
    if boxes:
        low, high = rate.interval or (0.0, 1.0)
        line += f"; {found} of {boxes} labelled boxes [{low:.2f}, {high:.2f}] are matched or held by a region"
    document = {"scenes": len(regions), "regions": sum(regions), "without": empty.as_json(), "found": rate.as_json()}
    return document, line, advise_scenes(empty, rate, arguments.scenes)


def _segmenter() -> "Segmenter":
    """Build the segmenter that ``predict`` takes: the learnt detector, or else that of the packaged config."""
    from naruto_vision.cli.trainer import parse_class
    from naruto_vision.segmentation.generator import Segmenter

    path = find_config(SCENES_CONFIG)
    section = learnt_segmenter(REGIONS) or read_config(path)["model"]["init_args"]["segmenter"]
    return parse_class(Segmenter, section, path)


def _evenly(total: int, most: int) -> list[int]:
    return sorted({round(part * (total - 1) / max(min(total, most) - 1, 1)) for part in range(min(total, most))})


def _is_found(box: "LabelledBox", regions: "Sequence[Region]", pixels: int) -> bool:
    """Return whether a region matches a box, or holds it without being most of the image."""
    from naruto_vision.geometry import area_xyxy, inclusive_iou_matrix, shared_pixels
    from naruto_vision.metrics.scene import MATCH

    if not regions:
        return False
    if inclusive_iou_matrix([box.box], [region.box for region in regions]).max() >= MATCH:
        return True
    least, most = _HELD * area_xyxy(box.box), _WHOLE * pixels
    return any(shared_pixels(box.box, one.box) >= least and area_xyxy(one.box) <= most for one in regions)


COMMANDS = {"doctor data": (_options, doctor_data)}
