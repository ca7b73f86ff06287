"""``data audit --encoder``: suspects and near copies, printed, written and drawn."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from naruto_vision.cli.main import main
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.io.images import read_image, write_image

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)
COLOURS = {"ayame": (220, 60, 60), "kenta": (60, 60, 220)}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle, and class folders in which one red image stands among the blue ones."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    ClipEncoder("tiny-clip", "random", sizes=SIZES).save("bundle")
    for split, count in (("train", 6), ("test", 2)):
        for label, colour in COLOURS.items():
            for number in range(count):
                noise = np.random.default_rng(number + 10 * count).integers(-30, 30, (24, 24, 3))
                image = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                write_image(tmp_path / "data" / split / label / f"{label[0]}{number}.png", image)
    (tmp_path / "data/train/ayame/a0.png").rename(tmp_path / "data/train/kenta/wrong.png")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["data", "audit", "data", "--numbers", "ignore", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("place")
def test_a_mislabelled_image_is_named_written_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "--encoder", "bundle", "--neighbours", "5", "--out", "audit")
    assert "1 of 16 images may have a wrong label: most of their 5 nearest neighbours are of another class" in text
    assert "  train kenta/wrong.png: kenta, but 5 are ayame" in text.replace("train/kenta", "kenta")
    found = json.loads(Path("audit/audit.json").read_text())["encoder"]
    assert found["model"] == "bundle"
    assert [Path(one["path"]).name for one in found["suspects"]] == ["wrong.png"]
    rows = list(csv.DictReader(Path("audit/neighbours.csv").read_text().splitlines()))
    assert len(rows) == 16
    assert rows[0]["votes"] == "ayame 5"
    sheet = read_image("audit/suspects.png")
    red = (np.abs(sheet.astype(int) - COLOURS["ayame"]) < 40).all(axis=2).sum()
    assert red > 5 * 100 * 100  # it and its five neighbours
    assert (sheet[0, 0] < 60).all()


def test_a_sheet_of_mended_mistakes_goes_away(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "--encoder", "bundle", "--out", "audit", "--theme", "light")
    assert (read_image("audit/suspects.png")[0, 0] > 200).all()
    (place / "data/train/kenta/wrong.png").rename(place / "data/train/ayame/right.png")
    text = told(capsys, "--encoder", "bundle", "--out", "audit")
    assert "0 of 16 images may have a wrong label: most of their 8 nearest neighbours are of another class\n" in text
    assert "suspects.png" not in text
    assert not Path("audit/suspects.png").exists()


@pytest.mark.usefixtures("place")
def test_near_copies_depend_on_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    none = told(capsys, "--encoder", "bundle", "--near-cosine", "1", "--json-out", "none.json")
    assert "0 pairs of different splits have a cosine of 1 or more\n" in none
    told(capsys, "--encoder", "bundle", "--near-cosine", "-1", "--json-out", "all.json")
    assert json.loads(Path("none.json").read_text())["encoder"]["near_pairs"] == []
    pairs = json.loads(Path("all.json").read_text())["encoder"]["near_pairs"]
    assert pairs
    assert all({one["first"]["part"], one["second"]["part"]} == {"train", "test"} for one in pairs)


@pytest.mark.usefixtures("place")
def test_without_an_encoder_nothing_of_it_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "--out", "audit")
    assert "nearest neighbours" not in text
    assert "encoder" not in json.loads(Path("audit/audit.json").read_text())
    assert not Path("audit/neighbours.csv").exists()


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--encoder", "no-such-thing"], "no-such-thing"),
        (["--encoder", "bundle", "--near-cosine", "2"], "expected a number from -1 to 1"),
        (["--encoder", "bundle", "--neighbours", "-3"], "expected a whole number"),
    ],
)
def test_wrong_options_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "audit", "data", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
