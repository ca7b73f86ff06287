"""Several processes of one run, on one host or more: the same files and metrics as one process."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cluster import ENCODER, QUIET, draw, run_ranks
from torch import distributed

from naruto_vision.cli.main import main
from naruto_vision.cli.trainer import run_cli
from naruto_vision.cli.trainer_args import expand_argv
from naruto_vision.io.images import write_image

VOLATILE = {"run.json", "timings.jsonl", "config.yaml"}  # times, and paths of the run
FEW_POINTS = "--model.segmenter.init_args.prompter.init_args.points_per_side=3"
MOST = 40


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw a cast and scenes, and build the gallery in one process."""
    root = tmp_path_factory.mktemp("drawn")
    draw(root, side=64, train=2, valid=1, scenes=MOST, valid_scenes=3)
    assert main(enrolment(root, root / "gallery")) == 0
    return root


def enrolment(root: Path, gallery: Path) -> list[str]:
    data = ["--data.root", str(root / "data"), "--data.valid", str(root / "data" / "scenes" / "valid")]
    options = [*ENCODER, *QUIET, FEW_POINTS, "--gallery", str(gallery), "--trainer.callbacks", "[]"]
    return ["fit", "--config", "gallery.yaml", *data, *options]


def prediction(gallery: str | Path, scenes: str | Path, out: str | Path = "out") -> list[str]:
    return ["predict", str(scenes), "--gallery", str(gallery), "--out", str(out), *ENCODER, *QUIET, FEW_POINTS]


def some_scenes(root: Path, count: int, folder: Path) -> Path:
    """Copy the first scenes, with their ground truth."""
    source = root / "data" / "scenes" / "test"
    truth = json.loads((source / "gt.json").read_text())
    names = sorted(truth)[:count]
    (folder / "images").mkdir(parents=True)
    for name in names:
        shutil.copy(source / "images" / name, folder / "images" / name)
    (folder / "gt.json").write_text(json.dumps({name: truth[name] for name in names}))
    return folder


def contents(out: Path) -> dict[str, bytes]:
    files = (file for file in out.rglob("*") if file.is_file() and file.name not in VOLATILE)
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


def scenes_of(log: Path) -> list[str]:
    return [json.loads(line)["scene"] for line in log.read_text().splitlines()]


FULL = [pytest.param(world, count, marks=pytest.mark.slow) for world in (2, 3, 4) for count in (0, 1, 3, 7, MOST)]


@pytest.mark.parametrize(("world", "count"), [pytest.param(2, 3), *FULL])
def test_files_and_results_are_those_of_one_process(drawn: Path, tmp_path: Path, world: int, count: int) -> None:
    scenes = some_scenes(drawn, count, tmp_path / "scenes")
    measure = ["test", "--config", "scenes.yaml", "--data.test", str(scenes), "--gallery", str(drawn / "gallery")]
    measure += [*ENCODER, *QUIET, FEW_POINTS, "--out"]
    expected = [
        main([*prediction(drawn / "gallery", scenes), "--out", str(tmp_path / "one")]),
        main([*measure, str(tmp_path / "one-test")]),
    ]
    found = [
        run_ranks(world, tmp_path, prediction(drawn / "gallery", scenes)),
        run_ranks(world, tmp_path, [*measure, "out-test"]),
    ]
    assert found == [[code] * world for code in expected]
    assert expected == ([0, 0] if count else [2, 2])
    assert contents(tmp_path / "out") == contents(tmp_path / "one")
    assert contents(tmp_path / "out-test") == contents(tmp_path / "one-test")
    if count:
        logs = [scenes_of(tmp_path / "out" / name) for name in ("predictions.jsonl", "timings.jsonl")]
        assert [len(logs[0]), logs[1]] == [count, logs[0]]
        counts = [json.loads((tmp_path / name / "run.json").read_text())["counts"] for name in ("out", "one")]
        assert counts[0] == counts[1]


@pytest.mark.parametrize("world", [2, *(pytest.param(world, marks=pytest.mark.slow) for world in (3, 4))])
def test_the_gallery_is_that_of_one_process(drawn: Path, tmp_path: Path, world: int) -> None:
    argv = enrolment(drawn, tmp_path / "gallery")
    assert run_ranks(world, tmp_path, lambda _: main(argv) or distributed.is_initialized()) == [0] * world
    ours, theirs = contents(tmp_path / "gallery"), contents(drawn / "gallery")
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name] != theirs[name]} <= {"ledger.jsonl"}  # times


def test_hosts_with_folders_of_their_own_write_together_what_one_does(drawn: Path, tmp_path: Path) -> None:
    scenes = some_scenes(drawn, 3, tmp_path / "scenes")
    assert main([*prediction(drawn / "gallery", scenes / "images"), "--out", str(tmp_path / "one")]) == 0
    hosts = [tmp_path / name for name in "ab"]
    for host in hosts:
        shutil.copytree(scenes, host / "scenes")
        shutil.copytree(drawn / "gallery", host / "gallery")
    assert run_ranks(2, hosts, prediction("gallery", "scenes/images")) == [0, 0]
    one, first, second = (contents(folder) for folder in (tmp_path / "one", hosts[0] / "out", hosts[1] / "out"))
    assert first["predictions.jsonl"] == one["predictions.jsonl"]
    assert first["coco.json"] == one["coco.json"]
    assert len(scenes_of(hosts[1] / "out" / "predictions.jsonl")) == 1
    together = second | first
    assert together.keys() == one.keys()
    assert {name for name in one if together[name] != one[name]} <= {"index.html"}
    assert not set(first).intersection(second) - {"predictions.jsonl", "drift.jsonl", "coco.json", "index.html"}
    before = {file: file.stat().st_mtime_ns for host in hosts for file in (host / "out" / "json").iterdir()}
    assert run_ranks(2, hosts[::-1], prediction("gallery", "scenes/images")) == [0, 0]  # ranks change places
    assert contents(hosts[1] / "out")["predictions.jsonl"] == one["predictions.jsonl"]
    assert {file: file.stat().st_mtime_ns for host in hosts for file in (host / "out" / "json").iterdir()} == before


def _line(log: Path) -> str:
    lines = [line for line in log.read_text().splitlines() if "error" in line]
    assert len(lines) == 1
    return lines[0]


def test_processes_that_see_different_things_end_in_one_line(drawn: Path, tmp_path: Path) -> None:
    scenes = some_scenes(drawn, 3, tmp_path / "a" / "scenes")
    hosts = [tmp_path / name for name in "ab"]
    shutil.copytree(scenes, hosts[1] / "scenes")
    sorted((hosts[1] / "scenes" / "images").iterdir())[1].unlink()
    for host in hosts:
        shutil.copytree(drawn / "gallery", host / "gallery")
    assert run_ranks(2, hosts, prediction("gallery", "scenes/images")) == [2, 2]
    for rank, host in enumerate(hosts):
        line = _line(host / f"rank{rank}.log")
        assert line.startswith("naruto-vision: error: scenes/images: rank 0 on ")
        assert "scene_00001" in line
        assert line.endswith("every host needs the same images")
        (host / f"rank{rank}.log").unlink()
    assert run_ranks(2, hosts, enrolment(drawn, Path("runs/gallery"))) == [2, 2]
    assert "do not see the same folder" in _line(hosts[1] / "rank1.log")
    assert not (hosts[0] / "runs" / "gallery").exists()
    (hosts[0] / "rank0.log").unlink()
    options = [prediction("gallery", "scenes/images"), [*prediction("gallery", "scenes/images"), "--fps", "2"]]
    assert run_ranks(2, hosts[0], lambda rank: main(options[rank])) == [2, 2]
    assert "options: rank 0 on " in _line(hosts[0] / "rank0.log")
    assert "data.init_args.fps 2.0" in _line(hosts[0] / "rank1.log")


def _figures(root: Path, out: Path) -> Callable[[int], int]:
    """Return what tests a CLIP and writes its metrics down."""
    argv = ["test", "--config", "clip.yaml", "--data.root", str(root), "--data.batch_size", "3", *QUIET, *ENCODER]

    def measure(rank: int) -> int:
        model = run_cli(expand_argv(argv[0], argv[1:])).model
        (out / f"{rank}.json").write_text(json.dumps(None if model.figures is None else dict(model.figures.named)))
        return 0

    return measure


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_metrics_of_images_are_those_of_one_process(tmp_path: Path, world: int, count: int) -> None:
    for split, number in (("train", 2), ("valid", 1), ("test", count)):
        for index in range(number):
            for label in ("Ada", "Bo") if split != "test" else ("Ada",):
                noise = np.random.default_rng([len(split), len(label), index])
                image = noise.integers(0, 256, (32, 32, 3)).astype(np.uint8)
                write_image(tmp_path / "data" / split / label / f"{index}.png", image)
    for name in ("one", "several"):
        (tmp_path / name).mkdir()
    assert _figures(tmp_path / "data", tmp_path / "one")(0) == 0
    assert run_ranks(world, tmp_path, _figures(tmp_path / "data", tmp_path / "several")) == [0] * world
    expected = json.loads((tmp_path / "one" / "0.json").read_text())
    assert expected
    for rank in range(world):
        found = json.loads((tmp_path / "several" / f"{rank}.json").read_text())
        assert found == pytest.approx(expected, rel=0, abs=1e-12, nan_ok=True)
