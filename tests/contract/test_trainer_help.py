"""The torch-free help of the Trainer commands says what LightningCLI itself would say."""

import json
import re
from pathlib import Path

import pytest
import yaml

from naruto_vision.cli import trainer_help
from naruto_vision.cli.help_writer import describe
from naruto_vision.cli.trainer import run_cli
from naruto_vision.cli.trainer_help import CommandHelp, help_of, layout, read_help

COMMANDS = ("fit", "validate", "test", "predict")
MEND = "the options have changed; `make options` writes naruto_vision/cli/trainer_help.json anew"


@pytest.fixture(scope="module")
def now() -> str:
    return json.dumps(describe(), indent=1)


def _own_classes(text: str) -> str:
    """Leave out the classes that tests define: help names every subclass that is known to the process."""

    def kept(found: re.Match[str]) -> str:
        names = [name for name in found[1].split(", ") if name.startswith("naruto_vision.")]
        return f"known subclasses: {', '.join(sorted(names))}"

    return re.sub(r"known subclasses: ([\w., ]+)", kept, text)


def _told(text: str, command: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> CommandHelp:
    (folder / "now.json").write_text(text)
    monkeypatch.setattr(trainer_help, "DESCRIPTION", folder / "now.json")
    told = read_help(command)
    assert told is not None
    return told


def test_the_kept_description_is_lightnings_own(now: str) -> None:
    kept = trainer_help.DESCRIPTION.read_text(encoding="utf-8")
    assert json.loads(_own_classes(kept)) == json.loads(_own_classes(now)), MEND


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", ["80", "130"])
def test_help_reads_as_lightnings_own_at_any_width(
    command: str,
    columns: str,
    now: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit):
        run_cli([command, "--help"])
    assert layout(_told(now, command, monkeypatch, tmp_path)) == capsys.readouterr().out


def test_help_of_another_release_is_left_to_lightning(
    now: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _told(now, "fit", monkeypatch, tmp_path)
    monkeypatch.setattr(trainer_help, "installed_versions", lambda: {"lightning": "0.1", "jsonargparse": "0.1"})
    assert read_help("fit") is None
    assert help_of("fit", ["--help"]) is None


def test_help_is_only_given_where_it_was_asked_for() -> None:
    assert help_of("fit", ["--config", "clip.yaml"]) is None
    shown = help_of("predict", ["scenes", "-h"])
    assert shown is not None
    assert "naruto-vision predict DIR" in shown
    assert "--model.help CLASS" in shown


def test_the_description_travels_in_the_wheel() -> None:
    settings = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    patterns = yaml.safe_load(re.findall(r'^"naruto_vision" = (\[.*commands.*\])$', settings, re.MULTILINE)[0])
    assert f"commands/*{trainer_help.DESCRIPTION.suffix}" in patterns
