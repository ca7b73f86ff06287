import json
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.cli import main
from naruto_vision.commands.segment_parts import Bench, matched_share
from naruto_vision.drawn.cast import read_cast
from naruto_vision.drawn.scenes import draw_scene
from naruto_vision.files.images import write_image
from naruto_vision.files.share import config_path
from naruto_vision.records import Region
from naruto_vision.segmentation.sam import SamModel


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    cast = read_cast(config_path("cast.yaml"))
    write_image(folder / "a.png", draw_scene(11, cast, size=96, difficulty="easy").picture[:, :90])
    return folder


def test_every_part_is_timed_and_is_the_same(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "segment", "--part", "all", "--points", "4", "--repeats", "1", "--pictures", str(pictures)]
    assert main([*words, "--json", str(tmp_path / "segment.json")]) == 0
    shown = capsys.readouterr().out
    assert "GFLOP/s on" in shown
    assert "peak memory" in shown
    results = json.loads((tmp_path / "segment.json").read_text())["results"]
    masks, encoder, decoder, post = results["parts"]
    assert masks["part"] == "masks 96x90"
    assert masks["parity"]["masks"] == masks["parity"]["stock masks"] > 0
    assert masks["parity"]["matched"] == 1.0
    assert encoder["parity"]["largest difference"] <= 1e-4
    assert decoder["parity"]["masks"] == decoder["parity"]["stock masks"] > 0
    assert decoder["parity"]["largest difference"] <= 1e-3
    assert post["parity"]["identical run lengths"] == post["parity"]["stock masks"] > 0
    assert all(part["times_as_fast"] > 0 and part["ours"]["repeats"] == 1 for part in results["parts"])


def test_ours_alone_tells_regions_and_memory(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "segment", "--ours-only", "--points", "4", "--pictures", str(pictures)]) == 0
    shown = capsys.readouterr().out
    assert "1 pictures" in shown
    assert "stock" not in shown


def test_random_weights_get_the_share_that_was_asked_for() -> None:
    bench = Bench(SamModel("tiny-sam"), 6, 1, 0, 0.4)
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    bars = bench.bars(picture)
    assert bars.stability == 0
    share = float((bench._ious(picture) > bars.predicted_iou).float().mean())
    assert 0.2 <= share <= 0.6
    assert Bench(bench.model, 6, 1, 0, None).bars(picture) == bench.model.thresholds


def _square(left: int, top: int, side: int, hole: int = 0) -> Region:
    mask = np.ones((side, side), dtype=bool)
    mask[1 : 1 + hole, 1 : 1 + hole] = False
    return Region((left, top, left + side - 1, top + side - 1), mask)


def test_a_stock_mask_counts_once_and_only_at_an_iou_of_99_per_cent() -> None:
    one, other = _square(0, 0, 20), _square(50, 0, 20)
    assert matched_share([one, other], [one, other]) == 1.0
    assert matched_share([one], [one, other]) == 0.5
    assert matched_share([one], [one, one]) == 0.5
    assert matched_share([_square(0, 0, 20, hole=3)], [one]) == 0.0
    assert matched_share([_square(0, 0, 20, hole=2)], [one]) == 1.0
    assert matched_share([_square(1, 0, 200)], [_square(0, 0, 200)]) == 1.0
    assert matched_share([], []) == 1.0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--points", "0"], "--points 0: expected 1 or more"),
        (["--repeats", "0"], "--repeats 0: expected 1 or more"),
        (["--share", "0"], "--share 0.0: expected more than 0"),
        (["--weights", "no-such-bundle"], "no such model bundle"),
        (["--pictures", "no-such-folder"], "no-such-folder"),
    ],
)
def test_what_cannot_be_timed_is_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "segment", "--repeats", "1", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_without_pictures_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "segment", "--pictures", str(tmp_path)]) == 2
    assert "there is no picture" in capsys.readouterr().err
