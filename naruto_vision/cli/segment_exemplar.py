"""``naruto-vision segment exemplar`` and ``segment text``: masks of what looks like exemplars, or fits phrases."""

import argparse
from typing import TYPE_CHECKING, Any

from naruto_vision.cli.console import count, fraction, one_of, whole_number
from naruto_vision.cli.segment import add_segment_options, device_of, open_model, run_segment
from naruto_vision.cli.trainer_args import check_gallery
from naruto_vision.errors import InputError
from naruto_vision.io.names import label_name

if TYPE_CHECKING:
    from naruto_vision.encoders.base import Encoder
    from naruto_vision.prompting.mode import SegmentMode


def _map_options(parser: argparse.ArgumentParser, encoder: str) -> None:
    """Declare the options of maps of similarity; ``encoder`` is the default in help."""
    add = parser.add_argument
    add("--encoder", default="", metavar="MODEL", help=f"architecture or model bundle (default: {encoder})")
    text = "minimum similarity; at 0.5 a patch is as near to the object as to the background"
    add("--similarity", type=fraction, default=0.5, metavar="VALUE", help=text)
    add("--min-area", type=whole_number, default=100, metavar="PIXELS", help="leave out smaller objects of the map")
    add("--num-objects", type=count, default=12, metavar="N", help="maximum number of prompts of an image")
    add("--prompt-type", type=one_of("box", "point"), default="box", metavar="KIND", help="prompt by box or by point")
    text = "fuse the similarity with saliency: multiply, max, or weighted (0.6 to 0.4) (default: the similarity alone)"
    add("--fusion", type=one_of("multiply", "max", "weighted"), metavar="KIND", help=text)
    add("--detection", type=fraction, metavar="VALUE", help="minimum saliency, with --fusion (default: 0.3)")
    text = "merge touching masks of one class where the whole is as similar, for models that find parts"
    add("--merge", action="store_true", help=text)


def _map_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    from naruto_vision.prompting.saliency import SaliencyPrompter

    names = ("similarity", "min_area", "num_objects", "prompt_type")
    settings: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    if arguments.detection is not None:
        if not arguments.fusion:
            raise InputError("--detection: is for --fusion KIND; without it give --similarity")
        settings["detection"] = arguments.detection
    return settings | ({"fusion": arguments.fusion, "saliency": SaliencyPrompter()} if arguments.fusion else {})


def _encoder(arguments: argparse.Namespace, default: str) -> "Encoder":
    from naruto_vision.encoders.opening import open_encoder

    return open_encoder(arguments.encoder or default).to(device_of(arguments))


def _exemplar_options(parser: argparse.ArgumentParser) -> None:
    add_segment_options(parser)
    add = parser.add_argument
    text = (
        "example images of an object, each [NAME=]IMAGE, [NAME=]IMAGE:x1,y1,x2,y2 with its box, or "
        "[NAME=]IMAGE:MASK with an image that is white on it; images of one NAME are one class"
    )
    add("--exemplar", nargs="+", default=[], metavar="IMAGE", help=text)
    add("--gallery", metavar="DIR", help="gallery whose images are the exemplars of their labels")
    text = "labels of the gallery to look for (default: all)"
    add("--label", nargs="+", type=label_name, default=[], metavar="NAME", help=text)
    _map_options(parser, "efficientnet-lite0")


def exemplar(arguments: argparse.Namespace) -> int:
    """Segment what looks like the exemplars."""
    if not arguments.exemplar and not arguments.gallery:
        raise InputError("segment exemplar: give --exemplar IMAGE, or --gallery DIR")
    if arguments.gallery:
        check_gallery(arguments.gallery)
    elif arguments.label:
        raise InputError("--label: expected --gallery DIR, whose labels it chooses; name images as NAME=IMAGE")

    def build_mode() -> "SegmentMode":
        from naruto_vision.encoders.backbone import LITE0
        from naruto_vision.prompting.exemplar import ExemplarMode, ExemplarPrompter
        from naruto_vision.recognition.merging import MergeConfig

        encoder, settings = _encoder(arguments, LITE0), _map_settings(arguments)
        prompter = ExemplarPrompter(arguments.exemplar, arguments.gallery, arguments.label, encoder, **settings)
        return ExemplarMode(prompter, open_model(arguments), merge=MergeConfig() if arguments.merge else None)

    return run_segment(arguments, build_mode)


def _text_options(parser: argparse.ArgumentParser) -> None:
    add_segment_options(parser)
    add = parser.add_argument
    add("--text", nargs="+", required=True, metavar="TEXT", help="phrases of the objects, one for each class")
    text = "folder of a detector of transformers (Grounding DINO, OWLv2, OWL-ViT) to use instead of a CLIP"
    add("--detector", metavar="DIR", help=text)
    text = "minimum score of a box, with --detector (default: 0.25)"
    add("--threshold", type=fraction, metavar="SCORE", help=text)
    _text_map_options(parser)


def _text_map_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--background", nargs="+", default=[], metavar="TEXT", help="phrases of everything else (default: a list)")
    text = "windows (overlapping parts of the image) or patches (one pass; much worse with tiny-clip)"
    add("--map", type=one_of("windows", "patches"), default="windows", metavar="KIND", help=text)
    _map_options(parser, "tiny-clip")


def _check_no_map(arguments: argparse.Namespace) -> None:
    """Refuse options of the map of a CLIP where a detector finds the boxes."""
    parser = argparse.ArgumentParser()
    _text_map_options(parser)
    given = [name for name, default in vars(parser.parse_args([])).items() if getattr(arguments, name) != default]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"{options}: for the map of a CLIP, which --detector replaces; leave out one of the two")


def text(arguments: argparse.Namespace) -> int:
    """Segment what the texts describe."""
    if arguments.detector:
        _check_no_map(arguments)
    if arguments.threshold is not None and not arguments.detector:
        raise InputError("--threshold: is for --detector DIR; without it give --similarity")

    def build_mode() -> "SegmentMode":
        from naruto_vision.encoders.tiny import TINY_CLIP
        from naruto_vision.prompting.exemplar import ExemplarMode
        from naruto_vision.prompting.text import BACKGROUND, DetectorMode, OpenVocabularyPrompter, TextPrompter
        from naruto_vision.recognition.merging import MergeConfig

        if arguments.detector:
            own = {} if arguments.threshold is None else {"threshold": arguments.threshold}
            detector = OpenVocabularyPrompter(arguments.text, arguments.detector, **own)
            detector.detector.to(device_of(arguments))
            return DetectorMode(detector, open_model(arguments))
        prompter = TextPrompter(
            arguments.text,
            _encoder(arguments, TINY_CLIP),
            arguments.background or BACKGROUND,
            map=arguments.map,
            **_map_settings(arguments),
        )
        return ExemplarMode(prompter, open_model(arguments), merge=MergeConfig() if arguments.merge else None)

    return run_segment(arguments, build_mode)


COMMANDS = {"segment exemplar": (_exemplar_options, exemplar), "segment text": (_text_options, text)}
