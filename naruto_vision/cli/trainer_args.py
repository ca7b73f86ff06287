"""Arguments of ``fit``, ``validate``, ``test`` and ``predict``: help, short options and checks, all without torch."""

import argparse
import difflib
import glob
import importlib.metadata
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import yaml

from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.bundles import INFO, config_path, packaged_configs
from naruto_vision.io.machine import allowed_cpus
from naruto_vision.io.yaml_files import check_yaml, read_yaml

_LOG = logging.getLogger(__name__)
SCENES_CONFIG, GALLERY_CONFIG = "scenes.yaml", "gallery.yaml"
RUN_CONFIG = "config.yaml"
"""The whole config of a ``predict``, beside its results."""
GALLERY, TUNED, REGIONS = "runs/gallery", "runs/clip/bundle", "runs/regions/bundle"
"""The gallery that ``SCENES_CONFIG`` names, and the encoder that is tuned for the next one."""

EXPORTED = "runs/exported"
"""The encoder that `export-model` writes for ``--runtime``."""

BOXES_READ = "--data.reader=boxes"

PLUGINS = "naruto_vision.plugins"
"""Entry points of this group open the package that they name for class paths in configs."""

HELP_ALL = "--help-all"
_HELP_ALL = frozenset({HELP_ALL, "--help_all"})
_CONFIG_OPTIONS = frozenset({"--config", "-c"})
_GALLERY_OPTIONS = frozenset({"--model.gallery", "--model.init_args.gallery"})
_SCENES_OPTION, _LIST_OPTION, STDIN = "--data.predict", "--list", "-"
DECISIONS = ("auto", "vote", "top1", "max", "mean", "prototype", "centroid", "lda", "logreg")
"""The values of `recognition.decision.Decision`, without its imports."""
_CLASS_KEYS = ("class_path", "init_args")


@dataclass(frozen=True)
class Option:
    """One option as help shows it: a switch if ``value`` is empty; ``long`` is the full name of a short one."""

    flag: str
    value: str
    text: str
    long: str = ""


NAMES = (
    Option("--root", "DIR", "the same as --data.root", "--data.root"),
    Option("--gallery", "DIR", "the same as --model.gallery", "--model.gallery"),
    Option("--encoder", "MODEL", "class, model and weights of --model.encoder", "--model.encoder"),
)
"""Names that mean the same in every command; only the Trainer commands expand them."""

SHORT_OPTIONS = (
    Option("--gallery", "DIR", "gallery to search (default: runs/gallery)", "--model.gallery"),
    Option(
        "--threshold", "SCORE", "draw only regions with at least this score (default: all)", "--model.overlay.min_score"
    ),
    Option("--top-k", "N", "draw at most N regions per scene, highest scores first", "--model.overlay.top_k"),
    Option(
        "--prefer-different-label",
        "",
        "with --top-k: prefer characters that are not shown yet over repeated ones",
        "--model.overlay.prefer_different_label=true",
    ),
    Option("--min-area", "PIXELS", "drop regions with fewer pixels", "--model.segmenter.init_args.keep.min_area"),
    Option("--max-masks", "N", "keep at most N regions per scene", "--model.segmenter.init_args.keep.max_masks"),
    Option(
        "--mask-weights",
        "NAME",
        "SAM by name, file or bundle: tiny-sam (default), sam_vit_b, sam2.1_hiera_tiny",
        "--model.segmenter.init_args.model.init_args.weights",
    ),
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
    Option(
        "--runtime",
        "NAME",
        "what embeds regions: torch (default), or on a CPU onnx or openvino, after `export-model`",
        "--model.runtime",
    ),
    Option("--fps", "N", "frames per second of a video that are searched (default: 3)", "--data.fps"),
    Option(
        "--track-memory",
        "NAME",
        "SAM 2 that follows regions of a video through occlusion, such as sam2.1_hiera_tiny (default: none)",
        "--track_memory",
    ),
    Option(
        "--drift-reference",
        "DIR",
        "run or gallery whose scenes the new ones are compared with (default: the gallery's validation scenes)",
        "--drift_reference",
    ),
    Option("--fail-on-drift", "", "exit with 1 if scenes differ from the reference", "--fail_on_drift=true"),
    Option(
        "--explain",
        "",
        "write why each shown region has its name (default: no; takes seconds a region)",
        "--explain=true",
    ),
    Option("--fail-fast", "", "stop at the first unreadable image (default: skip it)", "--fail_fast=true"),
)
"""Short options of ``predict``, ``test`` and ``validate``; LightningCLI gets the long ones."""


def short_options(command: str) -> tuple[Option, ...]:
    """Return the options that a command expands; ``fit`` has no scenes to draw."""
    return NAMES if command == "fit" else (*NAMES, *SHORT_OPTIONS)


_LONG = {option.flag: option.long for option in (*NAMES, *SHORT_OPTIONS) if option.flag != "--encoder"}
_SWITCHES = frozenset(option.flag for option in SHORT_OPTIONS if not option.value)
_WITHOUT_VALUE = _SWITCHES | {"--print_config"}
_CONFIG = Option("--config", "FILE", "a YAML file or a packaged config; repeatable")
_OUT = Option("--out", "DIR", "folder of the results")
_CHECKPOINT = Option("--ckpt_path", "PATH", "checkpoint to load, or last (default: none)")
_RUN = (
    Option("--trainer.accelerator", "NAME", "auto (default), cpu or gpu"),
    Option("--trainer.devices", "N", "number of devices (default: 1)"),
    Option("--trainer.precision", "NAME", "32-true (default), bf16-mixed, 16-mixed"),
    Option("--precision", "auto", "mixed precision if the hardware has it"),
    Option("--seed_everything", "N", "random seed (default: 42)"),
    Option("--allow-imports", "PKG", "configs may also name classes of this package of yours (default: none)"),
)
_ROOT = Option("--data.root", "DIR", "labelled images (also --root)")
_VALID = Option("--data.valid", "DIR", "scenes with gt.json, for thresholds")
_TEST = Option("--data.test", "DIR", "scenes with gt.json")
_GALLERY = Option("--gallery", "DIR", "gallery folder (default: runs/gallery)")
_ENCODER = Option("--encoder", "MODEL", "bundle, ViT-B-32, dinov2_vits14, ...")
_ENROL = (_VALID, _GALLERY, _ENCODER)
_TUNING = (
    Option("--data.batch_size", "N", "images per batch"),
    Option("--model.optimizer.init_args.lr", "RATE", "learning rate"),
    Option("--model.bundle_dir", "DIR", "where the tuned encoder is written"),
)
_MASKS = (
    Option("--data.train", "CLASS", "CocoMasks for your own masks"),
    Option("--trainer.max_steps", "N", "number of training steps"),
)


@dataclass(frozen=True)
class Verb:
    """The static help of one Trainer command; ``groups`` are further options of the configs that a title names."""

    text: str
    options: tuple[Option, ...]
    examples: tuple[str, ...]
    configs: tuple[str, ...]
    groups: tuple[tuple[str, tuple[Option, ...]], ...] = ()
    usage: str = "--config FILE [options]"


VERBS = {
    "fit": Verb(
        "Train a model or build a gallery, as a config describes.",
        (
            _CONFIG,
            _OUT,
            Option("--ckpt_path", "PATH", "checkpoint to resume from, or last"),
            _ROOT,
            Option("--trainer.max_epochs", "N", "number of epochs"),
            *_RUN,
        ),
        (
            "fit --config clip.yaml --data.root data",
            "fit --config gallery.yaml --data.root data --data.valid data/scenes/valid",
            "fit --config sam.yaml --ckpt_path last",
        ),
        ("clip", "captions", "gallery", "regions", "sam", "pretrain", "scenes-vitb", "scenes-dinov2"),
        (("clip*.yaml, captions.yaml", _TUNING), ("gallery.yaml, scenes*.yaml", _ENROL), ("sam.yaml", _MASKS)),
    ),
    "validate": Verb(
        "Validate the model of a config; gallery.yaml and scenes*.yaml: choose the thresholds of the gallery again.",
        (_CONFIG, _ENCODER, _CHECKPOINT, *_RUN),
        (
            "validate --config gallery.yaml --data.valid data/scenes/valid",
            "validate --config clip.yaml --data.root data --encoder runs/clip/bundle",
        ),
        ("clip", "captions", "gallery.yaml", "sam", "pretrain", "scenes"),
        (("gallery.yaml, scenes*.yaml", (_VALID, _GALLERY)), ("clip*.yaml, captions.yaml", (_ROOT,))),
    ),
    "test": Verb(
        "Evaluate a model on labelled data; scenes*.yaml: scenes against their gt.json.",
        (_CONFIG, _OUT, _ENCODER, _CHECKPOINT, *_RUN),
        (
            "test --config scenes.yaml --data.test data/scenes/test",
            "test --config clip.yaml --data.root data --encoder runs/clip/bundle",
        ),
        ("scenes", "clip", "captions"),
        (("scenes*.yaml", (_TEST, _GALLERY)), ("clip*.yaml, captions.yaml", (_ROOT,))),
    ),
    "predict": Verb(
        "Find and name the characters in images and videos. Run again, it resumes where it stopped.",
        (
            Option("--list", "FILE", "search the images named in this file, one per line, like @FILE"),
            _OUT,
            *SHORT_OPTIONS,
            _ENCODER,
            _CONFIG,
            *_RUN,
        ),
        (
            "predict my_scenes",
            "predict my_scenes --gallery runs/gallery --out runs/mine --top-k 2",
            "predict shots/*.jpg more_shots",
            "predict episode.mp4 --fps 2",
        ),
        ("scenes",),
        usage="IMAGES [options]",
    ),
}


def verb_parser(command: str) -> argparse.ArgumentParser:
    """Make the parser of a Trainer command's most used options, for its help and for shell completion."""
    verb = VERBS[command]
    everything = (
        f"every option (takes seconds):\n  naruto-vision {command} {HELP_ALL}\n"
        f"  naruto-vision {command} --model.help CLASS, --data.help CLASS\n"
        f"a config with all its defaults and your options:\n  naruto-vision {verb.examples[0]} --print_config"
    )
    examples = "\n".join(f"  naruto-vision {example}" for example in verb.examples)
    chosen = {name: text for name, text in packaged_configs().items() if name.startswith(verb.configs)}
    configs = "\n".join(f"  {name:<24}{text}" for name, text in chosen.items())
    parser = argparse.ArgumentParser(
        usage=f"naruto-vision {command} {verb.usage}",
        description=f"{verb.text}\n\npackaged configs (`naruto-vision configs NAME` prints one):\n{configs}",
        epilog=f"examples:\n{examples}\n\n{everything}",
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=40),
        add_help=False,
    )
    if command == "predict":
        text = (
            "images, videos, folders with their sub-folders, tar files of images, patterns and lists such as "
            "scenes-{000..999}.tar, @FILE for a list of names, - for names on stdin"
        )
        parser.add_argument("IMAGES", help=text)
    for title, options in (("most used options", verb.options), *verb.groups):
        group = parser.add_argument_group(title)
        for option in options:
            if option.value:
                group.add_argument(option.flag, metavar=option.value, help=option.text)
            else:
                group.add_argument(option.flag, action="store_true", help=option.text)
    return parser


def expand_argv(command: str, argv: Sequence[str]) -> list[str]:
    """Return the argv for ``trainer.run_cli``: configs found, short options and ``predict DIR`` expanded; checked."""
    if _HELP_ALL & set(argv):
        return [command, "--help"]
    if not argv:
        what = "images or a folder of them, or --config FILE" if command == "predict" else "--config FILE"
        raise InputError(f"{command}: expected {what}; see `naruto-vision {command} --help`")
    expanded = list(_replaced(argv, _CONFIG_OPTIONS, _with_config_found))
    expanded = list(_replaced(expanded, {"--encoder"}, _with_encoder))
    expanded = list(_replaced(expanded, {"--mask-weights"}, _with_sam2))
    if command == "predict":
        expanded = _expand_predict(expanded)
    else:
        names = {option.flag for option in short_options(command)}
        expanded = [_lengthen(each) if each.partition("=")[0] in names else each for each in expanded]
    added = learnt_regions(expanded)
    added += recorded_encoder(expanded) if command != "fit" else labelled_boxes(expanded) if added else []
    return [command, *expanded, *added]


def _is_packaged(argv: Sequence[str]) -> bool:
    configs = [path.resolve() for path in config_paths(argv)]
    return len(configs) == 1 and configs[0] in map(config_path, (SCENES_CONFIG, GALLERY_CONFIG))


def learnt_segmenter(bundle: str | Path) -> dict[str, Any] | None:
    """Return the segmenter of a detector's bundle as a config has it; None without a bundle."""
    if not (Path(bundle) / INFO).is_file():
        return None
    prompter = {"class_path": "DetectorPrompter", "init_args": {"weights": str(bundle)}}
    return {"class_path": "Segmenter", "init_args": {"prompter": prompter, "model": {"class_path": "BoxModel"}}}


def parts_of_gallery(note: Mapping[str, Any], runs: Path) -> dict[str, Any]:
    """Return the encoder that a gallery's note records, and the segmenter that was trained in a folder of runs."""
    from naruto_vision.gallery.info import encoder_config

    found = {"encoder": encoder_config(note), "segmenter": learnt_segmenter(runs / "regions" / "bundle")}
    return {name: section for name, section in found.items() if section}


def learnt_regions(argv: Sequence[str]) -> list[str]:
    """Return the options of the detector that ``regions.yaml`` trained, for a packaged config without a segmenter."""
    if not (Path(REGIONS) / INFO).is_file() or any(word.startswith("--model.segmenter") for word in argv):
        return []
    if not _is_packaged(argv):
        return []
    key = "--model.segmenter.init_args"
    weights = f"{key}.prompter.init_args.weights={REGIONS}"
    return [f"{key}.prompter=DetectorPrompter", weights, f"{key}.model=BoxModel"]


def labelled_boxes(argv: Sequence[str]) -> list[str]:
    """Return the option that enrols labelled boxes, which learnt regions look like, in place of whole images.

    For a folder with both, and boxes of two classes or more; without ``--data.reader``.
    """
    roots = _values(frozenset({"--data.root"}), argv)
    if not roots or any(word.startswith("--data.reader") for word in argv):
        return []
    from naruto_vision.data.boxes import find_boxes, read_boxes

    source = find_boxes(roots[-1], "train") if Path(roots[-1]).is_dir() else None
    return [BOXES_READ] if source is not None and len(read_boxes(source).classes) > 1 else []


def _replaced(argv: Iterable[str], options: Collection[str], replace: Callable[[str], Iterable[str]]) -> Iterator[str]:
    """Replace each ``--option VALUE`` or ``--option=VALUE`` of these by what a function makes of the value."""
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name in options:
            yield from replace(value if equals else next(words, ""))
        else:
            yield word


def _with_encoder(model: str) -> Iterator[str]:
    """Expand ``--encoder MODEL`` to the class, the model, and weights that are not those of the config."""
    dino = "dino" in model and "/" not in model
    key, weights = ("weights", model if model.startswith("dinov2_") else "null") if dino else ("pretrained", "")
    yield f"--model.encoder={'DinoEncoder' if dino else 'ClipEncoder'}"
    yield f"--model.encoder.init_args.model={model}"
    yield f"--model.encoder.init_args.{key}={weights}"


def _with_sam2(weights: str) -> Iterator[str]:
    """Put the class before ``--mask-weights`` with a name of SAM 2."""
    if "sam2" in Path(weights).name.lower():
        yield "--model.segmenter.init_args.model=Sam2Model"
    yield f"--mask-weights={weights}"


def recorded_encoder(argv: list[str]) -> list[str]:
    """Return the options of the encoder that the gallery records, for a packaged config and no other encoder."""
    if not _is_packaged(argv) or any(each.startswith("--model.encoder") for each in argv):
        return []
    gallery = Path([GALLERY, *_values(_GALLERY_OPTIONS, argv)][-1])
    from naruto_vision.gallery.store import store_uri

    if not gallery.is_dir() and store_uri(gallery) is None:
        return []
    from naruto_vision.gallery.info import encoder_options, list_gallery

    return encoder_options(list_gallery(gallery).note)


def added_notes(argv: Sequence[str], expanded: Sequence[str]) -> Iterator[str]:
    """Say what ``recorded_encoder`` and ``learnt_regions`` have added to what was typed."""
    if REGIONS in "".join(expanded) and not any(REGIONS in word for word in argv):
        yield f"regions are found by {REGIONS}; --mask-weights tiny-sam segments instead"
    if BOXES_READ in expanded and BOXES_READ not in argv:
        yield "the labelled boxes are enrolled, which learnt regions look like; --data.reader auto enrols whole images"
    options = [word for word in expanded if word.startswith("--model.encoder")]
    if options and not any(word.startswith(("--model.encoder", "--encoder")) for word in argv):
        unused = f"; {TUNED} is not used: enrol again to use it" if Path(TUNED).exists() else ""
        unused = "" if any(TUNED in option for option in options) else unused
        gallery = [GALLERY, *_values(_GALLERY_OPTIONS, expanded)][-1]
        named = [word.partition("=")[2].rpartition(".")[2] or word for word in options[:1]]
        named += [word.partition("=")[2] for word in options[1:] if ".model=" in word]
        yield f"using the encoder recorded in {gallery}: {' '.join(named)}{unused}"


def _expand_predict(argv: list[str]) -> list[str]:
    """Expand short options, and names of images to an option after the packaged config."""
    names, rest = _split_names(argv)
    scenes = [f"{_SCENES_OPTION}={check_scenes(names)}"] if names else []
    packaged = [] if not names or _CONFIG_OPTIONS & set(rest) else ["--config", str(config_path(SCENES_CONFIG))]
    expanded = [_lengthen(argument) for argument in rest]
    galleries = _values(_GALLERY_OPTIONS, expanded)
    for gallery in galleries[-1:] or ([GALLERY] if packaged else []):
        check_gallery(gallery)
    return [*packaged, *expanded, *scenes]


def _split_names(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the names of images from the options that they are before, between or behind."""
    names, rest, arguments = list[str](), list[str](), iter(argv)
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if argument == "--":
            names += arguments
        elif argument == STDIN or not argument.startswith("-"):
            names.append(argument)
        elif option in {_SCENES_OPTION, _LIST_OPTION}:
            if not (value := value if equals else next(arguments, "")):
                raise InputError(f"{option}: expected a value; see `naruto-vision predict --help`")
            names += _scene_names(option, value)
        else:
            rest += [argument, *([] if equals or option in _WITHOUT_VALUE else islice(arguments, 1))]
    return names, rest


def _scene_names(option: str, value: str) -> list[str]:
    if option == _LIST_OPTION:
        return [f"@{value}"]
    if not value.startswith("["):
        return [value]
    try:
        check_yaml(value)
        names = yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{option} {value[:40]}: expected a list of names")
    return names


def _lengthen(argument: str) -> str:
    """Replace a short option by the long one."""
    name, equals, value = argument.partition("=")
    if equals and name in _SWITCHES:
        raise InputError(f"{argument}: {name} takes no value; omit it to disable")
    return _LONG.get(name, name) + equals + value


def _values(options: frozenset[str], argv: Sequence[str]) -> list[str]:
    """Return the values given to any of these options, as ``--option value`` and ``--option=value``."""
    apart = [value for name, value in pairwise(argv) if name in options]
    joined = [argument.partition("=")[2] for argument in argv if argument.partition("=")[0] in options]
    return [*apart, *filter(None, joined)]


def _with_config_found(name: str) -> list[str]:
    path = find_config(name)
    read_config(path)
    return ["--config", str(path)]


def config_paths(argv: Sequence[str]) -> list[Path]:
    """Return the configs of expanded arguments."""
    return [Path(value) for option, value in pairwise(argv) if option == "--config"]


def find_config(name: str) -> Path:
    """Find a config by its path, or a packaged one: ``clip.yaml``, ``clip.yml``, ``clip``, ``configs/clip.yaml``.

    MissingPathError if there is neither.
    """
    path, packaged = Path(name), packaged_configs()
    if path.exists() and not path.is_dir():
        return path
    own = path.stem + ".yaml" if path.suffix in {"", ".yaml", ".yml"} else ""
    if own in packaged and path.parent.as_posix() in {".", "configs"}:
        return config_path(own)
    near = difflib.get_close_matches(path.stem + ".yaml", packaged, n=1, cutoff=0.7)
    hint = f"did you mean {near[0]}?" if near else "`naruto-vision configs` lists the packaged ones"
    raise MissingPathError(path, "config", hint)


def read_config(path: Path) -> dict[str, Any]:
    """Read a config; InputError if it is no YAML mapping, or misspells ``class_path`` or ``init_args``."""
    config = read_yaml(path)
    if not isinstance(config, dict):
        raise InputError(f"{path}: expected keys such as model, data and trainer, found {type(config).__name__}")
    for parent, key in config_keys(config):
        near = difflib.get_close_matches(key, _CLASS_KEYS, n=1, cutoff=0.8)
        if near and key not in _CLASS_KEYS:  # the parser would misread the whole mapping
            raise InputError(f"{path}: {parent or 'top level'}: no such key {key}; did you mean {near[0]}?")
    return config


def model_section(config: Mapping[str, Any], path: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model of a config with some arguments changed; FormatError if it has none."""
    if not isinstance(model := config.get("model"), dict):
        raise FormatError(path, "the key model", "none")
    return {**model, "init_args": {**(model.get("init_args") or {}), **changes}}


def config_keys(value: object, parent: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key of a config after the dotted path of its parent mapping."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield parent, str(key)
            yield from config_keys(inner, f"{parent}.{key}".strip("."))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from config_keys(inner, f"{parent}.{index}".strip("."))


def check_scenes(names: Sequence[str]) -> str:
    """Check that one of the named images can be read; return the value, in JSON, of the option that names them."""
    pattern = re.compile(r"[*?[{]|^[@-]")  # of glob, braces, a list or stdin
    if not any(os.path.lexists(name) or pattern.search(name) for name in names):
        more = f" (none of {len(names)} names)" if len(names) > 1 else ""
        raise MissingPathError(names[0], f"image or folder{more}")
    from naruto_vision.io.inputs import find_images, split_names  # imports OpenCV

    names = [each for name in names for each in (split_names(sys.stdin.buffer.read()) if name == STDIN else [name])]
    find_images(names, videos=True).require_readable()
    names = [_as_text(name) for name in names]
    return json.dumps([("\0" if any("\n" in name for name in names) else "\n").join(names)])  # long lists parse slowly


def _as_text(name: str) -> str:
    """Return a name that a config can hold: a pattern where a byte is not valid Unicode."""
    return re.sub("[\udc80-\udcff]", "?", glob.escape(name)) if re.search("[\udc80-\udcff]", name) else name


def gallery_place(text: str) -> str | Path:
    """Read the value of ``--gallery``: a folder, or the URI of a vector store."""
    from naruto_vision.gallery.store import store_uri

    return store_uri(text) or Path(text)


def check_gallery(folder: str | Path) -> None:
    """Check that a folder is a gallery, and its manifest intact."""
    from naruto_vision.gallery.store import read_manifest

    read_manifest(folder)


def take_imports(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the packages of every ``--allow-imports PKG[,PKG]``, and the other arguments."""
    packages: list[str] = []

    def take(value: str) -> list[str]:
        names = [name.strip() for name in value.split(",")]
        if not all(part.isidentifier() for name in names for part in name.split(".")):
            msg = f"--allow-imports: expected the name of a package, or several with commas, found {value!r}"
            raise InputError(msg)
        packages.extend(names)
        return []

    rest = list(_replaced(argv, ("--allow-imports", "--allow_imports"), take))
    return packages, rest


def opened_packages(given: Sequence[str]) -> list[str]:
    """Return the packages whose classes configs may name too: the given ones, and those of installed plugins."""
    plugins = importlib.metadata.entry_points(group=PLUGINS)
    return sorted({*given, *(plugin.module.partition(".")[0] for plugin in plugins)})


def limit_threads() -> None:
    """Set torch's threads and memory, unless the environment does: OpenMP has this process's CPUs, idle threads sleep.

    Containers and ``taskset`` allow fewer CPUs than OpenMP counts, and spinning threads slow busy ones down tenfold.
    Call it before torch, OpenCV or FAISS start their threads.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(allowed_cpus()))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch takes huge pages: fewer faults, a tenth of the time
