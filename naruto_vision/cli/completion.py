"""``naruto-vision completion``: scripts that complete commands, options, files, and names of configs and weights."""

import argparse
import importlib
from collections.abc import Iterable

from naruto_vision.cli import main
from naruto_vision.cli.console import show
from naruto_vision.cli.trainer_args import verb_parser
from naruto_vision.io.bundles import packaged_configs
from naruto_vision.io.downloads import OFFICIAL

_FOLDERS = frozenset({"DIR", "ROOT", "GALLERY", "INDEX"})
_FILES = frozenset({"FILE", "IMAGE", "PATH"})


def _names(command: str, argument: str) -> Iterable[str]:
    """Return the names of configs and weights that an option, or an argument of a command, takes."""
    official = [row.name for row in OFFICIAL]
    match command, argument:
        case (_, "--config") | ("configs", "name"):
            return packaged_configs()
        case _, "--encoder":
            encoders = [name.partition(".")[0] for name in official if not name.startswith("sam")]
            return dict.fromkeys(["tiny-clip", *encoders])
        case _, "--mask-weights":
            return ["tiny-sam", *(name for name in official if name.startswith("sam"))]
        case (_, "--weights") | ("weights download" | "weights verify", "name"):
            return official
    return ()


def _completer(command: str, action: argparse.Action) -> object:
    """Return shtab's completer of one argument: names and files, folders, files, or None."""
    from shtab import DIRECTORY, FILE

    argument = next(iter(action.option_strings), action.dest)
    if words := " ".join(_names(command, argument)):
        function = f"_naruto_vision_{''.join(filter(str.isalnum, command + argument))}"
        return {
            "bash": function,
            "zsh": f"{{compadd {words}; _files}}",
            "fish": f"{words} {FILE['fish']}",
            "preamble": {"bash": f'{function}() {{ compgen -W "{words}" -- "$1"; compgen -f -- "$1"; }}'},
        }
    return DIRECTORY if {action.metavar, action.dest} & _FOLDERS else FILE if action.metavar in _FILES else None


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
        for action in parser._actions:
            if completer := _completer(command, action):
                action.complete = completer  # type: ignore[attr-defined]  # shtab reads it
    return root


def _options(parser: argparse.ArgumentParser) -> None:
    text = "shell that reads the script; docs/commands.md says where to save it"
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help=text)


def _run(arguments: argparse.Namespace) -> int:
    import shtab

    show(shtab.complete(command_tree(), arguments.shell))
    return 0


COMMANDS = {"completion": (_options, _run)}
