"""The short options of ``predict``, and telling of misspelt options before torch is imported."""

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from naruto_vision.cli.trainer_help import read_help
from naruto_vision.errors import InputError


@dataclass(frozen=True)
class ShortOption:
    """A short word for what ``predict`` is told most often; the long one says the same in every command.

    Args:
        flag: The short word.
        long: What LightningCLI is given; of a switch, with its value.
        value: What stands for the value in help; "" for a switch.
        text: Its help.
    """

    flag: str
    long: str
    value: str
    text: str


SHORT = (
    ShortOption("--gallery", "--model.gallery", "DIR", "who is looked for (default: runs/gallery)"),
    ShortOption("--threshold", "--model.overlay.min_score", "SCORE", "show only regions whose score is at least this"),
    ShortOption("--top-k", "--model.overlay.top_k", "N", "show at most so many regions a scene, picked best first"),
    ShortOption(
        "--prefer-different-label",
        "--model.overlay.prefer_different_label=true",
        "",
        "with --top-k: rather another character than the same one twice",
    ),
    ShortOption(
        "--min-area", "--model.segmenter.init_args.keep.min_area", "PIXELS", "leave out regions of fewer pixels"
    ),
    ShortOption(
        "--max-masks", "--model.segmenter.init_args.keep.max_masks", "N", "search at most so many regions a scene"
    ),
    ShortOption(
        "--mask-precision",
        "--model.segmenter.init_args.model.init_args.precision",
        "DTYPE",
        "what masks are computed in: float32 (default); bfloat16 or float16, faster on a GPU",
    ),
    ShortOption(
        "--mask-compile",
        "--model.segmenter.init_args.model.init_args.compile",
        "PART",
        "compile none (default), encoder or all of SAM: minutes at the first scene, faster from then on",
    ),
    ShortOption("--decision", "--model.decision", "RULE", "vote (default), top1, max, mean or prototype"),
    ShortOption("--fail-fast", "--fail_fast=true", "", "stop at the first image that cannot be read"),
)
_LONG = {option.flag: option.long for option in SHORT}
_SWITCHES = frozenset(option.flag for option in SHORT if not option.value)


def lengthened(words: Sequence[str]) -> list[str]:
    """Write short options as LightningCLI knows them.

    Args:
        words: The words after ``predict``.

    Raises:
        InputError: If a switch is given a value.
    """
    return [_lengthened(word) for word in words]


def _lengthened(word: str) -> str:
    name, equals, value = word.partition("=")
    if equals and name in _SWITCHES:
        msg = f"{word}: {name} takes no value; leave it away where it is not wanted"
        raise InputError(msg)
    return _LONG.get(name, name) + equals + value


def short_help() -> str:
    """Return the help of ``predict DIR``, which stands before LightningCLI's own, as wide as the terminal is."""
    parser = argparse.ArgumentParser(
        usage="naruto-vision predict DIR [options]",
        description="Name the characters in the images of a folder. The same command again goes on where it stopped.",
        add_help=False,
    )
    parser.add_argument("DIR", help="a folder of images, also in sub-folders")
    group = parser.add_argument_group("options that are wanted most often")
    group.add_argument("--out", metavar="DIR", help="where the results go (default: runs/scenes)")
    for option in SHORT:
        if option.value:
            group.add_argument(option.flag, metavar=option.value, help=option.text)
        else:
            group.add_argument(option.flag, action="store_true", help=option.text)
    return f"{parser.format_help()}\nEverything else that can be set, here and in a config:\n\n"


def check_options(command: str, words: Sequence[str]) -> None:
    """Refuse an option that the command does not have. Keys of the config (with a dot) are left to LightningCLI.

    Args:
        command: The Trainer command.
        words: The words after it.

    Raises:
        InputError: If an option is unknown; what it was meant to be, where that can be guessed.
    """
    options = [word.partition("=")[0].removesuffix("+") for word in words if word.startswith("--")]
    names = [name for name in options if "." not in name and name != "--"]
    unsure = [name for name in names if name not in _LONG or command != "predict"]
    told = read_help(command) if unsure else None
    if told is None:
        return
    known = {flag for section in told.sections for option in section.options for flag in option.flags}
    for name in unsure:
        if name not in known:
            raise InputError(_unknown(command, name, [flag for flag in known if "." not in flag]))


def _unknown(command: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, sorted({*known, *(_LONG if command == "predict" else ())}), n=1, cutoff=0.7)
    hint = f"did you mean {near[0]}?" if near else f"see `naruto-vision {command} --help`"
    return f"unrecognized arguments: {name}; {hint}"
