"""``bench train``: the same losses in every way, and the report."""

import json
from pathlib import Path

import pytest

from naruto_vision.cli.bench_train import CAPTIONS, FIT, PLAIN
from naruto_vision.cli.main import main
from naruto_vision.io.bundles import config_path
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.dataset import WorldPlan, write_world

SMALL = ["bench", "train", "--repeats", "1", "--steps", "2", "--fit=--data.batch_size=8"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "world"
    plan = WorldPlan(train=4, valid=1, test=1, scenes=0, valid_scenes=0, picture_size=64)
    write_world(folder, read_cast(config_path("cast.yaml")), plan)
    return folder


def test_fit_and_plain_torch_go_through_the_same_losses(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, "--data", str(root), "--captions", "--json", "train.json"]) == 0
    shown = capsys.readouterr().out
    assert "2 steps a run, 1 rounds" in shown
    assert "GFLOP/s" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["train.json"]  # no logs, no bundle
    report = json.loads((tmp_path / "train.json").read_text())
    ways = report["results"]["ways"]
    assert list(ways) == [PLAIN, FIT, CAPTIONS]
    assert ways[PLAIN]["ratio"] == 1.0
    assert ways[FIT]["losses"] == ways[PLAIN]["losses"]
    assert ways[FIT]["losses_equal"] == 2
    assert ways[CAPTIONS]["loss_difference"] <= 1e-5
    assert ways[PLAIN]["losses"][0] != ways[PLAIN]["losses"][1]
    assert all(way["repeats"] == 1 and way["ms_per_step"] > 0 for way in ways.values())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--steps", "0"], "--steps 0: expected 1 or more"),
        (["--steps", "99"], "--steps 99: an epoch of these data has"),
        (["--config", "sam.yaml"], "Option 'root' is not accepted"),
        (["--fit=--trainer.precision=64-true"], "precision 64-true: the plain loop knows 32-true"),
        (["--config", "nothing.yaml"], "nothing.yaml"),
        (["--fit=--model.freeze.towers=text", "--captions"], "--captions: a frozen text tower"),
        (["--fit=--nonsense=1"], "nonsense"),
    ],
)
def test_what_cannot_be_compared_is_told(
    words: list[str], told: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--data", str(root), *words]) == 2
    assert told in capsys.readouterr().err
