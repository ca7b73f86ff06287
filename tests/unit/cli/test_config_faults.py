"""A config that is refused is named, with what its author most likely meant."""

from pathlib import Path

import pytest

from naruto_vision.cli.config_faults import explain_fault
from naruto_vision.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def explained(text: str, message: str = "Problems parsing config") -> str:
    Path("own.yaml").write_text(text, encoding="utf-8")
    return explain_fault(["fit", "--config", "own.yaml"], message)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: [unclosed\n", "own.yaml: not YAML (line 2, column 1: expected ',' or ']'"),
        ("a: b: c\n", "own.yaml: not YAML (line 1, column 5: mapping values are not allowed here)"),
        ("- 1\n", "own.yaml: expected keys such as model, data and trainer, found list"),
        ("", "own.yaml: expected keys such as model, data and trainer, found NoneType"),
        ("hello\n", "own.yaml: expected keys such as model, data and trainer, found str"),
        ("model:\n  clas_path: x\n", "own.yaml: model: no such key clas_path; did you mean class_path?"),
        (
            "trainer:\n  callbacks:\n    - class_path: x\n      initargs: {}\n",
            "own.yaml: trainer.callbacks.0: no such key initargs; did you mean init_args?",
        ),
        ("a: \x01\n", "own.yaml: not YAML ("),
    ],
)
def test_a_file_that_is_no_config_is_named_with_the_place(text: str, told: str) -> None:
    assert explained(text).startswith(told)


@pytest.mark.usefixtures("folder")
def test_a_key_is_looked_for_in_the_configs() -> None:
    message = "Subcommand 'fit' does not accept option 'trainer.max_epochss'"
    hint = "; did you mean trainer.max_epochs?"
    assert explained("trainer:\n  max_epochss: 3\n", message) == f"own.yaml: {message}{hint}"
    assert explained("trainer:\n  max_epochs: 3\n", message) == message + hint  # so it was a word, not the file
    assert explained("trainer: {}\n", "does not accept option 'xyz.nothing'") == "does not accept option 'xyz.nothing'"


@pytest.mark.usefixtures("folder")
def test_a_class_is_asked_for_its_own_options() -> None:
    message = (
        "data: Problem with given class_path 'naruto_vision.data.class_data.ClassDataModule': Option 'rot' is wrong"
    )
    assert explain_fault(["fit"], message) == f"{message}; did you mean root?"
    far = message.replace("'rot'", "'xyzzy'")
    assert explain_fault(["fit"], far) == far


def test_without_a_model_the_packaged_configs_are_named() -> None:
    told = explain_fault(["fit"], "the following arguments are required: fit.model")
    assert told.startswith("fit: no model; give --config FILE (clip.yaml tunes CLIP, gallery.yaml enrols a gallery")


def test_empty_reasons_are_left_out() -> None:
    assert explain_fault(["fit"], 'Parser key "encoder":; it is wrong') == "it is wrong"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: [\n", "own.yaml: not YAML (line 2"),
        ("trainer:\n  max_epochss: 3\n", "own.yaml: Subcommand 'fit' does not accept option 'trainer.max_epochss'"),
        ("- 1\n", "own.yaml: expected keys"),
    ],
)
def test_the_command_line_tells_it(text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.yaml").write_text(text, encoding="utf-8")
    assert main(["fit", "--config", "own.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"naruto-vision: error: {told}")


def test_no_config_at_all_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit"]) == 2
    assert "fit: no model; give --config FILE" in capsys.readouterr().err
