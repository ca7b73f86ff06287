"""Whether the deletion test and the comparison of margin and score count what they say."""

from pathlib import Path

import numpy as np
import pytest

import naruto_vision as nv
from benchmarks import explain
from naruto_vision.io.atomic import write_json
from naruto_vision.io.images import write_image
from naruto_vision.records import Identity


def query(score: float, margin: float, *, right: bool, group: str) -> explain.Query:
    who, image = Identity("ayame", score, margin=margin), np.zeros((8, 8, 3), np.uint8)
    return explain.Query(group, who, right, True, image, np.ones((8, 8), np.bool_), lambda: None, lambda _: None)  # type: ignore[arg-type,return-value]  # not called


def test_a_margin_that_tells_errors_has_the_larger_area() -> None:
    random, queries = np.random.default_rng(0), []
    for number in range(60):
        right = number % 3 > 0
        margin = float(random.normal(1.0 if right else 0.0, 0.2))
        queries.append(query(float(random.uniform()), margin, right=right, group=str(number // 2)))
    found = explain.summarize_errors(queries)
    assert (found["n"], found["wrong"]) == (60, 20)
    assert found["margin"]["auroc"] > 0.95 > 0.7 > found["score"]["auroc"]
    low, high = found["difference"]["interval"]
    assert 0 < low < found["difference"]["auroc"] < high


def test_ratios_are_of_mean_losses() -> None:
    rows = [{"occlusion, mean": 0.2, "random, mean": 0.1}, {"occlusion, mean": 0.4, "random, mean": 0.1}]
    found = explain.summarize_deletion(rows)
    assert found["n"] == 2
    assert found["occlusion, mean"]["lost"] == pytest.approx(0.3)
    assert found["occlusion, mean"]["ratio"] == pytest.approx(3.0)
    assert found["occlusion, mean"]["interval"] == pytest.approx([2.0, 4.0])


def test_objects_of_scenes_are_explained_and_hidden(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    image = np.full((64, 96, 3), 128, np.uint8)
    image[8:56, 8:56] = random.integers(0, 256, (48, 48, 3))
    write_image(tmp_path / "images" / "a.png", image)
    write_json(tmp_path / "gt.json", {"a.png": [{"bbox": [8, 8, 55, 55], "label": "ayame"}]})
    encoder = nv.ClipEncoder("tiny-clip").eval()
    vectors = nv.embed_images(encoder, [image[8:56, 8:56], 255 - image]).numpy()
    rows = [nv.GalleryRow("a.png", "ayame"), nv.GalleryRow("b.png", "kenta")]
    gallery = nv.Gallery.build(vectors, rows, fingerprint=encoder.fingerprint)
    segmenter = nv.Segmenter(nv.GridPrompter(2), nv.SamModel(weights="tiny-sam"))
    analyzer = nv.SceneAnalyzer(segmenter, encoder, gallery)
    found = explain.measure(analyzer, list(explain.regions(analyzer, tmp_path)), 5)
    assert found["deletion"]["n"] == 1
    assert found["errors, with unknown ones"] == {"n": 1, "wrong": 0}
    assert found["deletion"]["occlusion, mean"]["lost"] > found["deletion"]["random, mean"]["lost"]
