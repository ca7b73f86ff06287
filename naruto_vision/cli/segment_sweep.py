"""``naruto-vision segment sweep``: everything in images, point after point, ignoring what is covered already."""

import argparse
import re
from typing import TYPE_CHECKING

from naruto_vision.cli.console import count, fraction, whole_number
from naruto_vision.cli.segment import add_segment_options, open_model, run_segment

if TYPE_CHECKING:
    from naruto_vision.prompting.mode import SegmentMode


def _pair(text: str) -> tuple[int, int]:
    """Read ``14x12``, for argparse's ``type``."""
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected two whole numbers such as 14x12, found {text!r}")
    return int(found[1]), int(found[2])


def _point(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6}),(\d{1,6})", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected x,y in pixels, found {text!r}")
    return int(found[1]), int(found[2])


def _options(parser: argparse.ArgumentParser) -> None:
    add_segment_options(parser)
    add = parser.add_argument
    text = "skip points that a mask covers; also subtract covered pixels from new masks; or use every point"
    add("--mode", choices=("skip", "subtract", "overlap-tolerance"), default="skip", help=text)
    text = "in the last two modes, leave out a mask of which a larger fraction is covered"
    add("--tolerance", type=fraction, default=0.5, metavar="FRACTION", help=text)
    add("--grid", type=_pair, default=(14, 12), metavar="CxR", help="columns and rows of the grid (default: 14x12)")
    text = "maximum number of points from contours, used before the grid"
    add("--max-contours", type=whole_number, default=500, metavar="N", help=text)
    text = "scale larger images down to this width and height (default: 640x480)"
    add("--max-size", type=_pair, default=(640, 480), metavar="WxH", help=text)
    text = "order of the points: contours by area and then the grid, from the centre out, or by estimated IoU"
    add("--order", choices=("area", "centre", "iou"), default="area", help=text)
    add("--point", action="append", default=[], type=_point, metavar="X,Y", help="point to use first; may be repeated")
    add("--saliency", action="store_true", help="use boxes of salient objects next, before the contours")
    text = "leave out smaller masks, at the size of the sweep"
    add("--min-area", type=count, default=50, metavar="PIXELS", help=text)
    text = "minimum estimated IoU of a mask"
    add("--predicted-iou", type=fraction, default=0.0, metavar="IOU", help=text)
    text = "leave out a mask whose IoU with an earlier one is higher; 1 keeps all"
    add("--same-iou", type=fraction, default=0.8, metavar="IOU", help=text)
    text = "a mask of a larger part of the image covers nothing"
    add("--max-cover", type=fraction, default=1.0, metavar="FRACTION", help=text)
    text = "which of a point's masks: that of the highest estimated IoU, or the first"
    add("--mask", choices=("best", "first"), default="best", help=text)
    text = "also measure how stable the result is in N random orders of the points"
    add("--orders", type=whole_number, default=0, metavar="N", help=text)


def sweep(arguments: argparse.Namespace) -> int:
    """Sweep images."""

    def build_mode() -> "SegmentMode":
        from naruto_vision.prompting.contours import ContourPrompter
        from naruto_vision.prompting.saliency import SaliencyPrompter
        from naruto_vision.prompting.sweep import SweepConfig, SweepSegmenter
        from naruto_vision.prompting.sweep_mode import SweepMode

        config = SweepConfig(
            mode=arguments.mode.replace("-", "_"),
            tolerance=arguments.tolerance,
            min_area=arguments.min_area,
            predicted_iou=arguments.predicted_iou,
            same_iou=arguments.same_iou,
            max_cover=arguments.max_cover,
            mask=arguments.mask,
            order=arguments.order,
        )
        points = ContourPrompter(arguments.grid, arguments.max_contours, arguments.max_size)
        before = [SaliencyPrompter()] if arguments.saliency else []
        segmenter = SweepSegmenter(open_model(arguments), points, config, before)
        return SweepMode(segmenter, arguments.point, arguments.orders, arguments.weights)

    return run_segment(arguments, build_mode)


COMMANDS = {"segment sweep": (_options, sweep)}
