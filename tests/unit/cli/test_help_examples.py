"""Every command's help ends with a way to type it, and that is understood."""

import importlib
import shlex

import pytest

from naruto_vision.cli import main as cli
from naruto_vision.cli.examples import EXAMPLES, closing
from naruto_vision.cli.main import main

CASES = [(command, words) for command, lines in EXAMPLES.items() for words in lines]


def test_every_command_has_an_example_and_no_other_does() -> None:
    assert EXAMPLES.keys() == cli.COMMANDS.keys()
    assert all(EXAMPLES.values())


@pytest.mark.parametrize(("command", "words"), CASES, ids=[words[:50] for _, words in CASES])
def test_an_example_is_of_its_command_and_its_options_exist(command: str, words: str) -> None:
    found, rest = cli._split(shlex.split(words))
    assert found == command
    parser = cli._Parser(prog=command)
    importlib.import_module(f"naruto_vision.cli.{cli.COMMANDS[command][1]}").add_arguments(parser)
    parser.parse_args(rest)
    assert len(words) <= 112


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_ends_with_the_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    told = capsys.readouterr().out
    assert told.rindex("example") > told.rindex("options:")
    assert all(f"\n  naruto-vision {words}\n" in told for words in EXAMPLES[command])


def test_near_commands_come_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--help"]) == 0
    told = capsys.readouterr().out
    assert told.index("examples:\n  naruto-vision evaluate --gt") < told.index("more commands:\n  evaluate counts")


def test_a_command_without_either_ends_with_its_options() -> None:
    assert closing("no such command", "") == ""
    assert closing("no such command", "  near  text") == "more commands:\n  near  text"
    assert closing("demo", "").startswith("example:\n")
