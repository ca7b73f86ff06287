import json
import re
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.errors import FormatError, InputError
from naruto_vision.io.images import read_image
from naruto_vision.recognition.writer import SceneWriter, output_stems
from naruto_vision.records import Identity, ImageArray, Neighbour, Region, ScenePrediction
from naruto_vision.segmentation.crops import CropConfig

SCENES = ["a.png", "sub/a.png", "sub/b.png"]


def image(seed: int) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def prediction(scene: str) -> ScenePrediction:
    mask = np.ones((20, 15), dtype=np.bool_)
    mask[0, 0] = False
    mask[0, 1:] = True
    regions = (Region((5, 6, 19, 25), mask, prompt="point 9,9"), Region((30, 6, 44, 25), mask))
    identities = (
        Identity("Ao/Ki", 0.91, neighbours=(Neighbour(3, "Ao/Ki", 0.91, "p.jpg"),)),
        Identity("Ren", 0.3, known=False),
    )
    return ScenePrediction(scene, 64, 48, regions, identities, {"segment": 12.5})


def open_writer(out: Path, **identity: str) -> SceneWriter:
    return SceneWriter(out, SCENES, ["Ao/Ki", "Ren"], identity, crop=CropConfig())


def contents(out: Path) -> dict[str, bytes]:
    volatile = {"run.json", "timings.jsonl"}
    return {
        file.relative_to(out).as_posix(): file.read_bytes()
        for file in out.rglob("*")
        if file.is_file() and file.name not in volatile
    }


def write_all(writer: SceneWriter, scenes: list[str]) -> None:
    for seed, scene in enumerate(SCENES):
        if scene in scenes and scene not in writer.done:
            writer.write(image(seed), prediction(scene))
    writer.close()


def test_every_output_is_there_and_keeps_the_scene_s_folder(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    write_all(writer, SCENES)
    run = writer.finish([("bad.png", "empty")], {})
    assert set(contents(tmp_path)) == {
        "predictions.jsonl",
        "drift.jsonl",
        "index.html",
        "coco.json",
        *(f"json/{stem}{end}" for stem in ("a", "sub/a", "sub/b") for end in (".json", "_overlay.json")),
        *(f"overlay/{stem}_overlay.jpg" for stem in ("a", "sub/a", "sub/b")),
        *(f"{stem}_crops/seg_00_Ao_Ki_0.91.jpg" for stem in ("a", "sub/a", "sub/b")),
        *(f"{stem}_crops/seg_01_unknown_0.30.jpg" for stem in ("a", "sub/a", "sub/b")),
    }
    assert run["counts"] == {"seen": 4, "ok": 3, "quarantined": 1, "regions": 6, "shown": 6, "named": 3}
    assert run["latency_ms"]["segment"] == {"p50": 12.5, "p95": 12.5, "p99": 12.5, "scenes": 3}
    assert read_image(tmp_path / "overlay/sub/a_overlay.jpg").shape == (48, 64, 3)


def test_the_evaluation_document_is_unfiltered_and_the_overlay_says_unknown(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    write_all(writer, ["a.png"])
    evaluation = json.loads((tmp_path / "json/a.json").read_text())
    assert evaluation["scene"] == "a.png"
    assert evaluation["preds"][1] == {"bbox": [30, 6, 44, 25], "label": "Ren", "score": 0.3}
    overlay = json.loads((tmp_path / "json/a_overlay.json").read_text())
    assert [pred["label"] for pred in overlay["preds"]] == ["Ao/Ki", "unknown"]


def test_a_run_cut_off_after_any_scene_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    whole = open_writer(tmp_path / "whole")
    write_all(whole, SCENES)
    whole.finish([], {})
    for cut in range(len(SCENES)):
        out = tmp_path / f"cut{cut}"
        write_all(open_writer(out), SCENES[:cut])
        with (out / "predictions.jsonl").open("a") as handle:
            handle.write('{"scene": "torn')
        (out / "json").mkdir(exist_ok=True)
        again = open_writer(out)
        assert again.done == set(SCENES[:cut])
        write_all(again, SCENES)
        again.finish([], {})
        assert contents(out) == contents(tmp_path / "whole")


def test_a_folder_whose_run_ended_before_its_first_scene_is_free_for_another_run(tmp_path: Path) -> None:
    open_writer(tmp_path, decision="top1").close()
    writer = open_writer(tmp_path, decision="vote")
    write_all(writer, SCENES[:1])
    assert writer.finish([], {})["identity"] == {"decision": "vote"}


def test_files_of_a_scene_that_was_never_done_keep_a_folder_for_its_own_run(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, decision="top1")
    write_all(writer, SCENES[:1])
    (tmp_path / "predictions.jsonl").write_text("")
    with pytest.raises(InputError, match="different decision"):
        open_writer(tmp_path, decision="vote")


def test_results_of_other_weights_are_refused_and_named(tmp_path: Path) -> None:
    write_all(open_writer(tmp_path, gallery="one"), SCENES)
    with pytest.raises(InputError, match="different gallery"):
        open_writer(tmp_path, gallery="two")


def test_two_processes_write_the_same_log_as_one(tmp_path: Path) -> None:
    one = open_writer(tmp_path / "one")
    write_all(one, SCENES)
    one.finish([], {})
    ranks = [
        SceneWriter(tmp_path / "two", SCENES, ["Ao/Ki", "Ren"], {}, crop=CropConfig(), rank=r, world=2) for r in (0, 1)
    ]
    write_all(ranks[0], ["a.png", "sub/b.png"])
    write_all(ranks[1], ["sub/a.png"])
    ranks[0].finish([], {})
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('"mask":', '"task":', "regions[0] an object with 'mask'"),
        ("0.91", "NaN", "NaN, expected"),
        ("0.91", "9e999", "9e999, expected"),
    ],
)
def test_a_damaged_line_is_refused(tmp_path: Path, old: str, new: str, found: str) -> None:
    writer = open_writer(tmp_path)
    write_all(writer, SCENES)
    log = tmp_path / "predictions.jsonl"
    log.write_text(log.read_text().replace(old, new))
    with pytest.raises(FormatError, match=rf"predictions\.jsonl: .*{re.escape(found)}"):
        writer.finish([], {})


def test_equal_stems_never_collide() -> None:
    stems = output_stems(["a.png", "a.jpg", "b/a.png", "A.gif", "c.png"])
    assert len({stem.casefold() for stem in stems.values()}) == 5
    assert stems["c.png"] == "c"
    assert stems["a.png"] == "a.png"


def test_a_scene_that_is_named_like_another_one_s_overlay_has_files_of_its_own() -> None:
    stems = output_stems(["a.png", "a_overlay.png", "b.png", "b.jpg", "b.png.jpg", "c_overlay.png"])
    files = [f"{stem}{end}".casefold() for stem in stems.values() for end in ("", "_overlay")]
    assert len(files) == len(set(files))
    assert stems["c_overlay.png"] == "c_overlay"


def test_the_overlay_document_has_the_same_schema_after_nms_at_030(tmp_path: Path) -> None:
    mask = np.ones((10, 10), dtype=np.bool_)
    regions = tuple(Region((x, 0, x + 9, 9), mask) for x in (0, 5, 20))  # the first two have an IoU of 1/3
    identities = (Identity("Ao/Ki", 0.8), Identity("Ren", 0.9), Identity("Ren", 0.7))
    writer = open_writer(tmp_path)
    writer.write(image(0), ScenePrediction("a.png", 64, 48, regions, identities))
    writer.close()
    document = json.loads((tmp_path / "json/a_overlay.json").read_text())
    assert document == {
        "scene": "a.png",
        "preds": [
            {"bbox": [5, 0, 14, 9], "label": "Ren", "score": 0.9},
            {"bbox": [20, 0, 29, 9], "label": "Ren", "score": 0.7},
        ],
    }
    assert all(isinstance(side, int) for pred in document["preds"] for side in pred["bbox"])


def test_the_digest_of_the_image_is_recorded(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.write(image(0), prediction("a.png"), "ab" * 32)
    writer.close()
    assert json.loads((tmp_path / "predictions.jsonl").read_text())["sha256"] == "ab" * 32
