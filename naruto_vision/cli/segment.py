"""``naruto-vision segment``: regions of images by prompts of the user, or of everything.

``run_segment`` is the loop of all its modes; each command builds its own mode.
"""

import argparse
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.cli.console import count, fraction, progress, show, whole_number
from naruto_vision.cli.trainer_args import check_gallery, gallery_place
from naruto_vision.errors import InputError
from naruto_vision.io.locks import LOCK

if TYPE_CHECKING:
    from naruto_vision.io.inputs import ImageFiles
    from naruto_vision.io.quarantine import Quarantine
    from naruto_vision.prompting.mode import SegmentMode
    from naruto_vision.prompting.monitor import Monitor
    from naruto_vision.prompting.writer import SegmentWriter
    from naruto_vision.recognition.analyzer import SceneAnalyzer
    from naruto_vision.segmentation.sam import SamModel
    from naruto_vision.segmentation.sam2 import Sam2Model

EXIT_ALERT = 1
_LOG = logging.getLogger(__name__)
_SHOWN = 5  # reasons and notes at the end; run.json has all


def add_segment_options(parser: argparse.ArgumentParser) -> None:
    """Declare what every mode has: the images, the model and the folder of the results."""
    add = parser.add_argument
    text = "images, folders, patterns such as 'shots/*.jpg', or @FILE with a name per line"
    add("images", nargs="+", metavar="IMAGE", help=text)
    add("--out", type=Path, default=Path("runs/segment"), metavar="DIR", help="folder of the results; a run resumes")
    text = "SAM 1 or 2.1: tiny-sam, sam_vit_b, sam2.1_hiera_tiny, ..., a checkpoint file or a bundle"
    add("--weights", default="tiny-sam", metavar="NAME", help=text)
    add("--device", choices=("cpu", "cuda"), help="where to compute (default: a GPU if there is one)")
    add("--force", action="store_true", help="remove the results of another run in --out first")
    add("--logs", type=Path, default=Path("lightning_logs"), metavar="DIR", help="folder of the TensorBoard logs")
    text = "change a limit of the alerts: p95_ms=500, median_score=0.7; may be repeated"
    add("--alert", action="append", default=[], metavar="NAME=NUMBER", help=text)
    add("--fail-on-alert", action="store_true", help="exit with 1 if there is an alert")


def device_of(arguments: argparse.Namespace) -> str:
    """Return the device of ``--device``, or else a GPU if there is one."""
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this machine has no GPU that PyTorch can use; leave the option out")
    return arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")


def open_model(arguments: argparse.Namespace) -> "SamModel | Sam2Model":
    """Open the promptable model of ``--weights``, in evaluation mode."""
    from naruto_vision.segmentation.opening import open_promptable_model

    return open_promptable_model(arguments.weights).to(device_of(arguments))


def run_segment(arguments: argparse.Namespace, build_mode: Callable[[], "SegmentMode"]) -> int:
    """Segment the images with a mode, which is built once the images are known to be there.

    An image that cannot be used is counted and named; the run continues in a folder that has results of the same mode.
    """
    from naruto_vision.io.inputs import find_images
    from naruto_vision.io.locks import folder_lock
    from naruto_vision.prompting.monitor import Monitor, MonitorLimits

    files = find_images(arguments.images)
    monitor = Monitor(MonitorLimits.read(arguments.alert))
    with folder_lock(arguments.out, "--out"):
        if arguments.force:
            _remove_results(arguments.out)
        return _run(arguments, files, build_mode(), monitor)


def _remove_results(out: Path) -> None:
    """Empty a folder of results, but for its lock; InputError if it has other files only."""
    import shutil

    from naruto_vision.io.images import is_result
    from naruto_vision.io.locks import is_in_use

    names = {path.name for path in out.iterdir()}
    if is_in_use(out) and not is_result(names):
        msg = f"{out}: --force removes results of naruto-vision only, and this is no folder of them; give another --out"
        raise InputError(msg)
    for path in out.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _run(arguments: argparse.Namespace, files: "ImageFiles", mode: "SegmentMode", monitor: "Monitor") -> int:
    from naruto_vision.io.quarantine import Quarantine
    from naruto_vision.prompting.writer import SegmentWriter
    from naruto_vision.recognition.writer import LOG, forget_changed, software_versions

    out: Path = arguments.out
    if changed := forget_changed(out, files.root, LOG):
        _LOG.info("%d images have changed since they were segmented and are segmented again", len(changed))
    writer = SegmentWriter(out, files.names, {"images": str(files.root.resolve()), **mode.identity})
    for record, times in writer.records():
        monitor.add(record, times)
    if done := len(writer.done - writer.absent):
        _LOG.info("%d of %d images were already done (in %s)", done, len(files.names), out)
    quarantine = Quarantine("images")
    try:
        _segment_all(files, mode, writer, quarantine, _Curves(arguments.logs, monitor))
    except KeyboardInterrupt:
        done = len(writer.done - writer.absent)
        _LOG.info("stopped with %d of %d images done; the same command again continues", done, len(files.names))
        raise
    finally:
        writer.close()
    bad = quarantine.rows
    facts = {"versions": software_versions(), "passed_over": files.listing.as_json(), **monitor.facts()}
    run = writer.finish(bad, facts)
    if len(bad) == len(files.names):
        first = bad[0].reason
        raise InputError(first if len(bad) == 1 else f"none of {len(bad)} images can be segmented; first {first}")
    show(*files.listing.sentences(), *_summary(writer, run))
    return EXIT_ALERT if run["alerts"] and arguments.fail_on_alert else 0


class _Curves:
    """Passes the numbers of images to the monitor and to TensorBoard, whose folder is made with the first image."""

    def __init__(self, folder: Path, monitor: "Monitor") -> None:
        self.folder, self.monitor = folder, monitor
        self._logger: Any = None

    def add(self, record: Mapping[str, Any], milliseconds: Mapping[str, float]) -> None:
        """Log one image."""
        if self._logger is None:
            from lightning.fabric.loggers.tensorboard import TensorBoardLogger  # a second to import

            self._logger = TensorBoardLogger(self.folder, "segment")
        numbers, step = self.monitor.add(record, milliseconds), len(self.monitor.values["regions"])
        self._logger.log_metrics({f"segment/{name}": value for name, value in numbers.items()}, step)

    def close(self) -> None:
        """Log the distributions and the percentiles of the whole folder."""
        if self._logger is None:
            return
        import numpy as np

        step = len(self.monitor.values["regions"])
        for name, values in self.monitor.values.items():
            if values:
                self._logger.experiment.add_histogram(f"segment_all/{name}", np.array(values), step)
        times = self.monitor.summary()["ms_by_size"].items()
        named = {f"segment_ms {size}/{point}": row[point] for size, row in times for point in ("p50", "p95", "p99")}
        self._logger.log_metrics(named, step)
        self._logger.finalize("success")


def _segment_all(
    files: "ImageFiles", mode: "SegmentMode", writer: "SegmentWriter", quarantine: "Quarantine", curves: _Curves
) -> None:
    """Segment and write what is not done yet, in the order of the names."""
    from naruto_vision.prompting.writer import segment_file

    todo = [name for name in files.names if name not in writer.done]
    with progress("segmenting", len(todo), hidden=len(todo) < 2) as advance:
        for name in todo:
            if name in files.refused:
                quarantine.refuse(name, files.refused[name])
            elif found := segment_file(mode, writer, quarantine, name, files.root / name):
                curves.add(*found)
            advance()
    curves.close()


def _summary(writer: "SegmentWriter", run: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was found, what is wrong and where to look."""
    from naruto_vision.prompting.writer import OVERLAYS
    from naruto_vision.recognition.writer import COCO, LOG, RUN

    counts, out = run["counts"], writer.out
    left = f", {counts['quarantined']} could not be used" if counts["quarantined"] else ""
    yield f"{out}: {counts['ok']} of {counts['seen']} images segmented{left}; {counts['regions']} regions"
    lines = [each["reason"] for each in run["quarantined"]]
    lines += [f"{note} ({times} images)" if times > 1 else note for note, times in run["notes"].items()]
    if counts["seen"] == 1:
        lines += [
            _sentence(number, region) for number, region in enumerate(next(writer.records())[0]["regions"], start=1)
        ]
    yield from (f"  {line}" for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield f"  and {len(lines) - _SHOWN} more, in {out / RUN} and {out / LOG}"
    yield from (f"alert: {line}" for line in run["alerts"])
    yield f"look at {out / OVERLAYS}; masks: {out / LOG} and {out / COCO}"


def _sentence(number: int, region: Mapping[str, Any]) -> str:
    named, box = f" {region['name']}" if "name" in region else "", ",".join(map(str, region["bbox"]))
    shape = f"{region['area']} px, box {box}, perimeter {region['perimeter']:g}"
    return f"region {number}{named}: score {region['predicted_iou']:.3f}, {shape}"


def _numbers(text: str, count: int, form: str) -> tuple[float, ...]:
    """Read comma-separated numbers, for argparse's ``type``."""
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        values = ()
    if len(values) != count or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"expected {form}, found {text!r}")
    return values


def _box(text: str) -> tuple[float, ...]:
    return _numbers(text, 4, "x1,y1,x2,y2")


def _point(text: str) -> tuple[float, float, bool]:
    form = "x,y,1 (on the object) or x,y,0 (on the background)"
    x, y, label = _numbers(text, 3, form)
    if label not in {0, 1}:
        raise argparse.ArgumentTypeError(f"expected {form}, found {text!r}")
    return x, y, bool(label)


def _user_options(parser: argparse.ArgumentParser) -> None:
    add_segment_options(parser)
    add = parser.add_argument
    text = "box in pixels, any two opposite corners; repeated: an object each"
    add("--box", action="append", default=[], type=_box, metavar="X1,Y1,X2,Y2", help=text)
    text = "point in pixels, 1 on the object or 0 on the background; may be repeated"
    add("--point", action="append", default=[], type=_point, metavar="X,Y,LABEL", help=text)
    text = "JSON file of prompts in place of --box and --point: as *_points.json, or such a value for each file name"
    add("--prompts", type=Path, metavar="FILE", help=text)
    text = "which of the three masks to take (default: the one with the highest estimated IoU)"
    add("--mask", type=int, choices=(0, 1, 2), help=text)
    text = "repeat N times with the mask as a further prompt; for the official weights, not for tiny-sam"
    add("--refine", type=whole_number, default=0, metavar="N", help=text)
    text = "gallery: name the three masks, and take the one whose name has the largest margin"
    add("--gallery", type=gallery_place, metavar="DIR", help=text)
    add("--clean", action="store_true", help="keep the largest part of a mask, fill its holes, smooth its outline")
    add("--min-side", type=whole_number, default=0, metavar="PIXELS", help="refuse boxes with a shorter side")
    add("--max-side", type=whole_number, metavar="PIXELS", help="refuse boxes with a longer side")


def user(arguments: argparse.Namespace) -> int:
    """Segment objects by points and boxes."""
    from naruto_vision.prompting.user import UserMode, UserPrompts, UserSettings, read_prompts

    if arguments.prompts and (arguments.box or arguments.point):
        raise InputError("segment: expected either --prompts or --box and --point, found both")
    if arguments.prompts:
        prompts = read_prompts(arguments.prompts)
    else:
        prompts = UserPrompts(tuple(arguments.point), tuple(arguments.box))
    own = arguments
    settings = UserSettings(own.mask, own.refine, own.clean, own.min_side, own.max_side)

    def build_mode() -> "SegmentMode":
        model = open_model(arguments)
        if arguments.gallery is None:
            return UserMode(model, prompts, settings)
        analyzer = _analyzer(arguments, model)
        return UserMode(model, prompts, settings, identify=analyzer.identify, gallery=analyzer.gallery.digest)

    return run_segment(arguments, build_mode)


def _analyzer(arguments: argparse.Namespace, model: "SamModel | Sam2Model") -> "SceneAnalyzer":
    """Open a gallery with the encoder that built it, to name regions as ``predict`` does."""
    folder = arguments.gallery
    check_gallery(folder)
    from naruto_vision.encoders.opening import recorded_encoder
    from naruto_vision.gallery.gallery import Gallery
    from naruto_vision.recognition.analyzer import SceneAnalyzer
    from naruto_vision.segmentation.crops import CropConfig
    from naruto_vision.segmentation.generator import Segmenter
    from naruto_vision.segmentation.prompts import GridPrompter

    gallery = Gallery.open(folder)
    encoder = recorded_encoder(folder, gallery.note.get("encoder"), gallery.fingerprint).to(device_of(arguments))
    grey = CropConfig(background=128)  # besides black, as in scenes.yaml
    return SceneAnalyzer(Segmenter(GridPrompter(1), model), encoder, gallery, more_crops=[grey])


def _grid_options(parser: argparse.ArgumentParser) -> None:
    add_segment_options(parser)
    add = parser.add_argument
    add("--points-per-side", type=count, default=32, metavar="N", help="the grid has the square of this many points")
    add("--predicted-iou", type=fraction, metavar="IOU", help="minimum estimated IoU (default: that of the weights)")
    add("--stability", type=fraction, metavar="IOU", help="minimum stability score (default: that of the weights)")
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


COMMANDS = {"segment": (_user_options, user), "segment grid": (_grid_options, grid)}
