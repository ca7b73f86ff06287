"""``robustness``: rates over severities for labelled images, scenes and the frames of a video."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import naruto_vision as nv
from naruto_vision.cli.main import main
from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.images import write_image
from naruto_vision.metrics.stats import wilson_interval
from naruto_vision.records import ImageArray

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)
COLOURS = {"ayame": (230, 30, 30), "kenta": (30, 30, 230)}


def patch(colour: tuple[int, int, int], seed: int) -> ImageArray:
    noise = np.random.default_rng(seed).integers(-20, 20, (24, 24, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gallery of two colours, and four test images of each beside it."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    ClipEncoder("tiny-clip", "random", sizes=SIZES).save("bundle")
    encoder = ClipEncoder("bundle").eval()
    rows, images = [], []
    for label, colour in COLOURS.items():
        for number in range(4):
            write_image(tmp_path / "data" / "test" / label / f"{number}.png", patch(colour, 100 + number))
            rows.append(GalleryRow(f"{label}/{number}.png", label))
            images.append(patch(colour, number))
    vectors = embed_images(encoder, images, mirror=True).numpy()
    note = {"encoder": encoder.recipe, "mirror": True}
    Gallery.build(vectors, rows, fingerprint=encoder.fingerprint, note=note).save("runs/gallery")
    return tmp_path


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "robustness.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_search_gets_a_rate_with_its_interval_at_every_severity(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["robustness", "--root", "data", "--corruptions", "salt-and-pepper", "occlusion", "--out", "out"]) == 0
    rows = rows_of(place / "out")
    kinds = [(row["corruption"], int(row["severity"])) for row in rows]
    assert kinds == [("clean", 0), *((k, s) for k in ("salt-and-pepper", "occlusion") for s in range(1, 6))]
    assert (rows[0]["count"], rows[0]["total"], rows[0]["value"]) == ("8", "8", "1.0")
    assert [float(row["strength"]) for row in rows[1:6]] == [0.02, 0.05, 0.1, 0.2, 0.4]
    for row in rows:
        low, high = wilson_interval(int(row["count"]), int(row["total"]))
        assert (float(row["low"]), float(row["high"])) == (low, high)
    assert len(json.loads((place / "out" / "robustness.json").read_text())) == 11
    assert (place / "out" / "robustness_top-1_accuracy.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "8/8" in shown
    assert ".68-1 " in shown
    assert " salt-and-pepper " in shown  # on one line


def test_results_are_the_same_again_and_a_stopped_run_resumes(place: Path) -> None:
    words = ["robustness", "--root", "data", "--corruptions", "noise", "gamma", "--seed", "4"]
    assert main([*words, "--out", "first"]) == 0
    assert main([*words, "--out", "second"]) == 0
    assert rows_of(place / "first") == rows_of(place / "second")
    (place / "first" / "parts" / "gamma.json").unlink()
    kept = place / "first" / "parts" / "noise.json"
    marked = json.loads(kept.read_text())
    marked[4]["count"] = 1
    kept.write_text(json.dumps(marked))
    assert main([*words, "--out", "first"]) == 0
    assert [row["count"] for row in rows_of(place / "first")][5] == "1"  # not measured again
    assert rows_of(place / "first")[6:] == rows_of(place / "second")[6:]


def test_other_settings_need_another_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["robustness", "--root", "data", "--corruptions", "jpeg", "--out", "out"]
    assert main(words) == 0
    assert main([*words, "--seed", "1"]) == 2
    assert (
        "out: has results of other images, settings or another gallery; give another --out" in capsys.readouterr().err
    )
    assert main([*words, "--corruptions", "jpeg", "blur"]) == 0
    assert {row["corruption"] for row in rows_of(place / "out")} == {"clean", "jpeg", "blur"}


def test_a_bad_image_and_a_class_that_the_gallery_has_not_are_left_out(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "data" / "test" / "kenta" / "bad.png").write_text("no image")
    write_image(place / "data" / "test" / "mira" / "0.png", patch((0, 255, 0), 0))
    assert main(["robustness", "--root", "data", "--corruptions", "jpeg", "--out", "out"]) == 0
    error = capsys.readouterr().err
    assert "bad.png" in error
    assert "left out: images of mira, which runs/gallery has not" in error
    assert rows_of(place / "out")[0]["total"] == "8"


def test_a_sample_is_drawn_by_the_seed(place: Path) -> None:
    for seed, out in (("0", "a"), ("0", "b"), ("1", "c")):
        words = ["--root", "data", "--corruptions", "jpeg", "--limit", "3", "--seed", seed, "--out", out]
        assert main(["robustness", *words]) == 0
    names = [json.loads((place / out / "settings.json").read_text())["names"] for out in "abc"]
    assert [len(each) for each in names] == [3, 3, 3]
    assert names[0] == names[1] != names[2]


def test_one_source_is_needed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--root", "data", "--video", "x.mp4"]):
        assert main(["robustness", *words]) == 2
        assert "expected one of --root, --scenes and --video" in capsys.readouterr().err
    assert main(["robustness", "--root", "data", "--gallery", str(place)]) == 2
    assert "no gallery here" in capsys.readouterr().err


def test_frames_of_a_video_are_compared_with_what_the_clean_frame_gets(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")
    from naruto_vision.io.video import VideoFrame, VideoWriter

    with VideoWriter(place / "clip.mp4", 8, (48, 48)) as video:
        for number in range(16):
            video.write(np.repeat(np.repeat(patch(COLOURS["ayame" if number < 9 else "kenta"], number), 2, 0), 2, 1))
    words = ["--video", "clip.mp4", "--fps", "8", "--corruptions", "salt-and-pepper", "--out", "out"]
    assert main(["robustness", *words]) == 0
    rows = rows_of(place / "out")
    assert {row["measure"] for row in rows} == {"agreement with the clean frame"}
    assert (rows[0]["count"], rows[0]["total"]) == ("16", "16")
    decoded = []
    monkeypatch.setattr(
        "naruto_vision.io.video_process.VideoFrame", lambda *frame: decoded.append(frame) or VideoFrame(*frame)
    )
    assert main(["robustness", *words[:-1], "few", "--limit", "3"]) == 0
    assert rows_of(place / "few")[0]["total"] == "3"
    assert len(decoded) == 9  # the chosen ones alone: to name, clean, and corrupted


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_scenes_get_recall_and_object_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["draw", "--out", "data", "--train", "4", "--valid", "1", "--test", "1", "--scenes", "2"]) == 0
    assert main(["fit", "--config", "gallery.yaml", "--data.root", "data"]) == 0
    words = ["--scenes", "data/scenes/test", "--corruptions", "salt-and-pepper", "--out", "out"]
    assert main(["robustness", *words]) == 0
    rows = rows_of(tmp_path / "out")
    assert [row["measure"] for row in rows] == ["object accuracy", "recall"] * 6
    assert (tmp_path / "out" / "robustness_recall.png").exists()
    assert main(["predict", "data/scenes/test"]) == 0
    report = nv.evaluate("data/scenes/test/gt.json", "runs/scenes").report
    clean = [(rate.count, rate.total) for rate in (report.object_accuracy, report.recall)]
    assert [(int(row["count"]), int(row["total"])) for row in rows[:2]] == clean
