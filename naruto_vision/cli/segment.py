"""``naruto-vision segment``: regions of images by prompts of the user, or of everything.

``run_segment`` is the loop of all its modes; other commands add theirs with ``add_segment_options``.
"""

import argparse
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.cli.console import count, fraction, progress, show, whole_number
from naruto_vision.errors import InputError

if TYPE_CHECKING:
    from naruto_vision.io.inputs import ImageFiles
    from naruto_vision.io.quarantine import Quarantine
    from naruto_vision.prompting.mode import SegmentMode
    from naruto_vision.prompting.writer import SegmentWriter
    from naruto_vision.segmentation.sam import SamModel

_LOG = logging.getLogger(__name__)
_SHOWN = 5  # reasons and notes at the end; run.json has all


def add_segment_options(parser: argparse.ArgumentParser) -> None:
    """Declare what every mode has: the images, the model and the folder of the results."""
    add = parser.add_argument
    text = "images, folders, patterns such as 'shots/*.jpg', or @FILE with a name per line"
    add("images", nargs="+", metavar="IMAGE", help=text)
    add("--out", type=Path, default=Path("runs/segment"), metavar="DIR", help="folder of the results; a run resumes")
    text = "promptable model: tiny-sam, sam_vit_b, sam_vit_l, sam_vit_h, a checkpoint file or a bundle"
    add("--weights", default="tiny-sam", metavar="NAME", help=text)
    add("--device", choices=("cpu", "cuda"), help="where to compute (default: a GPU if there is one)")


def open_model(arguments: argparse.Namespace) -> "SamModel":
    """Open the promptable model of ``--weights`` on the device of ``--device``, in evaluation mode."""
    import torch

    from naruto_vision.segmentation.sam import SamModel

    if arguments.device == "cuda" and not torch.cuda.is_available():
        msg = "--device cuda: this machine has no GPU that PyTorch can use; leave the option out"
        raise InputError(msg)
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return SamModel(weights=arguments.weights).eval().to(device)


def run_segment(arguments: argparse.Namespace, build_mode: Callable[[], "SegmentMode"]) -> int:
    """Segment the images with a mode, which is built once the images are known to be there.

    An image that cannot be used is counted and named; the run continues in a folder that has results of the same mode.
    """
    from naruto_vision.io.inputs import find_images
    from naruto_vision.io.locks import folder_lock

    files = find_images(arguments.images)
    with folder_lock(arguments.out, "--out"):
        return _run(arguments, files, build_mode())


def _run(arguments: argparse.Namespace, files: "ImageFiles", mode: "SegmentMode") -> int:
    from naruto_vision.io.quarantine import Quarantine
    from naruto_vision.prompting.writer import SegmentWriter
    from naruto_vision.recognition.writer import LOG, forget_changed, software_versions

    out: Path = arguments.out
    if changed := forget_changed(out, files.root, LOG):
        _LOG.info("%d images have changed since they were segmented and are segmented again", len(changed))
    writer = SegmentWriter(out, files.names, {"images": str(files.root.resolve()), **mode.identity})
    if done := len(writer.done.intersection(files.names)):
        _LOG.info("%d of %d images were already done (in %s)", done, len(files.names), out)
    quarantine = Quarantine("images")
    try:
        _segment_all(files, mode, writer, quarantine)
    except KeyboardInterrupt:
        done = len(writer.done.intersection(files.names))
        _LOG.info("stopped with %d of %d images done; the same command again continues", done, len(files.names))
        raise
    finally:
        writer.close()
    bad = [(row.path, row.reason) for row in quarantine.rows]
    run = writer.finish(bad, {"versions": software_versions(), "passed_over": files.listing.as_json()})
    show(*files.listing.sentences(), *_summary(out, run))
    if len(bad) == len(files.names):
        first = bad[0][1]
        raise InputError(first if len(bad) == 1 else f"none of {len(bad)} images can be segmented; first {first}")
    return 0


def _segment_all(files: "ImageFiles", mode: "SegmentMode", writer: "SegmentWriter", quarantine: "Quarantine") -> None:
    """Segment and write what is not done yet, in the order of the names."""
    from naruto_vision.errors import BadImageError
    from naruto_vision.io.bundles import file_sha256
    from naruto_vision.io.images import read_image

    todo = [name for name in files.names if name not in writer.done]
    with progress("segmenting", len(todo), hidden=len(todo) < 2) as advance:
        for name in todo:
            path, start = files.root / name, time.perf_counter()
            if name in files.refused:
                quarantine.refuse(name, files.refused[name])
            elif (image := quarantine.read(name, partial(read_image, path))) is not None:
                middle = time.perf_counter()
                try:
                    found = mode(image, name)
                except BadImageError as error:
                    quarantine.refuse(name, str(error))
                else:
                    end = time.perf_counter()
                    times = {"decode": (middle - start) * 1e3, "segment": (end - middle) * 1e3, **found.milliseconds}
                    writer.write(name, image, found, file_sha256(path), times)
            advance()


def _summary(out: Path, run: Mapping[str, Any]) -> Iterator[str]:
    from naruto_vision.prompting.writer import OVERLAYS
    from naruto_vision.recognition.writer import COCO, LOG, RUN

    counts, bad, notes = run["counts"], run["quarantined"], run["notes"]
    left = f", {counts['quarantined']} could not be used" if bad else ""
    yield f"{out}: {counts['ok']} of {counts['seen']} images segmented{left}; {counts['regions']} regions"
    lines = [each["reason"] for each in bad]
    lines += [f"{note} ({times} images)" if times > 1 else note for note, times in notes.items()]
    yield from (f"  {line}" for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield f"  and {len(lines) - _SHOWN} more, in {out / RUN}"
    yield f"look at {out / OVERLAYS}; masks: {out / LOG} and {out / COCO}"


def _grid_options(parser: argparse.ArgumentParser) -> None:
    add_segment_options(parser)
    add = parser.add_argument
    add("--points-per-side", type=count, default=32, metavar="N", help="the grid has the square of this many points")
    add("--predicted-iou", type=fraction, metavar="IOU", help="least estimated IoU (default: that of the weights)")
    add("--stability", type=fraction, metavar="IOU", help="least stability score (default: that of the weights)")
    add("--box-nms", type=fraction, metavar="IOU", help="box IoU of duplicates (default: that of the weights)")
    add("--crop-layers", type=whole_number, default=0, metavar="N", help="layers of windows for small objects")
    add("--min-area", type=whole_number, default=0, metavar="PIXELS", help="leave out smaller masks")


def grid(arguments: argparse.Namespace) -> int:
    """Segment everything, from a grid of points."""

    def build_mode() -> "SegmentMode":
        from naruto_vision.prompting.mode import SegmenterMode
        from naruto_vision.segmentation.generator import CropLayers, RegionFilter, Segmenter
        from naruto_vision.segmentation.prompts import GridPrompter

        segmenter = Segmenter(
            GridPrompter(arguments.points_per_side),
            open_model(arguments),
            predicted_iou=arguments.predicted_iou,
            stability=arguments.stability,
            box_nms=arguments.box_nms,
            keep=RegionFilter(min_area=arguments.min_area, max_masks=None),
            crops=CropLayers(arguments.crop_layers) if arguments.crop_layers else None,
        )
        return SegmenterMode(segmenter)

    return run_segment(arguments, build_mode)


COMMANDS = {"segment grid": (_grid_options, grid)}
