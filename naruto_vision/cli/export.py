"""``naruto-vision export``."""

import argparse
from pathlib import Path

from naruto_vision.cli.console import progress, show


def _options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = (
        "folder of a run of predict or segment; or labelled scenes: gt.json, a COCO, CVAT, Label Studio or CSV file, "
        "or a folder of images with their annotations"
    )
    add("source", type=Path, metavar="PATH", help=text)
    text = "format: coco, label-studio and cvat keep masks exactly, yolo-seg as polygons; pairs are crops with texts"
    formats = ("coco", "yolo-seg", "yolo", "voc", "cvat", "label-studio", "pairs", "gt")
    add("--to", choices=formats, required=True, help=text)
    text = "output folder, new or empty; it gets a link to the images"
    add("--out", type=Path, required=True, metavar="DIR", help=text)
    text = "of a run: shown, the named regions on the overlays (default); or all"
    add("--regions", choices=("shown", "all"), default="shown", help=text)
    text = "folder of the images (default: that of the run, or images/ beside the labels)"
    add("--images", type=Path, metavar="DIR", help=text)
    text = "Label Studio: what addresses of images start with, such as s3://bucket/ (default: its local storage)"
    add("--url", metavar="PREFIX", help=text)


def _run(arguments: argparse.Namespace) -> int:
    from naruto_vision.data.exporting import open_scenes
    from naruto_vision.export.writers import write_scenes

    source = open_scenes(arguments.source, arguments.images, arguments.regions)
    passes = 2 if arguments.to == "coco" else 1
    with progress("exporting", passes * len(source.names)) as advance:
        target = write_scenes(source, arguments.to, arguments.out, url=arguments.url, advance=advance)
    more = "; --regions all takes those that are unknown or not shown too" if source.predicted else ""
    show(f"{source.objects} regions of {len(source.names)} scenes are in {target}{'' if source.objects else more}")
    return 0


COMMANDS = {"export": (_options, _run)}
