"""``--explain``: a page and JSON for each scene and query, which a later run completes, and nothing else changes."""

import json
import shutil
from pathlib import Path
from typing import Any

import drawn_gallery
import lightning.pytorch as pl
import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from packaged_models import tiny_clip, tiny_sam
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typing_extensions import override

from naruto_vision.callbacks.scenes import SceneWriterCallback
from naruto_vision.cli.main import main
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.io.images import write_image
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.prompts import GridPrompter

SCENES = ("a.png", "b.png", "folder/a.png")


class Middle(Segmenter):
    """Finds the middle of an image."""

    @override
    def __call__(self, image: ImageArray, *_: Any) -> list[Region]:
        return [Region((16, 16, 47, 47), np.ones((32, 32), np.bool_))]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    drawn_gallery.build(folder, tiny_clip())
    (folder / "data" / "kenta" / "0.png").unlink()
    for number, scene in enumerate(SCENES):
        image = np.full((64, 64, 3), 90, np.uint8)
        image[16:48, 16:48] = drawn_gallery.noisy(drawn_gallery.COLOURS["ayame"], number)
        write_image(folder / "scenes" / scene, image)
    return folder


def predict(world: Path, out: Path, *, explain: bool = True, logs: Path | None = None) -> None:
    segmenter = Middle(GridPrompter(2), tiny_sam())
    module = SceneRetriever(tiny_clip(), segmenter, gallery=str(world / "runs" / "gallery"))
    quiet: dict[str, Any] = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    logger = TensorBoardLogger(str(logs), name="scenes") if logs else False
    writer = SceneWriterCallback(str(out), explain=explain)
    trainer = pl.Trainer(accelerator="cpu", callbacks=[writer], logger=logger, **quiet)
    trainer.predict(module, datamodule=GalleryDataModule(predict=str(world / "scenes"), num_workers=0, batch_size=2))


def files(out: Path) -> dict[str, bytes]:
    differ = {"run.json", "timings.jsonl"}
    found = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name not in differ]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found}


def test_each_scene_has_a_page_and_json_and_all_else_stays_as_it_is(world: Path, tmp_path: Path) -> None:
    predict(world, tmp_path / "plain", explain=False)
    predict(world, tmp_path / "out", logs=tmp_path / "logs")
    plain, found = files(tmp_path / "plain"), files(tmp_path / "out")
    pages = {f"explained/{Path(scene).with_suffix(end)}" for scene in SCENES for end in (".html", ".json")}
    assert found.keys() - plain.keys() == pages
    assert {name for name in plain if plain[name] != found[name]} == {"index.html"}
    assert found["index.html"].count(b"why these names") == len(SCENES)
    assert b"why these names" not in plain["index.html"]
    (line,) = found["explained/folder/a.json"].splitlines()
    document = json.loads(line)
    assert document["source"] == "folder/a.png"
    (region,) = document["names"]
    assert (region["of"], region["label"]) == (0, "ayame")
    record = json.loads(plain["predictions.jsonl"].splitlines()[2])["regions"][0]
    assert region["score"] == pytest.approx(record["score"], abs=1e-6)
    assert [row["path"] for row in region["neighbours"]] == [row["path"] for row in record["neighbours"]]
    assert np.shape(region["heat"]["values"]) == np.shape(region["matched_heat"]["values"]) == (8, 8)
    missing = [row["path"] for row in region["neighbours"] if not row["found"]]
    assert missing == [row["path"] for row in region["neighbours"] if row["path"] == "kenta/0.png"]
    (events,) = (tmp_path / "logs").rglob("events*")
    images = EventAccumulator(str(events)).Reload().Images("predict/explained")
    assert [image.step for image in images] == [0, 1, 2]


def test_a_later_run_makes_the_pages_that_are_missing(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(world, out, explain=False)
    log = (out / "predictions.jsonl").read_bytes()
    predict(world, out)
    whole = files(out)
    assert sum(name.startswith("explained/") for name in whole) == 2 * len(SCENES)
    (out / "explained/b.html").unlink()
    kept = (out / "explained/a.html").stat().st_mtime_ns
    predict(world, out)
    assert files(out) == whole
    assert (out / "explained/a.html").stat().st_mtime_ns == kept
    assert (out / "predictions.jsonl").read_bytes() == log


def test_the_page_of_a_changed_scene_does_not_stay(world: Path, tmp_path: Path) -> None:
    own = tmp_path / "world"
    shutil.copytree(world, own)
    predict(own, tmp_path / "out")
    write_image(own / "scenes" / "b.png", np.full((64, 64, 3), 200, np.uint8))
    predict(own, tmp_path / "out", explain=False)
    found = files(tmp_path / "out")
    assert "explained/a.html" in found
    assert "explained/b.html" not in found
    assert found["index.html"].count(b"why these names") == len(SCENES) - 1


def test_search_explains_images_and_texts(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    query, page = str(world / "data/ayame/1.png"), tmp_path / "why.html"
    command = ["search", query, "--text", "a girl with red hair", "--gallery", "runs/gallery"]
    assert main([*command, "--explain", str(page)]) == 0
    assert f"why: open {page} in a browser" in capsys.readouterr().out.replace("\n", "")
    image, text = json.loads(page.with_suffix(".json").read_text())["names"]
    assert (image["of"], image["label"], image["neighbours"][0]["path"]) == (query, "ayame", "ayame/1.png")
    assert text["heat"] is None
    assert "texts have no threshold" in text["why"]
    assert page.read_text().count("<article") == 2
    assert main([*command, "--explain", str(tmp_path / "why.txt")]) == 2
    assert "expected a name ending in .html" in capsys.readouterr().err


def test_the_short_option_reaches_the_writer(world: Path, tmp_path: Path) -> None:
    from naruto_vision.cli.trainer import run_cli
    from naruto_vision.cli.trainer_args import expand_argv

    argv = [
        "--config",
        "scenes.yaml",
        "--gallery",
        str(world / "runs/gallery"),
        "--data.predict",
        str(world / "scenes"),
    ]
    cli = run_cli(expand_argv("predict", [*argv, "--out", str(tmp_path / "out"), "--explain"]), run=False)
    (writer,) = [each for each in getattr(cli.trainer, "callbacks", ()) if isinstance(each, SceneWriterCallback)]
    assert writer.explain
