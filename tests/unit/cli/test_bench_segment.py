import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from naruto_vision.cli import bench_segment, segment_parity, segment_parts
from naruto_vision.cli.bench import Timing
from naruto_vision.cli.main import main
from naruto_vision.cli.segment_parity import LowPrecisionGate, best_ious, is_stock_result, matched_share
from naruto_vision.cli.segment_parts import Bench, Part
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import write_image
from naruto_vision.records import Region
from naruto_vision.segmentation import runtime
from naruto_vision.segmentation.fast_encoder import Products
from naruto_vision.segmentation.runtime import Compile, ForwardPasses, Precision
from naruto_vision.segmentation.sam import Architecture, SamModel
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    cast = read_cast(config_path("cast.yaml"))
    write_image(folder / "a.png", draw_scene(11, cast, size=96, difficulty="easy").image[:, :90])
    return folder


def test_every_part_is_timed_and_is_the_same(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "segment", "--part", "all", "--points", "4", "--repeats", "1", "--images", str(images)]
    assert main([*words, "--json", str(tmp_path / "segment.json")]) == 0
    shown = capsys.readouterr().out
    assert "GFLOP/s on" in shown
    assert "peak memory" in shown
    results = json.loads((tmp_path / "segment.json").read_text())["results"]
    masks, encoder, decoder, post, noise = results["parts"]
    assert masks["part"] == "masks 96x90"
    assert masks["parity"]["masks"] == masks["parity"]["stock masks"] > 0
    assert masks["parity"]["share matched"] == 1.0
    assert encoder["parity"]["largest difference"] <= 1e-4
    assert decoder["parity"]["masks"] == decoder["parity"]["stock masks"] > 0
    assert decoder["parity"]["largest difference"] <= 1e-3
    assert post["parity"]["identical run lengths"] == post["parity"]["stock masks"] > 0
    assert noise["parity"]["identical run lengths"] == noise["parity"]["masks"] == noise["parity"]["stock masks"] == 24
    assert all(part["times_as_fast"] > 0 and part["ours"]["repeats"] == 1 for part in results["parts"])


def test_a_bar_counts_every_round_of_both(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = list[int]()

    @contextmanager
    def bar(what: str, total: int) -> Iterator[Callable[[], int]]:
        ticks = count()
        yield lambda: next(ticks)
        assert what == "timing"
        counted.extend([total, next(ticks)])

    monkeypatch.setattr("naruto_vision.cli.console.progress", bar)
    words = ["--part", "noise", "--points", "2", "--repeats", "2", "--images", str(images)]
    assert main(["bench", "segment", *words]) == 0
    assert counted == [6, 6]  # two rounds and one to warm up, of ours and of stock


def test_ours_alone_tells_regions_and_memory(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "segment", "--ours-only", "--points", "4", "--images", str(images)]) == 0
    shown = capsys.readouterr().out
    assert "1 images" in shown
    assert "stock" not in shown


def test_random_weights_get_the_share_that_was_asked_for() -> None:
    bench = Bench(SamModel("tiny-sam"), 6, 1, 0, 0.4)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    bars = bench.bars(image)
    assert bars.stability == 0
    share = float((bench._ious(image) > bars.predicted_iou).float().mean())
    assert 0.2 <= share <= 0.6
    assert Bench(bench.model, 6, 1, 0, None).bars(image) == bench.model.thresholds


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
        (["--drawn", "0"], "--drawn 0: expected 1 or more"),
        (["--share", "0"], "--share 0.0: expected more than 0"),
        (["--device", "cuda:77"], "--device cuda:77: PyTorch sees"),
        (["--device", "hat"], "--device hat: expected cpu, cuda"),
        (["--precision", "float16"], "precision float16: a CPU is no faster"),
        (["--weights", "no-such-bundle"], "no such model bundle"),
        (["--images", "no-such-folder"], "no-such-folder"),
    ],
)
def test_what_cannot_be_timed_is_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "segment", "--repeats", "1", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_without_images_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "segment", "--images", str(tmp_path)]) == 2
    assert "there is no image" in capsys.readouterr().err


def test_the_best_of_all_counts_whatever_the_order_and_the_number() -> None:
    one, other, dented = _square(0, 0, 20), _square(10, 0, 20), _square(0, 0, 20, hole=6)
    assert best_ious([other, dented, one], [one]) == [1.0]
    assert best_ious([other, dented], [one]) == [pytest.approx(1 - 36 / 400)]
    assert best_ious([dented], [one, one]) == [pytest.approx(0.91)] * 2
    assert best_ious([_square(50, 50, 5)], [one]) == [0.0]
    assert best_ious([], [one]) == [0.0]
    assert best_ious([one], []) == []


def test_masks_of_the_same_prompt_are_compared_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [Region((0, 0, 9, 9), np.ones((10, 10), dtype=bool), prompt=f"point {i},0") for i in range(30)]
    compared = []
    original = segment_parity._iou

    def counted(one: Region, other: Region) -> float:
        compared.append(other.prompt.name)
        return original(one, other)

    monkeypatch.setattr(segment_parity, "_iou", counted)
    assert best_ious(asked, [asked[17]]) == [1.0]
    assert compared == ["point 17,0"]


@pytest.mark.parametrize(
    ("ious", "passed"),
    [
        ([1.0] * 97 + [0.5] * 3, True),
        ([1.0] * 96 + [0.899] * 4, False),  # too few
        ([0.97] * 100, False),  # each near enough, together not
        ([0.9] * 20 + [1.0] * 80, True),
        ([1.0] * 97 + [0.0] * 3, False),
    ],
)
def test_the_gate_of_low_precision(ious: list[float], passed: bool) -> None:
    gate = LowPrecisionGate(tuple(ious))
    assert gate.passed is passed
    assert ("passed" if passed else "FAILED") in gate.sentence()
    assert f"{gate.matched}/100 stock masks" in gate.sentence()


def test_nothing_to_compare_is_no_pass() -> None:
    with pytest.raises(ValueError, match="no mask"):
        LowPrecisionGate(())


def _low(images: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(runtime, "_fast_bf16", lambda: True)
    options = ["--precision", "bfloat16", "--points", "4", "--repeats", "1", "--images", str(images)]
    return main(["bench", "segment", *options, *words])


@pytest.mark.parametrize(
    ("parity", "same"),
    [
        ({"masks": 3, "stock masks": 3, "share matched": 1.0}, True),
        ({"masks": 3, "stock masks": 3, "share matched": 0.99}, False),
        ({"masks": 4, "stock masks": 3, "share matched": 1.0}, False),
        ({"largest difference": 1e-3, "cosine": 1.0}, True),
        ({"largest difference": 2e-3, "cosine": 1.0}, False),
        ({"masks": 24, "stock masks": 24, "identical run lengths": 24}, True),
        ({"masks": 24, "stock masks": 24, "identical run lengths": 23}, False),
        (
            {
                "masks": 24,
                "stock masks": 24,
                "identical run lengths": 23,
                "identical to stock on two threads": 24,
            },
            True,
        ),
    ],
)
def test_float32_is_held_to_the_results_of_stock(parity: dict[str, float], same: bool) -> None:
    assert is_stock_result(parity) is same


def test_masks_that_are_not_stocks_are_an_error(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(segment_parts, "matched_share", lambda *_: 0.5)
    assert main(["bench", "segment", "--points", "4", "--repeats", "1", "--images", str(images)]) == 1
    assert "not stock's results: masks 96x90" in capsys.readouterr().out


def test_16_bits_without_a_stock_mask_are_not_called_good(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(segment_parts, "best_ious", lambda *_: [])
    assert _low(images, monkeypatch) == 0
    assert "low precision not judged" in capsys.readouterr().out


def test_16_bits_are_held_to_their_own_gate(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _low(images, monkeypatch, "--json", str(tmp_path / "low.json")) == 0
    assert "low precision passed: " in capsys.readouterr().out
    document = json.loads((tmp_path / "low.json").read_text())
    gate = document["results"]["gate"]
    assert gate["passed"]
    assert gate["matched"] == gate["masks"] == document["results"]["parts"][0]["parity"]["stock masks"] > 0
    assert 0.98 <= gate["mean_iou"] <= 1
    assert document["settings"]["precision"] == "bfloat16"


def test_masks_that_moved_too_far_are_an_error(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounded = ForwardPasses._rounded

    def spoilt(passes: ForwardPasses) -> list[Products]:
        products = rounded(passes)
        if passes.precision != "float32":
            products[0].mlp.lin1.weight.data.mul_(4)
        return products

    monkeypatch.setattr(ForwardPasses, "_rounded", spoilt)
    assert _low(images, monkeypatch) == 1
    assert "low precision FAILED: " in capsys.readouterr().out


def test_compiling_is_timed_apart(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        calls.append(function.__name__)
        return function

    monkeypatch.setattr(runtime, "compile_once", counted)
    words = ["--compile", "encoder", "--points", "3", "--repeats", "1", "--images", str(images)]
    assert main(["bench", "segment", *words, "--json", str(tmp_path / "compiled.json")]) == 0
    assert "the first image took" in capsys.readouterr().out
    assert set(calls) == {"encode_image"}
    assert json.loads((tmp_path / "compiled.json").read_text())["results"]["first_image_s"] > 0


def test_a_gpu_is_judged_by_the_clock() -> None:
    times = {"ours": Timing((1.0,), (3.0,)), "stock": Timing((8.0,), (6.0,))}
    assert Part("masks", times, {}).ratio == 2
    assert Part("masks", times, {}, on_gpu=True).ratio == 8


def test_random_weights_in_16_bits_have_the_bar_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_fast_bf16", lambda: True)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    torch.manual_seed(0)
    exact = Bench(SamModel("tiny-sam"), 4, 1, 0, 0.4)
    low = Bench(SamModel("tiny-sam", precision="bfloat16"), 4, 1, 0, 0.4)
    low.model.sam.load_state_dict(exact.model.sam.state_dict())
    assert low.bars(image) == exact.bars(image)
    assert low.model.passes.precision == "bfloat16"


def test_the_command_offers_what_the_model_takes() -> None:
    assert get_args(Precision) == bench_segment._PRECISIONS
    assert get_args(Compile) == bench_segment._COMPILED
    assert {"tiny-sam", *bench_segment._OFFICIAL} == set(get_args(Architecture))
