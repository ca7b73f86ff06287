import errno
import os
import shlex
import signal
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from types import ModuleType

import pytest

from naruto_vision.cli import main as cli
from naruto_vision.cli.main import COMMANDS, EXAMPLES, TRAINER_COMMANDS, main
from naruto_vision.errors import InputError, TrainingStoppedError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put a command named ``toy`` into the table; its ``run`` raises or returns what a test sets."""
    module = ModuleType("naruto_vision.cli.toy")

    def add_options(parser: ArgumentParser) -> None:
        parser.add_argument("--number", type=int, default=0, help="a number")

    def run(arguments: Namespace) -> int:
        if module.__dict__.get("error"):
            raise module.__dict__["error"]
        return int(arguments.number)

    module.__dict__["COMMANDS"] = {"toy": (add_options, run), "toy two": (add_options, run)}
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(COMMANDS, "toy", ("play", "toy"))
    return module


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in [*COMMANDS, *TRAINER_COMMANDS])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("naruto-vision 0.")


def test_no_command_shows_help_and_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "train and predict:\n  fit " in capsys.readouterr().out


def test_the_overview_shows_each_command_once_under_its_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    listed = [line[2:20].strip() for line in shown.splitlines() if line.startswith("  ") and line[2] != "-"]
    assert sorted(listed) == sorted([*COMMANDS, *TRAINER_COMMANDS])
    assert shown.index("data:") < shown.index("  data prepare ") < shown.index("train and predict:")
    assert "more:" not in shown  # every command belongs to a section


@pytest.mark.usefixtures("command")
def test_a_command_of_no_section_is_shown_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "more:\n  toy               play\n" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_first_word_of_a_group_lists_its_commands(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", flag]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: naruto-vision data COMMAND ...")
    assert "\n  data prepare " in shown
    assert "fit" not in shown


@pytest.mark.usefixtures("command")
def test_a_command_with_commands_under_it_lists_them_after_its_own_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "toy two", ("play in pairs", "toy"))
    assert main(["toy", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("--number") < shown.index("more commands:\n  toy two           play in pairs")


def test_every_command_has_an_example_and_no_other_does() -> None:
    assert EXAMPLES.keys() == COMMANDS.keys()
    assert all(EXAMPLES.values())


@pytest.mark.parametrize(
    ("command", "example"), [(command, line) for command, lines in EXAMPLES.items() for line in lines]
)
def test_an_example_is_of_its_command_and_parses(command: str, example: str) -> None:
    found, rest = cli.split(shlex.split(example))
    assert found == command
    cli.parse(command, rest)
    assert len(example) <= 112


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_the_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.rindex("example") > shown.rindex("options:")
    assert all(f"\n  naruto-vision {example}\n" in shown for example in EXAMPLES[command])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["predcit", "x"], "predcit: no such command; did you mean `naruto-vision predict`?"),
        (["data"], "data: a command is missing; expected one of "),
        (["data", "zzzz"], "see `naruto-vision data --help`"),
        (["data", "prepair"], "data prepair: no such command; did you mean `naruto-vision data prepare`?\n"),
        (["qqqq"], "`naruto-vision --help` lists the commands"),
        (["--nope"], "unrecognized arguments: --nope; see `naruto-vision --help`"),
        (["weights"], "weights: a command is missing; expected one of list, download, verify, import"),
        (["predict", "/no/such/folder"], "/no/such/folder: no such image or folder"),
        (["fit", "--config", "/no/such.yaml"], "/no/such.yaml: no such config"),
        (["fit", "--config=nope.yaml"], "nope.yaml: no such config"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("naruto-vision: error: ")
    assert text in shown
    assert shown.count("\n") == 1


def test_a_folder_without_images_is_told_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    assert main(["predict", str(tmp_path)]) == 2
    assert "no images in it or its sub-folders" in capsys.readouterr().err


@pytest.mark.usefixtures("command")
def test_the_exit_code_is_the_commands() -> None:
    assert main(["toy"]) == 0
    assert main(["toy", "--number", "7"]) == 7


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("a\nb"), 2), (TrainingStoppedError("nan"), 3), (KeyboardInterrupt(), 130), (SystemExit(5), 5)],
)
def test_errors_become_exit_codes(
    command: ModuleType, error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    command.__dict__["error"] = error
    assert main(["toy"]) == code
    assert capsys.readouterr().err.count("\n") <= 1


@pytest.mark.parametrize("defect", [ZeroDivisionError("a defect"), FileNotFoundError(errno.ENOENT, "none", "x")])
def test_a_defect_keeps_its_traceback(command: ModuleType, defect: Exception) -> None:
    command.__dict__["error"] = defect
    with pytest.raises(type(defect)):
        main(["toy"])


def test_a_disk_that_cannot_be_written_to_is_told_in_one_line(
    command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    command.__dict__["error"] = OSError(errno.ENOSPC, "No space left on device", "runs/a.json")
    assert main(["toy"]) == 2
    assert capsys.readouterr().err == "naruto-vision: error: runs/a.json: the disk is full; free some space\n"


def test_sigterm_unwinds_and_exits_143(command: ModuleType) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def terminate(_arguments: Namespace) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    command.__dict__["COMMANDS"]["toy"] = (lambda _: None, terminate)
    assert main(["toy"]) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "naruto_vision", "--version"], capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stdout.decode().startswith(cli.PROGRAM)


def test_colours_asked_for_in_a_log_draw_no_bars(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as notebooks do
    monkeypatch.setenv("TTY_COMPATIBLE", "")
    monkeypatch.delenv("TTY_COMPATIBLE")  # and what is set during the test is undone after it
    assert main(["draw", "--out", str(tmp_path), "--train", "1", "--valid", "0", "--test", "0", "--scenes", "1"]) == 0
    shown = "".join(capsys.readouterr())
    assert "drew" in shown
    assert "\x1b" not in shown
