"""Asks LightningCLI for its options and keeps them for ``trainer_help``.

``python -m naruto_vision.cli.help_writer`` writes the file anew, after an option or a module class has changed.
"""

import importlib
import pkgutil
from argparse import SUPPRESS, Action
from typing import Any, NoReturn

from lightning.pytorch.cli import ArgsType, LightningArgumentParser
from typing_extensions import override

from naruto_vision import callbacks, data, modules
from naruto_vision.cli.trainer import NarutoCLI
from naruto_vision.cli.trainer_help import (
    DESCRIPTION,
    CommandHelp,
    HelpOption,
    HelpSection,
    as_json,
    installed_versions,
)
from naruto_vision.io.atomic import write_json

_COMMANDS = ("fit", "validate", "test", "predict")


class _ReadyError(Exception):
    """Leaves LightningCLI's constructor once its parsers stand."""


class _ParsersOnly(NarutoCLI):
    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> NoReturn:
        raise _ReadyError(*(self._parser(command) for command in _COMMANDS))


def describe() -> dict[str, Any]:
    """Ask LightningCLI for the options of its commands.

    The package's own modules, data and callbacks are imported first, because help names the classes that are known.

    Returns:
        What ``trainer_help.json`` holds.
    """
    for room in (modules, data, callbacks):
        for found in pkgutil.iter_modules(room.__path__):
            importlib.import_module(f"{room.__name__}.{found.name}")
    try:
        _ParsersOnly([])
    except _ReadyError as ready:
        told = {command: _describe(parser) for command, parser in zip(_COMMANDS, ready.args, strict=True)}
    return as_json(told, installed_versions())


def _describe(parser: LightningArgumentParser) -> CommandHelp:
    options = {action: _option(parser, action) for action in parser._actions if action.help != SUPPRESS}
    line = " ".join(parser.format_usage().split())
    usage = [option for option in options.values() if any(f"[{option.flags[0]}{after}" in line for after in " ]")]
    sections = [
        HelpSection(group.title or "", group.description or "", tuple(map(options.__getitem__, group._group_actions)))
        for group in parser._action_groups
    ]
    shown = tuple(section for section in sections if section.options)
    return CommandHelp(parser.prog, parser.description or "", tuple(usage), shown)


def _option(parser: LightningArgumentParser, action: Action) -> HelpOption:
    formatter = parser._get_formatter()
    value = ""
    if action.nargs != 0:
        value = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
    return HelpOption(tuple(action.option_strings), value, formatter._expand_help(action))


if __name__ == "__main__":
    write_json(DESCRIPTION, describe())
