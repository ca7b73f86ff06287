"""``naruto-vision bench segment``: automatic masks, and the parts of SAM, against ``segment_anything`` itself."""

import argparse
import resource
import sys
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from naruto_vision.cli.segment_parts import Bench, Part
    from naruto_vision.records import ImageArray
    from naruto_vision.segmentation.sam import Architecture

_PARTS = ("masks", "encoder", "decoder", "post", "noise")
_EACH_IMAGE = ("masks", "noise")  # the others are timed on the first alone
_OFFICIAL = ("vit_b", "vit_l", "vit_h")
_PRECISIONS, _COMPILED = ("float32", "bfloat16", "float16"), ("none", "encoder", "all")
_SIZES = {"tiny-sam": ((384, 384), (512, 512), (640, 640)), "official": ((683, 1024), (1024, 768), (1080, 1920))}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision bench segment``.
    """
    parser.add_argument(
        "--weights",
        default="tiny-sam",
        help="tiny-sam; vit_b, vit_l or vit_h for random weights; or a file or bundle (default: tiny-sam)",
    )
    parser.add_argument("--architecture", choices=("tiny-sam", *_OFFICIAL), help="of a file or bundle")
    parser.add_argument("--part", choices=("all", *_PARTS), default="masks", help="what is timed (default: masks)")
    parser.add_argument("--points", type=int, help="points a side of the grid (default: 16, or 32 for official sizes)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="images to segment (default: drawn ones)")
    parser.add_argument("--drawn", type=int, metavar="N", help="how many are drawn (default: 3; 12 to judge 16 bits)")
    parser.add_argument("--precision", choices=_PRECISIONS, default="float32", help="of ours (default: float32)")
    parser.add_argument("--compile", choices=_COMPILED, default="none", help="what is compiled of ours (default: none)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1, say, for both (default: cpu)")
    parser.add_argument("--share", type=float, default=0.4, help="of random weights' masks, which pass (default: .4)")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument("--ours-only", action="store_true", help="segment once, without stock, to see the peak memory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def run(arguments: argparse.Namespace) -> int:
    """Time ours and stock in turns on the same images, and compare what they find.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code: 1 where the results are too far from stock's for the precision, else 0.

    Raises:
        InputError: If a number makes no sense, there is no image, or the device is none for the precision.
    """
    for name in ("points", "repeats", "drawn"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            msg = f"--{name} {value}: expected 1 or more"
            raise InputError(msg)
    if not 0 < arguments.share <= 1:
        msg = f"--share {arguments.share}: expected more than 0 and at most 1"
        raise InputError(msg)
    import torch

    from naruto_vision.cli.bench import gemm_rate, write_report

    bench = _bench(arguments)
    images = list(_images(arguments, bench))
    facts: dict[str, Any] = {}
    if arguments.compile != "none":
        facts["first_image_s"] = bench.first_seconds(images[0])
    parts = [] if arguments.ours_only else list(_compare(arguments, bench, images))
    facts |= {"gemm_gflops": gemm_rate("torch"), "threads": torch.get_num_threads()}
    if arguments.ours_only:
        facts["regions"] = [bench.segment(image) for image in images]
    facts["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    _print(parts, facts)
    passed = _judge(parts, arguments.precision, facts)
    if arguments.json:
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
        write_report(arguments.json, "segment", settings, {**facts, "parts": [part.as_json() for part in parts]})
    return 0 if passed else 1


def _judge(parts: "list[Part]", precision: str, facts: dict[str, Any]) -> bool:
    """Hold every part to stock's results in float32, and the masks of 16 bits to a gate of their own."""
    from naruto_vision.cli.segment_parity import LowPrecisionGate, is_stock_result

    if precision == "float32":
        failed = [part.name for part in parts if not is_stock_result(part.parity)]
        facts["gate"] = {"failed": failed, "passed": not failed}
        if failed:
            sys.stdout.write(f"not stock's results: {', '.join(failed)}\n")
        return not failed
    ious = tuple(iou for part in parts for iou in part.ious)
    if not ious:
        sys.stdout.write("low precision not judged: there was no stock mask to compare with\n")
        return True
    gate = LowPrecisionGate(ious)
    facts["gate"] = {"matched": gate.matched, "masks": len(ious), "mean_iou": gate.mean, "passed": gate.passed}
    sys.stdout.write(f"{gate.sentence()}\n")
    return gate.passed


def _bench(arguments: argparse.Namespace) -> "Bench":
    import torch

    from naruto_vision.cli.segment_parts import Bench
    from naruto_vision.segmentation.sam import SamModel

    torch.manual_seed(0)
    random = arguments.weights in _OFFICIAL
    architecture: Architecture = arguments.weights if random else arguments.architecture or "tiny-sam"
    weights = None if random else arguments.weights
    model = SamModel(architecture, weights, arguments.precision, arguments.compile).eval()
    model = model.to(_device(arguments.device))
    points = arguments.points or (16 if architecture == "tiny-sam" else 32)
    warm_up = 1 if arguments.repeats > 1 else 0
    return Bench(model, points, arguments.repeats, warm_up, arguments.share if random else None)


def _device(name: str) -> "torch.device":
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        msg = f"--device {name}: expected cpu, cuda or cuda with a number"
        raise InputError(msg) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        msg = f"--device {name}: PyTorch sees {torch.cuda.device_count()} GPUs here; `naruto-vision doctor` tells more"
        raise InputError(msg)
    return device


def _images(arguments: argparse.Namespace, bench: "Bench") -> "Iterator[Image]":
    """Read the given images, or draw some of the sizes that go with the model."""
    from naruto_vision.io.bundles import config_path
    from naruto_vision.io.images import list_images, read_image
    from naruto_vision.synthetic.attributes import read_cast
    from naruto_vision.synthetic.scene import draw_scene

    if arguments.images:
        files = list_images(arguments.images)
        if not files:
            msg = f"{arguments.images}: there is no image"
            raise InputError(msg)
        yield from (read_image(arguments.images / file) for file in files)
        return
    cast = read_cast(config_path("cast.yaml"))
    sizes = _SIZES.get(bench.model.architecture, _SIZES["official"])
    count = arguments.drawn or (3 if arguments.precision == "float32" or bench.share else 12)
    for seed, (height, width) in islice(enumerate(cycle(sizes)), count):
        yield draw_scene(seed, cast, size=max(height, width)).image[:height, :width]


def _compare(arguments: argparse.Namespace, bench: "Bench", images: "list[Image]") -> "Iterator[Part]":
    from naruto_vision.cli import segment_parts, segment_stages
    from naruto_vision.cli.console import progress

    ways = {
        "masks": segment_parts.masks,
        "encoder": segment_parts.encoder,
        "decoder": segment_stages.decoder,
        "post": segment_stages.post,
        "noise": segment_stages.noise,
    }
    names = _PARTS if arguments.part == "all" else (arguments.part,)
    tasks = [(ways[name], each) for name in names for each in (images if name in _EACH_IMAGE else images[:1])]
    with progress("timing", 2 * len(tasks) * (bench.repeats + bench.warm_up)) as tick:
        for way, image in tasks:
            yield way(replace(bench, tick=tick), image)


def _print(parts: "list[Part]", facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    if parts:
        table = Table("part", "ours s", "stock s", "ours CPU s", "stock CPU s", "times as fast")
        for part in parts:
            table.add_row(part.name, *part.figures())
        Console().print(table)
    for part in parts:
        parity = ", ".join(f"{name} {value:.4g}" for name, value in part.parity.items())
        sys.stdout.write(f"{part.name}: {parity}\n")
    if "first_image_s" in facts:
        sys.stdout.write(f"compiling: the first image took {facts['first_image_s']:.1f} s, which is not counted\n")
    if "regions" in facts:
        sys.stdout.write(f"{len(facts['regions'])} images, {facts['regions']} regions\n")
    sys.stdout.write(
        f"PyTorch multiplied at {facts['gemm_gflops']:.0f} GFLOP/s on {facts['threads']} threads in this run; "
        f"peak memory {facts['peak_memory_gib']:.2f} GiB\n"
    )
