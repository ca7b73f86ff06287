"""``naruto-vision segment saliency``: masks of the salient objects of images."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from naruto_vision.cli.console import count, fraction, one_of, whole_number
from naruto_vision.cli.segment import add_segment_options, open_model, run_segment
from naruto_vision.errors import MissingPathError
from naruto_vision.prompting.presets import SaliencyPreset, packaged_presets, read_preset

if TYPE_CHECKING:
    from naruto_vision.prompting.mode import SegmentMode


def _options(parser: argparse.ArgumentParser) -> None:
    add_segment_options(parser)
    add = parser.add_argument
    text = "settings that the next options change: general, many-small, few-large, maximum, or a YAML file"
    add("--preset", default="general", metavar="NAME", help=text)
    add("--num-objects", type=count, metavar="N", help="maximum number of objects of an image (general: 5)")
    add("--prompt-type", type=one_of("box", "point"), metavar="KIND", help="prompt by box or by point (general: box)")
    add("--threshold", type=fraction, metavar="VALUE", help="minimum value of the map, in [0, 1] (general: 0.6)")
    add("--min-area", type=whole_number, metavar="PIXELS", help="leave out smaller objects (general: 100)")
    text = "network of the map: efficientnet-lite0 (packaged, the default), dinov2_vits14, ..., or a name of timm"
    add("--dino-model", metavar="NAME", help=text)
    text = "its weights (default: the packaged ones, or what `weights download` saved)"
    add("--dino-weights", metavar="FILE", help=text)
    text = "attention (needs a class token) or norm (default: attention where the model has it)"
    add("--map", type=one_of("attention", "norm"), metavar="KIND", help=text)


def _preset(name: str) -> SaliencyPreset:
    """Read a preset by its name, or a file."""
    packaged = packaged_presets()
    if name in packaged:
        return packaged[name]
    if not Path(name).is_file():
        raise MissingPathError(name, "preset", f"give {', '.join(packaged)}, or a YAML file")
    return read_preset(Path(name))


def saliency(arguments: argparse.Namespace) -> int:
    """Segment what is salient in the images."""
    given = {
        "model": arguments.dino_model,
        "weights": arguments.dino_weights,
        "map": arguments.map,
        "num_objects": arguments.num_objects,
        "prompt_type": arguments.prompt_type,
        "threshold": arguments.threshold,
        "min_area": arguments.min_area,
    }
    values = msgspec.structs.asdict(_preset(arguments.preset)).items()
    settings: dict[str, Any] = {key: value for key, value in (*values, *given.items()) if value is not None}

    def build_mode() -> "SegmentMode":
        from naruto_vision.prompting.saliency import SaliencyMode, SaliencyPrompter

        prompter = SaliencyPrompter(**settings)
        model = open_model(arguments)
        prompter.encoder.to(model.device)
        return SaliencyMode(prompter, model)

    return run_segment(arguments, build_mode)


COMMANDS = {"segment saliency": (_options, saliency)}
