"""The tab Automatic: the same files as the commands write, and what the page is told meanwhile."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import write_image
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene
from naruto_vision.ui.engine import CancelledError
from naruto_vision.ui.models import Models
from naruto_vision.ui.settings import (
    AutomaticSettings,
    ExemplarSettings,
    GridSettings,
    SaliencySettings,
    SweepSettings,
    TextSettings,
)
from naruto_vision.ui.tasks import automatic

TIMES = ("timings.jsonl", "run.json")
GRID = ("--grid", "5x4", "--max-contours", "0")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models({}, ("tiny-sam",), "faiss:none", str(tmp_path_factory.mktemp("notes") / "segmented.jsonl"))


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image of two figures, as the command finds it and as an upload is stored."""
    monkeypatch.chdir(tmp_path)
    drawn = draw_scene(2, read_cast(config_path("cast.yaml")), size=96, difficulty="easy").image
    write_image(tmp_path / "in" / "a.png", drawn)
    (tmp_path / "stored.png").write_bytes((tmp_path / "in" / "a.png").read_bytes())
    return tmp_path / "stored.png"


def run(
    models: Models, scene: Path, settings: AutomaticSettings, *, describe: bool = False, gallery: str = ""
) -> list[dict[str, Any]]:
    news: list[dict[str, Any]] = []

    def step(done: int, total: int, what: Any = None) -> None:
        assert 0 <= done <= total
        news.append(what)

    automatic.segment(
        models, step, path=str(scene), name="a.png", weights="", settings=settings.check(), gallery=gallery,
        describe=describe, out=str(scene.parent / "page"),
    )  # fmt: skip
    return news


def files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def assert_same(own: Path, other: Path) -> None:
    found, expected = files(own), files(other)
    assert sorted(found) == sorted(expected)
    assert [name for name in found if found[name] != expected[name] and name not in (*TIMES, "describe.json")] == []
    documents = [json.loads(each["run.json"]) for each in (found, expected)]
    for each in documents:
        each["identity"].pop("images", None)
    assert documents[0]["identity"] == documents[1]["identity"]
    assert documents[0]["counts"] == documents[1]["counts"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (SaliencySettings(), ["saliency"]),
        (
            SaliencySettings("many-small", num_objects=3, threshold=0.55, min_area=20, prompt_type="box"),
            ["saliency", "--preset", "many-small", "--num-objects", "3", "--threshold", "0.55", "--min-area", "20",
             "--prompt-type", "box"],
        ),
        (
            SweepSettings(columns=4, rows=3, points=((30, 40), (60, 50)), predicted_iou=0.3, order="centre"),
            ["sweep", "--grid", "4x3", "--point", "30,40", "--point", "60,50", "--predicted-iou", "0.3", "--order",
             "centre"],
        ),
        (
            SweepSettings("subtract", 3, 3, min_area=20, saliency=True),
            ["sweep", "--mode", "subtract", "--grid", "3x3", "--min-area", "20", "--saliency"],
        ),
        (GridSettings(6, 30), ["grid", "--points-per-side", "6", "--min-area", "30"]),
        (
            TextSettings(("a girl with pink hair", "a sword"), 0.4, 3),
            ["text", "--text", "a girl with pink hair", "a sword", "--similarity", "0.4", "--num-objects", "3"],
        ),
    ],
)  # fmt: skip
def test_the_files_are_those_of_the_command(
    models: Models, scene: Path, settings: AutomaticSettings, words: list[str]
) -> None:
    news = run(models, scene, settings)
    assert main(["segment", words[0], "in/a.png", *words[1:], "--out", "command"]) == 0
    assert_same(scene.parent / "page", scene.parent / "command")
    (shown,) = [each for each in news if each and "regions" in each]
    (line,) = (scene.parent / "command" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [each["bbox"] for each in shown["regions"]] == [each["bbox"] for each in json.loads(line)["regions"]]
    assert all(each["path"].startswith("M") and each["colour"].startswith("#") for each in shown["regions"])


def test_regions_are_described_one_by_one_with_the_files_of_describe(models: Models, scene: Path) -> None:
    news = run(models, scene, SweepSettings(columns=4, rows=3), describe=True)
    assert main(["segment", "sweep", "in/a.png", "--grid", "4x3", "--out", "command"]) == 0
    assert main(["describe", "command", "--images", "in"]) == 0
    assert_same(scene.parent / "page", scene.parent / "command")
    where = next(number for number, each in enumerate(news) if "regions" in each)
    count = len(news[where]["regions"])
    told = [each for each in news[where + 1 :] if "description" in each]
    assert [each["index"] for each in told] == [*range(count), *range(count)]  # while they are made, and at last
    (line,) = (scene.parent / "command" / "descriptions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [each["description"] for each in told[count:]] == [
        each["description"] for each in json.loads(line)["regions"]
    ]
    assert any(each["description"] for each in told)
    report = (scene.parent / "page" / "texts" / "a_analysis_report.txt").read_text(encoding="utf-8")
    assert news[-1]["relations"]
    assert all(each in report for each in news[-1]["relations"])


def test_exemplars_are_those_of_a_gallery(models: Models, scene: Path) -> None:
    gallery = _gallery(scene)
    run(models, scene, ExemplarSettings("g", ("ann",), similarity=0.4), gallery=gallery)
    words = ["segment", "exemplar", "in/a.png", "--gallery", gallery, "--label", "ann", "--similarity", "0.4"]
    assert main([*words, "--out", "command"]) == 0
    assert_same(scene.parent / "page", scene.parent / "command")


def _gallery(scene: Path) -> str:
    cast, rows = read_cast(config_path("cast.yaml")), []
    for number, label in enumerate(("ann", "bob")):
        image = draw_scene(number, cast, size=64, difficulty="easy").image
        write_image(scene.parent / "faces" / label / "0.png", image)
        rows.append(GalleryRow(f"{label}/0.png", label))
    note = {"root": str(scene.parent / "faces")}
    folder = scene.parent / "gallery"
    Gallery.build(np.eye(2, dtype=np.float32), rows, fingerprint="0" * 64, note=note).save(folder)
    return str(folder)


def test_a_sweep_is_cancelled_between_two_batches_of_points(models: Models, scene: Path) -> None:
    calls = 0

    def step(_done: int, _total: int, _news: Any = None) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise CancelledError

    with pytest.raises(CancelledError):
        automatic.segment(
            models, step, path=str(scene), name="a.png", weights="", settings=SweepSettings(), gallery="",
            describe=True, out=str(scene.parent / "page"),
        )  # fmt: skip
    assert calls == 3


def test_an_image_that_cannot_be_used_is_an_error(models: Models, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(InputError, match=r"broken\.png"):
        run(models, tmp_path / "broken.png", SaliencySettings())


def test_a_network_is_opened_once(models: Models, scene: Path) -> None:
    run(models, scene, SaliencySettings())
    opened = [value for key, value in models.kept.items() if key[0] == "saliency"]
    assert len(opened) == 1
    (scene.parent / "page").rename(scene.parent / "first")
    run(models, scene, SweepSettings(columns=2, rows=2, saliency=True))
    assert [value for key, value in models.kept.items() if key[0] == "saliency"] == opened


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (SaliencySettings(threshold=1.5), "threshold: expected a number from 0 to 1, found 1.5"),
        (SaliencySettings("../../etc/passwd"), "preset: expected one of general"),
        (SweepSettings(columns=900), "columns: expected a number from 1 to 64"),
        (SweepSettings(points=((1, 1),) * 101), "points: expected at most 100"),
        (GridSettings(0), "points_per_side"),
        (TextSettings(()), "texts: expected 1 to 20"),
    ],
)
def test_settings_out_of_range_are_refused(models: Models, scene: Path, settings: AutomaticSettings, said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(models, scene, settings)
