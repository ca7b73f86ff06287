"""``naruto-vision describe``: describe the regions of a run, or whole images, in words."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.cli.console import above_zero, count, progress, show, warn
from naruto_vision.errors import InputError

if TYPE_CHECKING:
    from naruto_vision.captioning.protocol import Describer
    from naruto_vision.captioning.scenes import SceneSource

_LOG = logging.getLogger(__name__)
_OPTIONS = {
    "attributes": ("encoder", "weights", "vocabulary"),
    "endpoint": ("url", "model", "payload", "workers", "timeout", "question"),
    "transformers": ("model", "question"),
}
"""Describer → its own options."""


def _options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "the --out folder of `predict` or `segment`, its predictions.jsonl, or images, each as one region"
    add("names", nargs="+", metavar="RUN|IMAGE", help=text)
    text = "what describes: attributes needs nothing else; endpoint asks a server; transformers runs a local model"
    add("--describer", choices=tuple(_OPTIONS), default="attributes", help=text)
    add("--out", type=Path, metavar="DIR", help="folder of the results (default: RUN, or runs/describe for images)")
    add("--images", type=Path, metavar="DIR", help="folder of the run's images (default: as the run recorded)")
    text = "shown: the regions on the overlays of `predict`; all of a `segment` run are"
    add("--regions", choices=("shown", "all"), default="shown", help=text)
    text = "maximum number of requests per region, if an answer is empty"
    add("--attempts", type=count, default=2, metavar="N", help=text)
    of = parser.add_argument_group("--describer attributes").add_argument
    of("--encoder", metavar="MODEL", help="encoder with a text tower (default: tiny-clip)")
    of("--weights", metavar="FILE", help="weights of an architecture: official name, file or open_clip tag")
    of("--vocabulary", type=Path, metavar="FILE", help="YAML of phrases (default: the packaged attributes.yaml)")
    of = parser.add_argument_group("--describer endpoint or transformers").add_argument
    of("--model", metavar="NAME", help="name of the server's model (default: its only one); or a local model's folder")
    text = "what is asked (default: one sentence on hair, clothes, colours, held things)"
    of("--question", metavar="TEXT", help=text)
    of("--url", metavar="URL", help="server that speaks the chat-completions API (default: http://localhost:1234/v1)")
    text = "crop: the cut-out of a region (default); alpha: the whole image with the mask as alpha, for DAM's server"
    of("--payload", choices=("crop", "alpha"), help=text)
    of("--workers", type=count, metavar="N", help="requests at once (default: 4)")
    text = "until an answer must be complete (default: 120)"
    of("--timeout", type=above_zero("seconds", 1e6), metavar="SECONDS", help=text)


def describe(arguments: argparse.Namespace) -> int:
    """Describe, then print what was described and where it is."""
    describer = _describer(arguments)
    source, out = _source(arguments)
    from naruto_vision.captioning.protocol import AskingRule
    from naruto_vision.captioning.writer import SceneDescriber, summary_lines
    from naruto_vision.io.locks import folder_lock

    with folder_lock(out, "--out"), describer:
        rule = AskingRule(attempts=arguments.attempts)
        job = SceneDescriber(source, describer, out, rule)
        if done := len(source.digests) - job.todo:
            _LOG.info("%d of %d scenes were already described (in %s)", done, len(source.digests), out)
        try:
            with progress("describing", job.todo, hidden=job.todo < 2) as advance:
                summary = job.run(advance)
        except KeyboardInterrupt:
            warn(f"stopped; the same command again continues (finished scenes are in {out})")
            raise
    show(*summary_lines(out, summary))
    return 0


def _describer(arguments: argparse.Namespace) -> "Describer":
    """Build the describer of the options; those of another one are refused."""
    kind, given = arguments.describer, vars(arguments)
    chosen = {name: given[name] for name in _OPTIONS[kind] if given[name] is not None}
    others = {name for names in _OPTIONS.values() for name in names} - set(_OPTIONS[kind])
    if wrong := sorted(name for name in others if given[name] is not None):
        fits = " or ".join(other for other, names in _OPTIONS.items() if wrong[0] in names)
        raise InputError(f"--{wrong[0]}: is an option of --describer {fits}, found --describer {kind}")
    match kind:
        case "endpoint":
            from naruto_vision.captioning.endpoint import EndpointDescriber

            return EndpointDescriber(**chosen)
        case "transformers":
            from naruto_vision.captioning.local import TransformersDescriber

            if "model" not in chosen:
                raise InputError("--describer transformers: give the folder of a model: --model DIR")
            return TransformersDescriber(chosen.pop("model"), **chosen)
        case _:
            from naruto_vision.captioning.attributes import AttributeDescriber

            return AttributeDescriber(**chosen)


def _source(arguments: argparse.Namespace) -> tuple["SceneSource", Path]:
    """Return what is described, and the folder of the results."""
    from naruto_vision.captioning.scenes import RunScenes, WholeImages
    from naruto_vision.io.inputs import find_images
    from naruto_vision.recognition.writer import LOG

    names = [Path(name) for name in arguments.names]
    logs = [name / LOG if name.is_dir() else name for name in names]
    runs = [log for log in logs if log.name.endswith(".jsonl") and log.is_file()]
    if runs and len(names) > 1:
        raise InputError(f"{runs[0].parent}: a run is described alone, found {len(names)} arguments")
    if runs:
        return RunScenes(runs[0], arguments.images, arguments.regions), arguments.out or runs[0].parent
    if arguments.images is not None:
        raise InputError(f"--images: is for a run, but there is no {LOG} in {names[0]}")
    return WholeImages(find_images(arguments.names)), arguments.out or Path("runs/describe")


COMMANDS = {"describe": (_options, describe)}
