import hashlib
from pathlib import Path

import pytest

from naruto_vision.cli import main
from naruto_vision.files import registry
from naruto_vision.files.registry import OFFICIAL, OfficialWeights

CONTENT = b"weights"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> OfficialWeights:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    row = OfficialWeights("toy", "https://example.org/toy.pth", "toy.pth", 1, "MIT", "nobody", sha256, "url")
    monkeypatch.setattr(registry, "OFFICIAL", (row,))
    monkeypatch.setattr("naruto_vision.commands.weights.OFFICIAL", (row,))
    return row


def test_the_list_has_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(row.name in shown and row.url in shown for row in OFFICIAL)


def test_an_unknown_name_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "download", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_verify_tells_right_from_wrong(
    toy: OfficialWeights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / toy.file).write_bytes(CONTENT)
    assert main(["weights", "verify", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("ok")
    (tmp_path / toy.file).write_bytes(b"other")
    assert main(["weights", "verify", str(tmp_path / toy.file)]) == 1
    assert capsys.readouterr().out.startswith("WRONG")


def test_verify_says_what_to_do_about_a_missing_file(
    toy: OfficialWeights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "verify", toy.name, "--out", str(tmp_path)]) == 2
    assert "weights download toy" in capsys.readouterr().err
    assert main(["weights", "verify", "--out", str(tmp_path)]) == 2
