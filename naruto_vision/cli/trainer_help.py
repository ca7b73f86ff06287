"""Help of ``fit``, ``validate``, ``test`` and ``predict`` without torch: from a description that the package carries.

LightningCLI can only tell its options after torch and Lightning are imported, which takes seconds. ``help_writer`` asks
it once and keeps the answer in ``trainer_help.json``; here the answer is laid out for the terminal at hand.
"""

import argparse
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DESCRIPTION = Path(__file__).with_name("trainer_help.json")
PACKAGES = ("lightning", "jsonargparse")
"""Whose versions decide the options: the description is only used for those that it was made with."""

_NOTES = {
    "fit": "`naruto-vision fit --config clip.yaml` tunes CLIP, sam.yaml trains a segmenter, gallery.yaml enrols.",
    "predict": "`naruto-vision predict DIR` names the characters of a folder; any option above may follow.",
}
_MORE = "`naruto-vision {command} --model.help CLASS` shows a model's own options, --data.help those of its data."


@dataclass(frozen=True)
class HelpOption:
    """One option as help shows it.

    Args:
        flags: Its spellings.
        value: What stands for its value; "" where it takes none.
        text: Its help.
    """

    flags: tuple[str, ...]
    value: str
    text: str


@dataclass(frozen=True)
class HelpSection:
    """Options under one title.

    Args:
        title: The title.
        text: What stands under it.
        options: Its options.
    """

    title: str
    text: str
    options: tuple[HelpOption, ...]


@dataclass(frozen=True)
class CommandHelp:
    """The help of one Trainer command.

    Args:
        program: What the usage line begins with.
        text: What the command does.
        usage: The options that the usage line lists, in its order.
        sections: All options.
    """

    program: str
    text: str
    usage: tuple[HelpOption, ...]
    sections: tuple[HelpSection, ...]


def installed_versions() -> dict[str, str]:
    """Return the installed versions that decide the options."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def read_help(command: str) -> CommandHelp | None:
    """Read a command's description.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.

    Returns:
        The description; None where it was made with other versions than the installed ones.
    """
    kept: dict[str, Any] = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    if kept["versions"] != installed_versions():
        return None
    options = [HelpOption(tuple(flags), value, text) for flags, value, text in kept["options"]]

    def listed(numbers: Sequence[int]) -> tuple[HelpOption, ...]:
        return tuple(options[number] for number in numbers)

    own = kept["commands"][command]
    sections = [HelpSection(part["title"], part["text"], listed(part["options"])) for part in own["sections"]]
    return CommandHelp(own["program"], own["text"], listed(own["usage"]), tuple(sections))


def as_json(commands: Mapping[str, CommandHelp], versions: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``read_help`` reads, each option once however many commands have it.

    Args:
        commands: Command to its help.
        versions: What it was made with.
    """
    numbers: dict[HelpOption, int] = {}

    def numbered(options: Sequence[HelpOption]) -> list[int]:
        return [numbers.setdefault(option, len(numbers)) for option in options]

    rows = {
        command: {
            "program": told.program,
            "text": told.text,
            "usage": numbered(told.usage),
            "sections": [
                {"title": part.title, "text": part.text, "options": numbered(part.options)} for part in told.sections
            ],
        }
        for command, told in commands.items()
    }
    options = [[list(option.flags), option.value, option.text] for option in numbers]
    return {"versions": dict(versions), "commands": rows, "options": options}


def layout(told: CommandHelp) -> str:
    """Lay a command's help out as argparse does, as wide as the terminal is.

    Args:
        told: The command's help.

    Returns:
        The lines that LightningCLI itself would show.
    """
    short = argparse.ArgumentParser(prog=told.program, add_help=False)
    for option in told.usage:
        _add(short, option)
    usage = short.format_usage().removeprefix("usage: ").rstrip("\n")
    whole = argparse.ArgumentParser(usage=_escaped(usage), description=told.text, add_help=False)
    for section in told.sections:
        group = whole.add_argument_group(section.title, section.text or None)
        for option in section.options:
            _add(group, option)
    return whole.format_help()


def _add(group: argparse._ActionsContainer, option: HelpOption) -> None:
    """Add an option that argparse shows exactly so; nothing is ever parsed with it."""
    if option.value:
        group.add_argument(*option.flags, metavar=option.value, help=_escaped(option.text))
    else:
        group.add_argument(*option.flags, action="store_true", help=_escaped(option.text))


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def help_of(command: str, words: Sequence[str]) -> str | None:
    """Answer a request for help.

    Args:
        command: The Trainer command.
        words: The words after it.

    Returns:
        The help; None where none was asked for, or only LightningCLI itself can tell.
    """
    if not {"-h", "--help"} & set(words):
        return None
    told = read_help(command)
    if told is None:
        return None
    notes = [_NOTES.get(command, ""), _MORE.format(command=command)]
    return "\n".join([layout(told), *filter(None, notes)]) + "\n"
