"""``draw`` from the command line: what it says when it is done."""

from pathlib import Path

import pytest

from naruto_vision.cli.main import main


def test_what_was_drawn_where_and_what_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "world"
    few = ["--train", "2", "--valid", "0", "--test", "1", "--scenes", "1", "--valid-scenes", "0"]
    assert main(["draw", "--out", str(out), *few, "--size", "64", "--picture-size", "32"]) == 0
    told = capsys.readouterr()
    first, second = told.out.splitlines()
    images = len(list(out.glob("t*/*.jpg")))
    assert first.startswith(f"drew {images // 3} characters in {out}: {images} images (of each 2 to train, 0 to ")
    assert first.endswith("and 1 scenes (1 test, 0 validation)")
    assert f"`naruto-vision fit --config clip.yaml --data.root {out}`" in second
    assert told.err == ""  # no bar, and no blank line in its place, where nobody watches
