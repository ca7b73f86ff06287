"""Arguments of ``fit``, ``validate``, ``test`` and ``predict``: help, short options and checks, all without torch."""

import argparse
import difflib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.io.bundles import config_path
from naruto_vision.io.machine import allowed_cpus

_LOG = logging.getLogger(__name__)
SCENES_CONFIG, GALLERY_CONFIG = "scenes.yaml", "gallery.yaml"
RUN_CONFIG = "config.yaml"
"""The whole config of a ``predict``, beside its results."""
GALLERY, TUNED = "runs/gallery", "runs/clip/bundle"
"""The gallery that ``SCENES_CONFIG`` names, and the encoder that is tuned for the next one."""

HELP_ALL = "--help_all"
_CONFIG_OPTIONS = frozenset({"--config", "-c"})
_GALLERY_OPTIONS = frozenset({"--model.gallery", "--model.init_args.gallery"})
_CLASS_KEYS = ("class_path", "init_args")


@dataclass(frozen=True)
class Option:
    """One option as help shows it: a switch if ``value`` is empty; ``long`` is the full name of a short one."""

    flag: str
    value: str
    text: str
    long: str = ""


SHORT_OPTIONS = (
    Option("--gallery", "DIR", "gallery to search (default: runs/gallery)", "--model.gallery"),
    Option(
        "--threshold", "SCORE", "draw only regions with at least this score (default: all)", "--model.overlay.min_score"
    ),
    Option("--top-k", "N", "draw at most N regions per scene, highest scores first", "--model.overlay.top_k"),
    Option(
        "--prefer-different-label",
        "",
        "with --top-k: prefer characters that are not drawn yet over repeated ones",
        "--model.overlay.prefer_different_label=true",
    ),
    Option("--min-area", "PIXELS", "drop regions with fewer pixels", "--model.segmenter.init_args.keep.min_area"),
    Option("--max-masks", "N", "keep at most N regions per scene", "--model.segmenter.init_args.keep.max_masks"),
    Option(
        "--mask-precision",
        "DTYPE",
        "dtype of SAM: float32 (default); bfloat16 or float16, faster on a GPU",
        "--model.segmenter.init_args.model.init_args.precision",
    ),
    Option(
        "--mask-compile",
        "PART",
        "torch.compile none (default), encoder or all of SAM: the first scene takes minutes, later ones less",
        "--model.segmenter.init_args.model.init_args.compile",
    ),
    Option(
        "--decision",
        "RULE",
        "how a region is named: auto (default: the gallery's best), vote, top1, mean, prototype, centroid, lda, logreg",
        "--model.decision",
    ),
    Option("--fail-fast", "", "stop at the first unreadable image (default: skip it)", "--fail_fast=true"),
)
"""Short options of ``predict``; LightningCLI gets the long ones."""

_LONG = {option.flag: option.long for option in SHORT_OPTIONS}
_SWITCHES = frozenset(option.flag for option in SHORT_OPTIONS if not option.value)
_CONFIG = Option("--config", "FILE", "YAML file, or the name of a packaged one; later ones override earlier ones")
_OUT = Option("--out", "DIR", "folder for the results (default: set by the config; runs/scenes in scenes.yaml)")
_CHECKPOINT = Option("--ckpt_path", "PATH", "load this Lightning checkpoint (default: none)")
_RUN = (
    Option("--trainer.accelerator", "NAME", "auto (default), cpu or gpu"),
    Option("--trainer.devices", "N", "number of devices (default: 1 in the packaged configs)"),
    Option("--trainer.precision", "NAME", "32-true (default), bf16-mixed, 16-mixed"),
    Option("--precision", "auto", "mixed precision where the hardware has it, otherwise --trainer.precision"),
    Option("--seed_everything", "N", "random seed (default: 42)"),
)


@dataclass(frozen=True)
class Verb:
    """The static help of one Trainer command."""

    text: str
    options: tuple[Option, ...]
    examples: tuple[str, ...]
    usage: str = "--config FILE [options]"


VERBS = {
    "fit": Verb(
        "Train: clip.yaml fine-tunes CLIP, sam.yaml trains a segmenter, gallery.yaml builds a gallery.",
        (
            _CONFIG,
            Option("--data.root", "DIR", "labelled images (default: data, in clip.yaml and gallery.yaml)"),
            Option("--data.valid", "DIR", "gallery.yaml: scenes with gt.json, to choose thresholds (default: none)"),
            Option("--data.batch_size", "N", "batch size (default: set by the config)"),
            Option("--trainer.max_epochs", "N", "number of epochs (default: set by the config)"),
            Option("--ckpt_path", "PATH", "resume from this checkpoint; last is the newest one (default: none)"),
            *_RUN,
        ),
        (
            "fit --config clip.yaml --data.root data",
            "fit --config gallery.yaml --data.root data --data.valid data/scenes/valid",
            "fit --config sam.yaml --ckpt_path last",
        ),
    ),
    "validate": Verb(
        "Validate the model of a config; with gallery.yaml: choose the thresholds of the gallery again.",
        (
            _CONFIG,
            Option("--data.valid", "DIR", "gallery.yaml: scenes with gt.json"),
            Option("--model.gallery", "DIR", "gallery.yaml: the gallery (default: runs/gallery)"),
            _CHECKPOINT,
            *_RUN,
        ),
        ("validate --config gallery.yaml --data.valid data/scenes/valid",),
    ),
    "test": Verb(
        "Evaluate a model on labelled data; with scenes.yaml: scenes against their gt.json.",
        (
            _CONFIG,
            Option("--data.test", "DIR", "scenes.yaml: scenes with gt.json"),
            Option("--model.gallery", "DIR", "scenes.yaml: the gallery (default: runs/gallery)"),
            _OUT,
            _CHECKPOINT,
            *_RUN,
        ),
        ("test --config scenes.yaml --data.test data/scenes/test",),
    ),
    "predict": Verb(
        "Find and name the characters in a folder of images. Run again, it resumes where it stopped.",
        (_OUT, *SHORT_OPTIONS, _CONFIG, *_RUN),
        (
            "predict my_scenes",
            "predict my_scenes --gallery runs/gallery --out runs/mine --threshold 0.8 --top-k 2",
            "predict --config scenes.yaml --data.predict my_scenes",
        ),
        usage="DIR [options]",
    ),
}


def verb_help(command: str) -> str:
    """Return the static help of a Trainer command, as wide as the terminal."""
    verb = VERBS[command]
    everything = (
        f"every option (takes seconds):\n  naruto-vision {command} {HELP_ALL}\n"
        f"  naruto-vision {command} --model.help CLASS, --data.help CLASS\n"
        f"a config with all its defaults:\n  {f'naruto-vision {verb.examples[0]}'} --print_config"
    )
    examples = "\n".join(f"  naruto-vision {example}" for example in verb.examples)
    parser = argparse.ArgumentParser(
        usage=f"naruto-vision {command} {verb.usage}",
        description=verb.text,
        epilog=f"examples:\n{examples}\n\n{everything}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    if command == "predict":
        parser.add_argument("DIR", help="folder of images, searched with its sub-folders")
    group = parser.add_argument_group("most used options")
    for option in verb.options:
        if option.value:
            group.add_argument(option.flag, metavar=option.value, help=option.text)
        else:
            group.add_argument(option.flag, action="store_true", help=option.text)
    return parser.format_help()


def expand_argv(command: str, argv: Sequence[str]) -> list[str]:
    """Return the argv for ``trainer.run_cli``: configs found, short options and ``predict DIR`` expanded; checked."""
    if HELP_ALL in argv:
        return [command, "--help"]
    if not argv:
        what = "a folder of images, or --config FILE" if command == "predict" else "--config FILE"
        msg = f"{command}: expected {what}; see `naruto-vision {command} --help`"
        raise InputError(msg)
    expanded = _with_configs_found(argv)
    expanded = _expand_predict(expanded) if command == "predict" else expanded
    return [command, *expanded, *(recorded_encoder(expanded) if command != "fit" else ())]


def recorded_encoder(argv: list[str]) -> list[str]:
    """Return the options of the encoder that the gallery records, for a packaged config and no other encoder."""
    packaged = [config_path(name) for name in (SCENES_CONFIG, GALLERY_CONFIG)]
    configs = [Path(value).resolve() for value in _values(_CONFIG_OPTIONS, argv)]
    if len(configs) != 1 or configs[0] not in packaged or any(each.startswith("--model.encoder") for each in argv):
        return []
    gallery = Path([GALLERY, *_values(_GALLERY_OPTIONS, argv)][-1])
    if not gallery.is_dir():
        return []
    from naruto_vision.gallery.info import encoder_options, list_gallery

    options = encoder_options(list_gallery(gallery).ledger[0].get("note", {}))
    if options:
        unused = f"; {TUNED} is not used: enrol again to use it" if Path(TUNED).exists() else ""
        unused = "" if any(TUNED in option for option in options) else unused
        _LOG.info("using the encoder recorded in %s: %s%s", gallery, " ".join(options), unused)
    return options


def _expand_predict(argv: list[str]) -> list[str]:
    """Expand short options, and ``DIR`` to an option after the packaged config."""
    folder, rest = ("", argv) if argv[0].startswith("-") else (argv[0], argv[1:])
    scenes = [f"--data.predict={check_scenes(folder)}"] if folder else []
    packaged = [] if not folder or _CONFIG_OPTIONS & set(rest) else ["--config", str(config_path(SCENES_CONFIG))]
    expanded = [_lengthen(argument) for argument in rest]
    galleries = _values(_GALLERY_OPTIONS, expanded)
    for gallery in galleries[-1:] or ([GALLERY] if packaged else []):
        check_gallery(gallery)
    return [*packaged, *expanded, *scenes]


def _lengthen(argument: str) -> str:
    """Replace a short option by the long one."""
    name, equals, value = argument.partition("=")
    if equals and name in _SWITCHES:
        msg = f"{argument}: {name} takes no value; omit it to disable"
        raise InputError(msg)
    return _LONG.get(name, name) + equals + value


def _values(options: frozenset[str], argv: Sequence[str]) -> list[str]:
    """Return the values given to any of these options, as ``--option value`` and ``--option=value``."""
    apart = [value for name, value in pairwise(argv) if name in options]
    joined = [argument.partition("=")[2] for argument in argv if argument.partition("=")[0] in options]
    return [*apart, *filter(None, joined)]


def _with_configs_found(argv: Sequence[str]) -> list[str]:
    found: list[str] = []
    for argument in argv:
        name, equals, value = argument.partition("=")
        if equals and name in _CONFIG_OPTIONS:
            argument = value
            found.append(name)
        if found and found[-1] in _CONFIG_OPTIONS:
            path = find_config(argument)
            read_config(path)
            argument = str(path)
        found.append(argument)
    return found


def find_config(name: str) -> Path:
    """Find a config by its path, or a packaged one by its bare name; MissingPathError if there is neither."""
    path = Path(name)
    if path.is_file():
        return path
    if len(path.parts) == 1:
        try:
            return config_path(name)
        except MissingPathError:
            pass  # raises a more specific message below
    raise MissingPathError(path, "config", "give a YAML file, or the name of a packaged one such as scenes.yaml")


def read_config(path: Path) -> dict[str, Any]:
    """Read a config; InputError if it is no YAML mapping, or misspells ``class_path`` or ``init_args``."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InputError(f"{path}: not YAML ({where}{error.problem or error.context})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(config, dict):
        msg = f"{path}: expected keys such as model, data and trainer, found {type(config).__name__}"
        raise InputError(msg)
    for parent, key in config_keys(config):
        near = difflib.get_close_matches(key, _CLASS_KEYS, n=1, cutoff=0.8)
        if near and key not in _CLASS_KEYS:  # the parser would misread the whole mapping
            raise InputError(f"{path}: {parent or 'top level'}: no such key {key}; did you mean {near[0]}?")
    return config


def config_keys(value: object, parent: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key of a config after the dotted path of its parent mapping."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield parent, str(key)
            yield from config_keys(inner, f"{parent}.{key}".strip("."))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from config_keys(inner, f"{parent}.{index}".strip("."))


def check_scenes(folder: str) -> Path:
    """Check that a folder of scenes exists and has images."""
    path = Path(folder)
    if not path.is_dir():
        raise MissingPathError(path, "scene folder", "give a folder of images")
    from naruto_vision.io.images import SUFFIXES, list_images  # imports OpenCV

    if not list_images(path):
        msg = f"{path}: no images in this folder; expected files ending in {', '.join(sorted(SUFFIXES))}"
        raise InputError(msg)
    return path


def check_gallery(folder: str) -> None:
    """Check that a folder is a gallery, and its manifest intact."""
    from naruto_vision.gallery.store import read_manifest

    read_manifest(folder)


def limit_threads() -> None:
    """Limit OpenMP to the CPUs of this process and let idle threads sleep, unless the environment says otherwise.

    Containers and ``taskset`` allow fewer CPUs than OpenMP counts, and spinning threads slow busy ones down tenfold.
    Call it before torch, OpenCV or FAISS start their threads.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(allowed_cpus()))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
