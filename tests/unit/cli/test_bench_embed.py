import json
from pathlib import Path

import pytest
from torch import Tensor, nn

from naruto_vision.cli.bench_embed import BASELINE, INTEGERS, OURS
from naruto_vision.cli.main import main
from naruto_vision.encoders.class_token import clip_class_token
from naruto_vision.io.machine import cpu_features

SMALL = ["bench", "embed", "--encoder", "tiny-clip", "--size", "96", "--masks", "5", "--repeats", "2"]


def test_masks_are_embedded_in_each_way_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--int8"] if cpu_features()["VNNI"] else []
    assert main([*SMALL, *more, "--mirror", "--json", str(tmp_path / "embed.json")]) == 0
    shown = capsys.readouterr().out
    assert "5 masks of one image" in shown
    assert "GFLOP/s on" in shown
    report = json.loads((tmp_path / "embed.json").read_text())
    ways = report["results"]["ways"]
    assert list(ways) == [BASELINE, OURS, *([INTEGERS] if more else [])]
    assert report["settings"]["masks"] == 5
    assert report["results"]["gemm_gflops"] > 0
    assert ways[BASELINE]["times_as_fast"] == 1.0
    assert ways[OURS]["least_cosine"] >= 0.999
    assert all(way["least_cosine"] >= 0.99 and way["repeats"] == 2 for way in ways.values())


def test_the_baseline_runs_open_clips_own_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []

    def noted(tower: nn.Module, pixels: Tensor) -> Tensor | None:
        batches.append(len(pixels))
        return clip_class_token(tower, pixels)

    monkeypatch.setattr("naruto_vision.encoders.clip.clip_class_token", noted)
    assert main([*SMALL, "--repeats", "1"]) == 0
    assert batches == [5, 5]  # ours alone, to warm up and timed


def test_masks_and_scene_come_from_the_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main([*SMALL, "--repeats", "1", "--json", str(tmp_path / name)]) == 0
    first, second = (json.loads((tmp_path / name).read_text())["results"]["ways"][OURS] for name in ("a", "b"))
    assert first["least_cosine"] == second["least_cosine"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--masks", "0"], "--masks 0: expected 1 or more"),
        (["--size", "10"], "--size 10: expected 64 or more"),
        (["--batch", "0"], "--batch 0: expected 1 or more"),
        (["--encoder", "ViT-Q-99"], "no such model bundle"),
        (["--device", "nonsense"], "--device nonsense: "),
    ],
)
def test_what_cannot_be_timed_is_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, *words]) == 2
    assert told in capsys.readouterr().err
