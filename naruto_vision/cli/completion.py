"""``naruto-vision completion``: scripts that complete commands, options, files, and names of configs and weights."""

import argparse
import importlib
from collections.abc import Iterable

from naruto_vision.cli import main
from naruto_vision.cli.console import show
from naruto_vision.cli.trainer_args import verb_parser
from naruto_vision.io.bundles import packaged_bundles, packaged_configs
from naruto_vision.io.downloads import OFFICIAL

_FOLDERS = frozenset({"DIR", "ROOT", "GALLERY", "INDEX"})
_FILES = frozenset({"FILE", "IMAGE", "PATH"})


def _names() -> dict[tuple[str, str], tuple[Iterable[str], bool]]:
    """Return (command or "", option or argument) → the names it takes, and whether it takes files too."""
    official = [row.name for row in OFFICIAL]
    clip = [name.partition(".")[0] for name in official if not name.startswith("sam")]
    sam = [name for name in official if name.startswith("sam")]
    return {
        ("", "--config"): (packaged_configs(), True),
        ("", "--encoder"): (dict.fromkeys([*packaged_bundles(), *clip]), True),
        ("", "--weights"): (official, True),
        ("", "--mask-weights"): (["tiny-sam", *sam], True),
        ("configs", "name"): (packaged_configs(), False),
        ("weights download", "name"): (official, False),
        ("weights verify", "name"): (official, True),
    }


def _completion(names: Iterable[str], *, files: bool) -> dict[str, object]:
    """Return what shtab calls a completer: the names, and files."""
    from shtab import FILE, sha

    words, function = " ".join(names), f"_naruto_vision_{sha((*names, files))}"
    compgen = f'compgen -W "{words}" -- "$1"' + '; compgen -f -- "$1"' * files
    return {
        "bash": function,
        "zsh": f"{{compadd {words}; _files}}" if files else f"({words})",
        "fish": f"{words} {FILE['fish']}" if files else words,
        "preamble": {"bash": f"{function}() {{ {compgen}; }}"},
    }


def _add_completions(parser: argparse.ArgumentParser, command: str) -> None:
    from shtab import DIRECTORY, FILE

    names = _names()
    for action in parser._actions:
        key = next(iter(action.option_strings), action.dest)
        known = names.get((command, key)) or (names.get(("", key)) if action.option_strings else None)
        if known is not None:
            action.complete = _completion(known[0], files=known[1])  # type: ignore[attr-defined]  # shtab reads it
        elif action.metavar in _FOLDERS or action.dest == "DIR":
            action.complete = DIRECTORY  # type: ignore[attr-defined]  # shtab reads it
        elif action.metavar in _FILES:
            action.complete = FILE  # type: ignore[attr-defined]  # shtab reads it


def command_tree() -> argparse.ArgumentParser:
    """Make one parser of all commands and their options; it completes, and is not used to parse."""
    root = argparse.ArgumentParser(prog=main.PROGRAM)
    root.add_argument("--version", action="store_true", help="show the version")
    groups = {"": root.add_subparsers()}
    texts = main.TRAINER_COMMANDS | {command: text for command, (text, _) in main.COMMANDS.items()}
    parsers: dict[str, argparse.ArgumentParser] = {}
    for command, text in texts.items():
        first, _, last = command.rpartition(" ")
        if first not in groups:
            above = parsers.get(first) or groups[""].add_parser(first, help=f"{first} commands")
            groups[first] = above.add_subparsers()
        parents = [verb_parser(command)] if command in main.TRAINER_COMMANDS else []
        parser = parsers[command] = groups[first].add_parser(last, help=text, parents=parents)
        if command in main.COMMANDS:
            module = importlib.import_module(f"naruto_vision.cli.{main.COMMANDS[command][1]}")
            module.COMMANDS[command][0](parser)
        _add_completions(parser, command)
    return root


def _options(parser: argparse.ArgumentParser) -> None:
    text = "shell that reads the script; docs/commands.md says where to save it"
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help=text)


def _run(arguments: argparse.Namespace) -> int:
    import shtab

    show(shtab.complete(command_tree(), arguments.shell))
    return 0


COMMANDS = {"completion": (_options, _run)}
