"""``naruto-vision export-model``."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from naruto_vision.cli.console import show
from naruto_vision.cli.gallery import add_encoder_options, gallery_encoder
from naruto_vision.cli.trainer_args import EXPORTED, GALLERY, gallery_place
from naruto_vision.io.bundles import config_path
from naruto_vision.io.machine import require_package

_IMAGES = 8  # drawn, to compare with torch
_FASTER = 1.3  # times as fast as torch, from which another program is worth it


def _options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--gallery", type=gallery_place, default=GALLERY, metavar="DIR", help="gallery whose encoder is exported")
    add_encoder_options(parser, without="the one that built the gallery")
    text = "export this SAM instead, for other programs: tiny-sam, an official name, a file or a bundle"
    add("--mask-weights", metavar="NAME", help=text)
    text = f"folder of the export (default: {EXPORTED}; of a SAM: runs/exported-sam)"
    add("--out", type=Path, metavar="DIR", help=text)


def _run(arguments: argparse.Namespace) -> int:
    require_package("onnxscript", "onnx")
    from naruto_vision.synthetic.attributes import read_cast
    from naruto_vision.synthetic.scene import draw_scene

    cast = read_cast(config_path("cast.yaml"))
    images = [draw_scene(seed, cast, size=256, difficulty="easy").image for seed in range(_IMAGES)]
    if arguments.mask_weights:
        from naruto_vision.segmentation.exported import export_sam
        from naruto_vision.segmentation.sam import SamModel

        out = arguments.out or Path("runs/exported-sam")
        speeds = export_sam(SamModel(weights=arguments.mask_weights), out, images[0])
        show(f"the graphs in {out} give torch's features and masks")
        for graph, own in speeds.items():
            show(f"{graph}: {_compared(own)}")
        return 0
    import torch

    from naruto_vision.encoders.exported import LEAST_COSINE, export_encoder
    from naruto_vision.encoders.opening import open_encoder
    from naruto_vision.gallery.info import list_gallery

    if arguments.encoder:
        encoder = open_encoder(arguments.encoder, arguments.weights)
    else:
        listing = list_gallery(arguments.gallery)
        encoder = gallery_encoder(arguments, listing)
    out = arguments.out or Path(EXPORTED)
    own = export_encoder(encoder, out, torch.stack([encoder.preprocess(image) for image in images]))
    show(f"the graph in {out} gives torch's vectors (cosine {LEAST_COSINE} or more)", f"encoder: {_compared(own)}")
    best = max(own, key=lambda runtime: own[runtime])
    option = f" --model.exported {out}" if arguments.out else ""
    if own[best] >= _FASTER:
        show(f"next: naruto-vision predict DIR --runtime {best}{option}")
    else:
        show("torch is as fast here: `predict` gains nothing by --runtime")
    return 0


def _compared(speeds: Mapping[str, float]) -> str:
    return ", ".join(f"{runtime} {ratio:.2f}" for runtime, ratio in speeds.items()) + " times as fast as torch here"


COMMANDS = {"export-model": (_options, _run)}
