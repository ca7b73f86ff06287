"""Checks of a Trainer command before torch is imported: its options as typed, then what its config is for and needs.

What is unknown here passes: the parser of the config's classes decides.
"""

import argparse
import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from naruto_vision.cli.console import cosine, one_of, whole_number
from naruto_vision.cli.trainer_args import (
    DECISIONS,
    GALLERY,
    VERBS,
    check_gallery,
    config_paths,
    find_config,
    read_config,
    short_options,
)
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.gallery.store import store_uri
from naruto_vision.io.bundles import bundle_path, config_path
from naruto_vision.io.downloads import official_file

_OTHERS = (
    "--config",
    "--model",
    "--data",
    "--trainer",
    "--ckpt_path",
    "--out",
    "--fail_fast",
    "--track_memory",
    "--drift_reference",
    "--fail_on_drift",
    "--verbose",
)
_NO_VALUE = ("--print_config", "--help", "--help-all", "--help_all", "--fail-fast", "--fail-on-drift")
_KINDS = {
    "--threshold": cosine,
    **dict.fromkeys(("--top-k", "--min-area", "--max-masks"), whole_number),
    "--decision": one_of(*DECISIONS),
    "--mask-precision": one_of("float32", "bfloat16", "float16"),
    "--runtime": one_of("torch", "onnx", "openvino"),
    "--mask-compile": one_of("none", "encoder", "all"),
}
"""Short option → what reads its value, before the slow imports."""

_NEEDS = {
    "fit": ("root", "images to enrol", "gallery.yaml"),
    "validate": ("valid", "valid scenes", "gallery.yaml"),
    "test": ("test", "test scenes", "scenes.yaml"),
    "predict": ("predict", "scenes", "scenes.yaml"),
}
"""Command → what of a ``GalleryDataModule`` it needs, in words, and the packaged config for it."""

_CLASS_DATA = ("ClassDataModule", "CaptionDataModule")
_WEIGHTS = {
    **dict.fromkeys(("ClipEncoder", "ClipEnsemble"), "pretrained"),
    **dict.fromkeys(("DinoEncoder", "SamModel", "Sam2Model"), "weights"),
}


def check_typed(command: str, argv: Sequence[str]) -> None:
    """Refuse what is wrong in any config: a config without its option, misspelt options, missing and wrong values."""
    if argv and not argv[0].startswith("-") and command != "predict":
        raise InputError(f"{argv[0]}: expected an option first; {_first(command, argv[0])}")
    named = any(re.match(r"--?c|--h|--model|--[\w.]*(help|print)", word) for word in argv)
    if command != "predict" and argv and not named:
        msg = f"{command}: expected --config FILE, such as {_NEEDS[command][2]}; `naruto-vision configs` lists them"
        raise InputError(msg)
    verb = VERBS[command]
    grouped = [option for _, group in verb.groups for option in group]
    options = {option.flag: option for option in (*verb.options, *grouped, *short_options(command))}
    for word, following in pairwise([*argv, "--"]):
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            continue
        _check_spelling(name, options)
        switch = name in _NO_VALUE or name.endswith(".help") or (name in options and not options[name].value)
        if not switch and not equals and following.startswith("--"):
            metavar = f" {options[name].value}" if name in options else ""
            raise InputError(f"{name}{metavar}: a value is missing; see `naruto-vision {command} --help`")
        try:
            _KINDS.get(name, str)(value if equals else following)
        except argparse.ArgumentTypeError as error:
            raise InputError(f"{name}: {error}") from None


def _first(command: str, word: str) -> str:
    key, _, config = _NEEDS[command]
    if Path(word).is_dir():
        return f"for example `naruto-vision {command} --config {config} --data.{key} {word}`"
    try:
        return f"did you mean `naruto-vision {command} --config {find_config(word).name}`?"
    except MissingPathError:
        return f"such as --config FILE; see `naruto-vision {command} --help`"


def _check_spelling(name: str, options: Collection[str]) -> None:
    """Suggest the option that a name without dots means; anything else is left to the parser."""
    if "." in name or name in {*options, *_OTHERS, *_NO_VALUE}:
        return
    flags = {flag.rpartition(".")[2].lstrip("-"): flag for flag in (*_OTHERS, *options)}
    key = name[2:].replace("-", "_")
    near = [flags[key]] if key in flags else [flag for last, flag in flags.items() if key in last.split("_")]
    near = near or [flags[each] for each in difflib.get_close_matches(name[2:], flags, n=1, cutoff=0.7)]
    if near:
        raise InputError(f"unrecognized arguments: {name}; did you mean {near[0]}?")


def check_run(argv: Sequence[str]) -> None:
    """Refuse a config that is for another command, and folders and weights that are missing.

    Args:
        argv: The command and its expanded options, as for ``run_cli``.
    """
    command, rest = argv[0], argv[1:]
    names = [word.partition("=")[0] for word in rest]
    if any(name.endswith((".help", "--help", "--print_config")) for name in names):
        return
    configs = config_paths(rest)
    config = _shown(configs[-1]) if configs else ""
    settings = read_settings(configs, rest)
    model, data = (_class_of(settings, key) for key in ("model", "data"))
    if configs and not model:
        first = f"--config {_NEEDS[command][2]} --config {config}"
        raise InputError(f"{config}: names no model (model.class_path); give the config that it changes first: {first}")
    if command == "predict" and model in {"ContrastiveTuner", "SegmenterTuner"}:
        msg = f"{config} has nothing to predict; `naruto-vision predict DIR` names the characters of a folder"
        measure = "test" if model == "ContrastiveTuner" else "validate"
        raise InputError(f"{msg}, `naruto-vision {measure} --config {config}` measures")
    if model == "SceneRetriever":
        _check_scenes(command, config, settings)
    keys = {"GalleryDataModule": (_NEEDS[command][0], "valid" if command == "fit" else "")}.get(data, ())
    for key in ("root",) if data in _CLASS_DATA else keys:
        value = settings.get(f"data.{key}")
        if isinstance(value, str) and not re.search(r"[*?[\n]|^-$", value) and not Path(value).exists():
            source = f"--data.{key}" if f"--data.{key}" in names else f"data.{key} of {config}"
            raise MissingPathError(value, f"folder ({source})", f"give yours: --data.{key} DIR")
        if isinstance(value, str) and key == "root" and data in {"ClassDataModule", "GalleryDataModule"}:
            from naruto_vision.data.readers import require_split  # imports OpenCV

            require_split(value, settings.get("data.split", "train"), settings.get("data.reader", "auto"))
    _check_weights(settings)
    _check_checkpoint(command, settings)


def read_settings(configs: Sequence[Path], argv: Sequence[str]) -> dict[str, Any]:
    """Return what configs and options set, later ones first, by dotted keys without ``init_args``."""
    settings: dict[str, Any] = {}
    given = [(word.partition("=")[0], word.partition("=")[2]) for word in argv if "=" in word]
    given += [(name, value) for name, value in pairwise(argv) if "=" not in name and not value.startswith("--")]
    for path in configs:
        for key, value in _flat(read_config(path)):
            _set(settings, key, value)
    for name, value in given:
        if name.startswith("--"):
            _set(settings, plain_key(name), None if value in {"null", ""} else value)
    return settings


def plain_key(name: str) -> str:
    """Return an option or a key without dashes in front and without ``init_args``."""
    return ".".join(part for part in name.lstrip("-").split(".") if part != "init_args")


def _set(settings: dict[str, Any], key: str, value: object) -> None:
    base = key.removesuffix(".class_path")
    if (key != base or isinstance(value, str)) and _class_of(settings, base) not in {"", _last(value)}:
        for other in [other for other in settings if other.startswith(f"{base}.")]:
            del settings[other]  # the parser drops the arguments of another class too
    settings[key] = value


def _flat(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner:
        yield plain_key(key), value
    for name, each in inner:
        yield from _flat(each, f"{key}.{name}".strip("."))


def _class_of(settings: Mapping[str, Any], key: str) -> str:
    return _last(settings.get(f"{key}.class_path") or settings.get(key) or "")


def _last(name: object) -> str:
    return str(name).rpartition(".")[2]


def _shown(config: Path) -> str:
    """Return a config as the user names it."""
    return config.name if config.parent == config_path("scenes.yaml").parent else str(config)


def _check_scenes(command: str, config: str, settings: Mapping[str, Any]) -> None:
    """Check that the commands of ``SceneRetriever`` have scenes or images, and a gallery where they search."""
    key, what, packaged = _NEEDS[command]
    other = packaged if config.startswith(("gallery", "scenes.yaml")) else config
    example = f"as in `naruto-vision {command} --config {other} --data.{key} DIR`"
    if settings.get(f"data.{key}") is None:
        raise InputError(f"{config}: no {what}: give their folder, --data.{key} DIR, {example}")
    if command == "fit" and not {"trainer.max_epochs", "trainer.max_steps", "trainer.fast_dev_run"} & settings.keys():
        raise InputError(f"{config}: no trainer.max_epochs, so it builds no gallery; use gallery.yaml, {example}")
    if command == "fit" and settings.get("out") is not None and not any(key.endswith(".out") for key in settings):
        raise InputError(f"--out {settings['out']}: `fit` writes a gallery; give its folder, --gallery DIR")
    gallery = str(settings.get("model.gallery") or GALLERY)
    there = Path(gallery).is_dir() or store_uri(gallery) is not None
    if command != "fit" and not there and config.startswith("scenes-"):
        hint = f"build it with `naruto-vision fit --config {config} --data.root DIR`"
        raise MissingPathError(gallery, "gallery", hint)
    if command != "fit":
        check_gallery(gallery)


def _check_weights(settings: Mapping[str, Any]) -> None:
    """Check that every encoder and segmenter of the config finds its weights."""
    for key in [key for key in settings if key.startswith("model") and _class_of(settings, key) in _WEIGHTS]:
        base = key.removesuffix(".class_path")
        kind = _class_of(settings, base)
        model, weights = settings.get(f"{base}.model"), settings.get(f"{base}.{_WEIGHTS.get(kind, '')}")
        own = weights or (model if kind in {"ClipEncoder", "ClipEnsemble"} else None)
        if not isinstance(own, str) or own in {"random", "auto"} or official_file(own, kind) is not None:
            continue
        if kind == "SamModel" or ("/" in own and not weights):
            bundle_path(own, "sam" if kind == "SamModel" else "clip")
        elif "/" in own and not Path(own).exists():
            raise MissingPathError(own, "weights file", "`naruto-vision weights list` shows the official ones")


def _check_checkpoint(command: str, settings: Mapping[str, Any]) -> None:
    """Check ``--ckpt_path``; Lightning knows ``best`` only in the process that trained."""
    path = settings.get("ckpt_path")
    folders = [Path(str(value)) for key, value in settings.items() if key.endswith(".dirpath")]
    saved = sorted(str(file) for folder in folders for file in folder.glob("*.ckpt"))
    there = f"there are {', '.join(saved[-3:])}" if saved else "train first with `naruto-vision fit`"
    if path == "best":
        raise InputError(f"--ckpt_path best: a new process does not know which is the best; give the file: {there}")
    if path == "last" and command != "fit" and folders and not any("last" in file for file in saved):
        raise InputError(f"--ckpt_path last: no last.ckpt in {folders[0]}; {there}")
    if isinstance(path, str) and path not in {"last", "hpc"} and not Path(path).is_file():
        raise MissingPathError(path, "checkpoint (--ckpt_path)", there)


def as_typed(line: str, argv: Sequence[str], expanded: Sequence[str]) -> str:
    """Name options as they were typed, and the config of a key, in the line of an error."""
    line = _with_source(line, expanded)
    names = {word.partition("=")[0] for word in argv}
    for option in short_options(expanded[0]):
        if option.flag in names and option.long not in names:
            line = line.replace(f"{option.long.partition('=')[0]} ", f"{option.flag} ")
            line = line.replace(f"{option.long.partition('=')[0]}:", f"{option.flag}:")
    return line


def _with_source(line: str, argv: Sequence[str]) -> str:
    """Begin a line about a key with its option, or its config."""
    refused = re.match(r"([\w.]+): (\w+): Option '([\w.]+)' is not accepted(.*)", line)
    found = re.match(r"([\w.]+)(?= |:)", line)
    if found is None:
        return line
    key, rest = found[1], line[found.end() :]
    if refused:
        key, section = f"{refused[1]}.{refused[3]}", refused[1].partition(".")[0]
        more = re.sub(r"(naruto-vision \w+) --help", rf"\1 --{section}.help {refused[2]}", refused[4])
        rest = f": {refused[2]} has no such option{more}"
    for name in [word.partition("=")[0] for word in argv if word.startswith("--")]:
        if f".{plain_key(name)}".endswith(f".{key}"):
            return name + rest
    having = [path for path in config_paths(argv) if key in dict(_flat(read_config(path)))]
    return f"{_shown(having[-1])}: {line}" if having else line
