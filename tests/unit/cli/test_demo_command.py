"""``draw`` and ``demo``: what they say, and what they do not overwrite."""

from pathlib import Path

import pytest

from naruto_vision.cli.main import main


def test_what_was_drawn_where_and_what_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "world"
    few = ["--train", "2", "--valid", "0", "--test", "1", "--scenes", "1", "--valid-scenes", "0"]
    assert main(["draw", "--out", str(out), *few, "--size", "64", "--image-size", "32"]) == 0
    told = capsys.readouterr()
    first, second = told.out.splitlines()
    images = len(list(out.glob("t*/*.jpg")))
    assert first.startswith(f"drew {images // 3} characters in {out}: {images} images (per character 2 to train, 0 to ")
    assert first.endswith("and 1 scenes (1 test, 0 validation)")
    assert f"`naruto-vision fit --config clip.yaml --data.root {out}`" in second
    assert told.err == ""  # no bar, and no blank line in its place, where nobody watches


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--videos", "1", "--train", "3"], "--train: only for images and scenes"),
        (["--videos", "1", "--valid-scenes", "3"], "--valid-scenes: only for images and scenes"),
        (["--videos", "1", "--quirks"], "--quirks: only for images and scenes"),
        (["--fps", "12"], "--fps: needs --videos N"),
    ],
)
def test_options_without_effect_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["draw", "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_demo_replaces_nothing_that_no_demo_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.png").write_text("an image")
    assert main(["demo", "--out", str(tmp_path), "--force"]) == 2
    assert "no demo wrote them" in capsys.readouterr().err
    assert (tmp_path / "data" / "mine.png").is_file()
