"""``naruto-vision bench embed``: masks to vectors, in batches of tensors against PIL and one crop a stock pass."""

import argparse
import copy
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from naruto_vision.cli.bench import Timing
    from naruto_vision.encoders.base import Encoder
    from naruto_vision.records import ImageArray, Region

BASELINE = "PIL, one by one"
OURS = "batches"
INTEGERS = "batches, int8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision bench embed``.
    """
    parser.add_argument("--encoder", default="ViT-B-32", help="as for `gallery add` (default: ViT-B-32)")
    parser.add_argument(
        "--pretrained", help="its weights (default: random ones for an open_clip architecture, which are as fast)"
    )
    parser.add_argument("--masks", type=int, default=60, help="how many masks (default: 60)")
    parser.add_argument("--size", type=int, default=768, help="side of the drawn scene in pixels (default: 768)")
    parser.add_argument("--batch", type=int, help="crops a forward pass (default: 16 on a CPU, 256 elsewhere)")
    parser.add_argument("--mirror", action="store_true", help="average with the mirror image's vectors, in all")
    parser.add_argument("--int8", action="store_true", help="time 8-bit integers too, on a CPU with VNNI")
    parser.add_argument("--device", default="cpu", help="where the encoder runs (default: cpu)")
    parser.add_argument("--seed", type=int, default=7, help="draws the scene and the masks (default: 7)")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def run(arguments: argparse.Namespace) -> int:
    """Embed the same masks in each way, in turns, and compare the vectors.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If a number makes no sense, or the encoder, the device or integers are not to be had.
    """
    for name, least in (("masks", 1), ("size", 64), ("repeats", 1), ("batch", 1)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            msg = f"--{name} {value}: expected {least} or more"
            raise InputError(msg)
    import torch

    from naruto_vision.cli.bench import gemm_rate, interleaved, write_report

    encoder = _encoder(arguments)
    vectors: dict[str, Tensor] = {}
    times = interleaved(_candidates(arguments, encoder, vectors), arguments.repeats)
    rate = gemm_rate("torch")
    results: dict[str, Any] = {
        "gemm_gflops": rate,
        "threads": torch.get_num_threads(),
        "ways": {name: _figures(arguments.masks, name, times, vectors) for name in times},
    }
    _print_table(arguments, results["ways"])
    sys.stdout.write(f"PyTorch multiplied at {rate:.0f} GFLOP/s on {results['threads']} threads in this run\n")
    if arguments.json:
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
        write_report(arguments.json, "embed", settings, results)
    return 0


def _encoder(arguments: argparse.Namespace) -> "Encoder":
    import open_clip
    import torch

    from naruto_vision.encoders.clip import RANDOM
    from naruto_vision.encoders.opening import open_encoder

    torch.manual_seed(arguments.seed)
    untrained = arguments.pretrained is None and arguments.encoder in open_clip.list_models()
    encoder = open_encoder(arguments.encoder, RANDOM if untrained else arguments.pretrained)
    try:
        return encoder.to(arguments.device)
    except (RuntimeError, AssertionError) as error:
        msg = f"--device {arguments.device}: {str(error).splitlines()[0]}"
        raise InputError(msg) from None


def _candidates(
    arguments: argparse.Namespace, encoder: "Encoder", vectors: "dict[str, Tensor]"
) -> dict[str, Callable[[], None]]:
    from naruto_vision.encoders.base import embed_images
    from naruto_vision.encoders.int8 import Int8Encoder
    from naruto_vision.segmentation.crops import CropSettings, crop_region, embed_regions

    image, regions = _scene(arguments)
    way = CropSettings()
    stock = copy.copy(encoder)  # the same layers, run by the library's own forward pass
    stock.stock = True

    def one_by_one() -> None:
        crops = (crop_region(image, region, way) for region in regions)
        vectors[BASELINE] = embed_images(stock, list(crops), batch_size=1, mirror=arguments.mirror)

    def in_batches(name: str, tower: "Encoder") -> None:
        size = arguments.batch
        vectors[name] = embed_regions(tower, [(image, regions)], [way], mirror=arguments.mirror, batch_size=size)[0][0]

    found: dict[str, Callable[[], None]] = {BASELINE: one_by_one, OURS: partial(in_batches, OURS, encoder)}
    if arguments.int8:
        found[INTEGERS] = partial(in_batches, INTEGERS, Int8Encoder(encoder))
    return found


def _scene(arguments: argparse.Namespace) -> "tuple[Image, list[Region]]":
    """Draw a scene, and ellipses on it from a sixteenth to a half of its side."""
    import numpy as np

    from naruto_vision.io.bundles import config_path
    from naruto_vision.records import Region
    from naruto_vision.synthetic.attributes import read_cast
    from naruto_vision.synthetic.scene import draw_scene

    size = arguments.size
    image = draw_scene(arguments.seed, read_cast(config_path("cast.yaml")), size=size).image
    generator = np.random.default_rng(arguments.seed)
    regions = []
    for _ in range(arguments.masks):
        width, height = (int(side) for side in size * np.exp2(generator.uniform(-4, -1, 2)))
        left, top = (int(generator.integers(0, size - side + 1)) for side in (width, height))
        rows = np.linspace(-1, 1, height)[:, None]
        columns = np.linspace(-1, 1, width)[None]
        regions.append(Region((left, top, left + width - 1, top + height - 1), rows**2 + columns**2 <= 1.05))
    return image, regions


def _figures(masks: int, name: str, times: "Mapping[str, Timing]", vectors: "Mapping[str, Tensor]") -> dict[str, Any]:
    from torch.nn.functional import cosine_similarity

    alike = cosine_similarity(vectors[name], vectors[BASELINE], dim=-1)
    return {
        **times[name].as_json(),
        "ms_per_mask": 1000.0 * times[name].median / masks,
        "times_as_fast": times[BASELINE].median / times[name].median,
        "times_as_fast_cpu": times[BASELINE].cpu_median / times[name].cpu_median,
        "least_cosine": float(alike.min()),
        "mean_cosine": float(alike.mean()),
    }


def _print_table(arguments: argparse.Namespace, ways: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{arguments.masks} masks of one image, {arguments.encoder}, {arguments.repeats} rounds"
    table = Table("way", "median s", "CPU s", "ms/mask", "times as fast", "in CPU time", "least cosine", title=title)
    for name, one in ways.items():
        table.add_row(
            name,
            f"{one['median_s']:.3f}",
            f"{one['cpu_median_s']:.3f}",
            f"{one['ms_per_mask']:.1f}",
            f"{one['times_as_fast']:.2f}",
            f"{one['times_as_fast_cpu']:.2f}",
            f"{one['least_cosine']:.5f}",
        )
    Console().print(table)
