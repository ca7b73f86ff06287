"""The entry point: reads the command's name from a literal table, then hands over to that command's module.

Only the standard library is imported here, so that help, the version and mistakes are answered at once.
"""

import argparse
import difflib
import errno
import importlib
import importlib.metadata
import logging
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from naruto_vision.errors import InputError, NarutoVisionError

PROGRAM = "naruto-vision"
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_HELP = frozenset({"-h", "--help"})
_DENIED, _FULL = "no permission; change it, or choose another place", "no room is left there; make some"
_FILE_IN_THE_WAY = "a file is where a folder should be; choose another place"
_DISK_TROUBLE = {
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: "this disk cannot be written to; choose another place",
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.ENOTDIR: _FILE_IN_THE_WAY,
    errno.EEXIST: _FILE_IN_THE_WAY,
    errno.EISDIR: "a folder is where a file should be; choose another name",
    errno.ENAMETOOLONG: "the name is too long for this disk; choose a shorter one",
}
"""What the user can mend, and how. Other OSErrors are defects."""

TRAINER_COMMANDS = {
    "fit": "train, or enrol a gallery, as a config says",
    "validate": "run the validation of a config",
    "test": "run the test of a config",
    "predict": "name the characters in a folder: predict DIR, or predict --config FILE",
}
"""Handed over to LightningCLI with their words untouched."""

COMMANDS = {
    "demo": ("draw data, tune, enrol, predict and measure, all in one go", "demo"),
    "draw": ("draw a cast's images and scenes with their ground truth", "draw"),
    "data prepare": ("turn a folder of labelled images into manifests", "data"),
    "data audit": ("look for images that stand on both sides of a split", "data"),
    "data split": ("make manifests of a split in which nothing stands on both sides", "data"),
    "data shard": ("scale images down once and pack them into shards, for large data sets", "data"),
    "evaluate": ("hold predicted scenes against their ground truth, one run or several", "evaluate"),
    "evaluate counts": ("rates, intervals and comparisons from counts alone", "evaluate_counts"),
    "gallery import": ("turn an index folder of the reference system into a gallery", "gallery"),
    "gallery list": ("list a gallery's labels, index and thresholds, and its rows on request", "gallery"),
    "gallery add": ("add images to a gallery; only these are embedded", "gallery"),
    "gallery remove": ("remove rows from a gallery", "gallery"),
    "gallery relabel": ("give rows of a gallery another label", "gallery"),
    "gallery verify": ("check the integrity of a gallery, and say how to fix what is wrong", "gallery"),
    "gallery log": ("list the changes to a gallery, generation by generation", "gallery"),
    "gallery rollback": ("restore an older generation of a gallery", "gallery"),
    "gallery reindex": ("rebuild a gallery's index: flat, HNSW or IVF", "gallery"),
    "search": ("name images or texts by a gallery, and show the nearest rows", "search"),
    "bench index": ("time NumPy and FAISS indexes, and measure their recall", "bench_index"),
    "weights": ("list, download or verify official weights, import a checkpoint", "weights"),
    "doctor": ("show versions, hardware and weights, and say what is wrong", "doctor"),
}
"""Command → (one line of help, module of `naruto_vision.cli` with `add_arguments` and `run`)."""


_SECTIONS = {
    "commands to start with:": ("demo", "doctor", "weights"),
    "images:": ("draw", "data"),
    "train, enrol and name:": (*TRAINER_COMMANDS, "segment"),
    "galleries:": ("gallery", "search"),
    "measure:": ("evaluate", "reproduce", "ablate", "bench"),
}
"""The overview's sections → the first words of their commands; a command of no section comes last, under "more:"."""


def _overview() -> str:
    texts = TRAINER_COMMANDS | {name: text for name, (text, _) in COMMANDS.items()}
    blocks = []
    for title, words in [*_SECTIONS.items(), ("more:", tuple(name.split()[0] for name in texts))]:
        names = [name for word in words for name in texts if name.split()[0] == word]
        rows = {name: texts.pop(name) for name in dict.fromkeys(names)}  # each is shown once
        if rows:
            blocks.append(f"{title}\n{_table(rows)}")
    return "\n\n".join(blocks)


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(f"  {name:<17} {text}" for name, text in rows.items())


def _group(word: str) -> dict[str, str]:
    """Return the commands of two words that begin with this one, each with its line of help."""
    return {name: text for name, (text, _) in COMMANDS.items() if name.startswith(f"{word} ")}


def _group_help(word: str) -> str:
    usage = f"usage: {PROGRAM} {word} COMMAND ...\n\ncommands:\n{_table(_group(word))}"
    return f"{usage}\n\n`{PROGRAM} {word} COMMAND --help` tells more of a command.\n"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    version = importlib.metadata.version("naruto-vision")
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [-h] [--version] COMMAND ...",
        description="Find and name the characters of a drawn series in scenes.",
        epilog=f"{_overview()}\n\n`{PROGRAM} COMMAND --help` tells more of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version}")
    return parser


def _split(words: Sequence[str]) -> tuple[str, list[str]]:
    """Split the words into the command's name (of one word or two) and the rest."""
    pair = " ".join(words[:2])
    if pair in COMMANDS:
        return pair, list(words[2:])
    if words[0] in COMMANDS or words[0] in TRAINER_COMMANDS:
        return words[0], list(words[1:])
    names = [*TRAINER_COMMANDS, *COMMANDS]
    if group := _group(words[0]):
        near = difflib.get_close_matches(pair, group, n=1, cutoff=0.8)
        lasts = ", ".join(name.split()[-1] for name in group)
        others = f"give one of {lasts}; see `{PROGRAM} {words[0]} --help`"
        what = "no such command" if len(words) > 1 else "one more word is wanted"
        raise InputError(f"{pair}: {what}; {f'did you mean `{PROGRAM} {near[0]}`?' if near else others}")
    near = difflib.get_close_matches(pair, names, n=1) or difflib.get_close_matches(words[0], names, n=1)
    hint = f"did you mean `{PROGRAM} {near[0]}`?" if near else f"`{PROGRAM} --help` lists the commands"
    raise InputError(f"{words[0]}: no such command; {hint}")


def _run(words: Sequence[str], *, alone: bool) -> int:
    if not words or words[0].startswith("-"):
        parser = _parser()
        parser.parse_args(words)
        parser.print_help()
        return EXIT_INPUT
    if len(words) > 1 and words[1] in _HELP and words[0] not in COMMANDS and _group(words[0]):
        sys.stdout.write(_group_help(words[0]))
        return 0
    command, rest = _split(words)
    if command in TRAINER_COMMANDS:
        return int(importlib.import_module("naruto_vision.cli.trainer_args").run(command, rest, alone=alone))
    text, name = COMMANDS[command]
    module = importlib.import_module(f"naruto_vision.cli.{name}")
    parser = _Parser(
        prog=f"{PROGRAM} {command}",
        description=text[0].upper() + text[1:] + ".",
        epilog=importlib.import_module("naruto_vision.cli.examples").closing(command, _table(_group(command))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    arguments = parser.parse_args(rest)
    if alone:
        importlib.import_module("naruto_vision.cli.slow_imports").defer_slow_imports(command)
    return int(module.run(arguments))


def _stop(_signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(EXIT_TERMINATED)


@contextmanager
def _termination_unwinds() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that half-written files are cleaned up on the way out."""
    try:
        before = signal.signal(signal.SIGTERM, _stop)
    except ValueError:  # not the main thread; whoever owns it owns the signals too
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _log_lines() -> Iterator[None]:
    """Show this package's own log lines on stderr; other packages' loggers stay as they are."""
    logger = logging.getLogger("naruto_vision")
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    return code if isinstance(code, int) else 1


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        args: The words after the program's name. By default ``sys.argv[1:]``; the process is then the command's own,
            and slow imports may wait until they are used.

    Returns:
        0 when done, 1 when a check found something wrong, 2 when the input is wrong (one line on stderr says what
        and where), 3 when training stopped on a non-finite loss, 130 or 143 when interrupted or terminated.
    """
    words = list(sys.argv[1:] if args is None else args)
    with _log_lines(), _termination_unwinds():
        try:
            return _run(words, alone=args is None)
        except NarutoVisionError as error:
            line = " ".join(str(error).split())
            sys.stderr.write(f"{PROGRAM}: error: {line}\n")
            return error.exit_code
        except OSError as error:
            if error.errno not in _DISK_TROUBLE:
                raise
            place = f"{error.filename}: " if error.filename is not None else ""
            sys.stderr.write(f"{PROGRAM}: error: {place}{_DISK_TROUBLE[error.errno]}\n")
            return EXIT_INPUT
        except KeyboardInterrupt:
            sys.stderr.write(f"{PROGRAM}: interrupted\n")
            return EXIT_INTERRUPTED
        except SystemExit as stop:  # argparse leaves this way, after help and after a usage error
            return _exit_code(stop.code)
