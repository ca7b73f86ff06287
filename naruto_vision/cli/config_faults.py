"""Which config is at fault when LightningCLI refuses one, and what its author most likely meant."""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import yaml

from naruto_vision.cli.trainer_help import read_help

_CONFIG_OPTIONS = frozenset({"--config", "-c"})
_REFUSED = re.compile(r"option '([\w.]+)'", re.IGNORECASE)
_OF_CLASS = re.compile(r"class_path '([\w.]+)': Option '(\w+)'")
_EMPTY = re.compile(r'Parser key "[\w.]+":; ')
_NO_MODEL = re.compile(r"required: \w+\.model\b")
_FIRST_CONFIGS = "clip.yaml tunes CLIP, gallery.yaml enrols a gallery, sam.yaml trains a segmenter, scenes.yaml names"
_CLASS_KEYS = ("class_path", "init_args")


def explain_fault(words: Sequence[str], message: str) -> str:
    """Say more of a refusal: the config that it is about, and what was likely meant.

    Args:
        words: The command and its words, configs as paths.
        message: The refusal, in one line.

    Returns:
        One line.
    """
    files = [Path(file) for option, file in pairwise(words) if option in _CONFIG_OPTIONS]
    told = next(filter(None, map(_broken, files)), None)
    if told is not None:
        return told
    if _NO_MODEL.search(message) and not files:
        return f"{words[0]}: no model; give --config FILE ({_FIRST_CONFIGS}); see `naruto-vision {words[0]} --help`"
    guess = _guess(words[0], message)
    refused = _REFUSED.search(message)
    if refused:
        key = refused[1].rpartition(".")[2]
        read = ((file, yaml.safe_load(file.read_text(encoding="utf-8"))) for file in files)
        at_fault = next((file for file, config in read if key in set(_keys(config))), None)
        message = message if at_fault is None else f"{at_fault}: {message}"
    return _EMPTY.sub("", message) + (f"; did you mean {guess}?" if guess else "")


def _broken(file: Path) -> str | None:
    """Say what is wrong with a file that is no config at all; None where it may be one."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return f"{file}: not YAML ({place}{error.problem or error.context})"
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return f"{file}: not YAML ({str(error).splitlines()[0]})"
    if not isinstance(found, dict):
        return f"{file}: expected keys such as model, data and trainer, found {type(found).__name__}"
    for path, key, meant in _misspelt_class_keys(found):
        return f"{file}: {path}: no such key {key}; did you mean {meant}?"
    return None


def _misspelt_class_keys(value: object, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield where, what and what was meant: keys nearly ``class_path``, which the parser takes for something else."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        near = difflib.get_close_matches(str(key), _CLASS_KEYS, n=1, cutoff=0.8)
        if near and key not in _CLASS_KEYS:
            yield path or "top", str(key), near[0]
        yield from _misspelt_class_keys(inner, f"{path}.{key}".strip("."))


def _keys(value: object) -> Iterator[str]:
    match value:
        case dict():
            for key, inner in value.items():
                yield str(key)
                yield from _keys(inner)
        case list():
            for inner in value:
                yield from _keys(inner)


def _guess(command: str, message: str) -> str:
    """Guess which option was meant: a class's own, or one of the command."""
    if (found := _OF_CLASS.search(message)) is not None:
        module, _, name = found[1].rpartition(".")
        known = list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
        return "".join(difflib.get_close_matches(found[2], known, n=1))
    told, refused = read_help(command), _REFUSED.search(message)
    if told is None or refused is None:
        return ""
    known = [flag[2:] for section in told.sections for option in section.options for flag in option.flags]
    return "".join(difflib.get_close_matches(refused[1], known, n=1, cutoff=0.8))
