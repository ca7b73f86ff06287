"""Commands over files as users have them: names that are not UTF-8 or long, thin images, results beside scenes."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.images import write_image
from naruto_vision.recognition.writer import SceneLog, SceneWriter
from naruto_vision.records import ImageArray

LATIN = os.fsdecode(b"caf\xe9")
SHADES = {"Koba": 60, "Miru": 200}
FEW_POINTS = "--model.segmenter.init_args.prompter.init_args.points_per_side=4"


def noisy(shade: int, seed: int, height: int = 32, width: int = 32) -> ImageArray:
    noise = np.random.default_rng(seed).integers(-40, 40, (height, width, 3))
    return np.clip(shade + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Class folders, a gallery of them in the usual place, and two scenes; we stand beside them."""
    monkeypatch.chdir(tmp_path)
    rows, images = [], []
    for label, shade in SHADES.items():
        for number in range(3):
            images.append(noisy(shade, len(images)))
            rows.append(GalleryRow(f"{label}/{number}.png", label))
            write_image(tmp_path / "data" / "train" / rows[-1].path, images[-1])
    encoder = ClipEncoder("tiny-clip").eval()
    vectors = embed_images(encoder, images, mirror=True).numpy()
    note = {"encoder": encoder.recipe, "mirror": True, "root": "data/train"}
    Gallery.build(vectors, rows, fingerprint=encoder.fingerprint, note=note).save("runs/gallery")
    for number, shade in enumerate(SHADES.values()):
        scene = np.full((64, 64, 3), 120, np.uint8)
        scene[16:48, 16:48] = noisy(shade, number) // 40 * 40
        write_image(tmp_path / "scenes" / f"s{number}.png", scene)
    return tmp_path


def predict(folder: str, *more: str) -> int:
    quiet = ["--trainer.logger", "false", "--trainer.enable_progress_bar", "false"]
    return main(["predict", folder, FEW_POINTS, *quiet, *more])


def scenes_of(out: Path) -> list[str]:
    return [json.loads(line)["scene"] for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def test_predict_takes_any_name_resumes_and_evaluates(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scenes = place / "scenes"
    for name in (f"{LATIN}.png", "x" * 251 + ".png", "S0.png"):
        shutil.copy(scenes / "s0.png", scenes / name)
    write_image(scenes / "thin.png", noisy(90, 1, 2, 600))
    write_image(scenes / "dot.png", noisy(90, 1, 1, 1))
    (scenes / "a.heic").write_bytes(b"x")
    assert predict("scenes", "--out", "out") == 0
    assert "7 of 7 scenes searched" in (told := capfd.readouterr().err)
    assert "passed over: .heic (not read; convert to JPEG or PNG): 1" in told
    assert set(scenes_of(place / "out")) == {path.name for path in scenes.glob("*.png")}
    run = json.loads((place / "out" / "run.json").read_text(encoding="utf-8"))
    assert run["passed_over"] == {".heic (not read; convert to JPEG or PNG)": {"count": 1, "first": "a.heic"}}
    log = (place / "out" / "predictions.jsonl").read_bytes()
    assert predict("scenes", "--out", "out") == 0
    assert "7 of 7 scenes were already done" in capfd.readouterr().err
    assert (place / "out" / "predictions.jsonl").read_bytes() == log
    truth = {scene: [{"bbox": [0, 0, 31, 31], "label": "Koba "}] for scene in scenes_of(place / "out")}
    (place / "gt.json").write_text(json.dumps(truth))
    assert main(["evaluate", "--gt", "gt.json", "--preds-dir", "out", "--verbose", "--json-out", "e.json"]) == 0
    files = json.loads((place / "e.json").read_text(encoding="utf-8"))["files"]
    assert (files["seen"], files["missing"], files["unknown"], files["refused"]) == (7, [], [], [])
    capfd.readouterr()  # pytest cannot report the bytes of the name


def test_predict_does_not_search_its_own_results(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(place / "data")
    for _ in range(2):
        assert predict(".", "--out", "mine") == 0
        assert len(scenes_of(place / "mine")) == 2
    assert "folder named runs: 1, folder of naruto-vision's own results: 1" in capfd.readouterr().err


def test_predict_of_nothing_readable_is_an_error(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "bad").mkdir()
    (place / "bad" / "a.png").write_bytes(b"x")
    assert predict("bad", "--out", "out") == 2
    assert "bad/a.png: not an image" in capfd.readouterr().err
    (place / "bad" / "a.png").rename(place / "bad" / "a.heic")
    assert predict("bad", "--out", "out") == 2
    assert ".heic (not read; convert to JPEG or PNG): 1" in capfd.readouterr().err


@pytest.mark.parametrize("then", ["removed", "replaced"])
def test_a_log_that_is_gone_in_the_middle_is_an_error(tmp_path: Path, then: str) -> None:
    log = SceneLog(tmp_path / "out" / "predictions.jsonl")
    log.append("{}\n")
    shutil.rmtree(tmp_path / "out")
    if then == "replaced":
        SceneLog(tmp_path / "out" / "predictions.jsonl")
    with pytest.raises(InputError, match=r"predictions\.jsonl: was removed or replaced during the run"):
        log.append("{}\n")


@pytest.mark.parametrize("command", ["test", "validate"])
def test_truth_of_names_that_the_gallery_lacks(place: Path, capfd: pytest.CaptureFixture[str], command: str) -> None:
    (place / "scenes" / "images").mkdir()
    for name in ("s0.png", "s1.png"):
        (place / "scenes" / name).rename(place / "scenes" / "images" / name)
    box = {"bbox": [0, 0, 31, 31]}
    config, folder = ("scenes.yaml", "test") if command == "test" else ("gallery.yaml", "valid")
    options = [command, "--config", config, f"--data.{folder}", "scenes", "--trainer.logger", "false", FEW_POINTS]
    options += ["--model.encoder", "ClipEncoder", "--model.encoder.init_args.model", "tiny-clip"]
    (place / "scenes" / "gt.json").write_text(json.dumps({"s0.png": [{**box, "label": "Kobba"}], "s1.png": []}))
    assert main(options) == 2
    assert "scenes: the gallery has none of the names in the ground truth (Kobba)" in capfd.readouterr().err
    truth = {"s0.png": [{**box, "label": "Kobba"}], "s1.png": [{**box, "label": " Miru"}]}
    (place / "scenes" / "gt.json").write_text(json.dumps(truth))
    assert main(options) == 0
    assert "scenes: not in the gallery: Kobba; the gallery has Koba, Miru" in capfd.readouterr().err


def test_search_and_gallery_add_keep_the_other_images(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "q").mkdir()
    for name, size in {
        "thin.png": (2, 1200),
        "tall.png": (1200, 2),
        "dot.png": (1, 1),
        f"{LATIN}.png": (32, 32),
    }.items():
        write_image(place / "q" / name, noisy(60, 3, *size))
    (place / "q" / "bad.png").write_bytes(b"x")
    (place / "q" / "gone.png").symlink_to("nowhere.png")
    (place / "q" / "notes.txt").write_bytes(b"x")
    assert main(["search", "--image", "q", "--json", "--sheet", "s.png"]) == 0
    told = capfd.readouterr()
    assert json.loads(told.out)["counts"] == {"seen": 6, "ok": 4, "quarantined": 2, "texts": 0}
    assert "q: passed over: .txt (no image): 1" in told.err
    assert main(["gallery", "add", "runs/gallery", "q", "--label", " Zoe\u0308 "]) == 0
    assert "6 images seen = 4 added + 0 already in the gallery + 2 unreadable" in capfd.readouterr().out
    assert main(["gallery", "list", "runs/gallery", "--rows", "--json"]) == 0
    assert "Zo\u00eb" in (out := capfd.readouterr().out)
    assert "caf\\udce9.png" in out
    assert main(["gallery", "remove", "runs/gallery", "--label", "Zoe\u0308"]) == 0


def test_class_data_of_any_name_goes_through_every_command(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = place / "data" / "train" / "Koba"
    shutil.copy(folder / "0.png", folder / f"{LATIN}.png")
    for number in range(3):
        write_image(folder / f"thin{number}.png", noisy(60, number, 2, 500))
    (folder / "notes.txt").write_bytes(b"x")
    assert main(["data", "prepare", "--root", "data", "--out", "m"]) == 0
    assert "train: passed over: .txt (no image): 1" in capfd.readouterr().out
    assert "caf\\udce9.png,Koba" in (place / "m" / "train.csv").read_text(encoding="utf-8")
    stats = json.loads((place / "m" / "stats_train.json").read_text(encoding="utf-8"))
    assert stats["passed_over"] == {".txt (no image)": {"count": 1, "first": "Koba/notes.txt"}}
    assert main(["data", "shard", "m", "--out", "shards"]) == 0
    assert "10 of 10 images are in shards" in capfd.readouterr().out
    assert main(["data", "split", "shards/..", "--reader", "folders", "--out", "x"]) == 2
    assert main(["data", "split", "data", "--out", "parts", "--test", "0.3"]) == 0
    assert main(["data", "audit", "parts", "--out", "audit", "--encoder", "tiny-clip"]) == 0
    assert (place / "audit" / "audit.json").is_file()


def test_a_folder_that_is_removed_in_the_middle_is_an_error(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = SceneWriter.write

    def write(writer: SceneWriter, *values: Any, **options: Any) -> None:
        if writer.done:
            shutil.rmtree(place / "out")
        real(writer, *values, **options)

    monkeypatch.setattr(SceneWriter, "write", write)
    assert predict("scenes", "--out", "out") == 2
    assert "jsonl: was removed or replaced during the run" in capfd.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert predict("scenes", "--out", "out") == 0
    assert len(scenes_of(place / "out")) == 2
