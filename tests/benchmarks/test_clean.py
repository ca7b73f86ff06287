"""Whether the measurement of clean galleries counts what it says."""

import numpy as np
import pytest

import naruto_vision as nv
from benchmarks import clean
from naruto_vision.gallery.quality import failed_gates, measure_quality
from naruto_vision.records import Vectors


def test_spoilt_images_fail_the_gates() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (12, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(12)]
    bad = [clean.spoil(image, kind, "a.png") for image, kind in zip(images, clean.KINDS, strict=False)]
    qualities = np.stack([measure_quality(image) for image in [*images, *bad]])
    reasons = failed_gates(qualities, ["a"] * 16)
    assert reasons[:12] == [""] * 12
    assert all(reasons[12:])


def test_lost_and_found_rows_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)

    def vectors(each: int) -> Vectors:
        values = np.repeat(np.eye(12)[:3], each, axis=0) + rng.normal(size=(3 * each, 12)) * 0.1
        units: Vectors = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
        return units

    names = np.repeat(np.asarray(list("abc"), dtype=object), 20)
    rows = [nv.GalleryRow(f"{number}.png", str(name)) for number, name in enumerate(names)]
    good = np.tile(np.array([0.3, 90, 0, 90], dtype=np.float32), (60, 1))
    queries = vectors(5)
    data = clean.Embedded(rows, vectors(20), queries[rng.integers(0, 15, 60)], (good, good * 0), queries, names[::4])
    found = clean.measure(data, seeds=2)
    assert found["right"] == [15, 15]
    for row in found["damaged"]:
        assert (row["bad"] + row["good"], row["bad"]) == (120, 2 * round(row["share"] * 60))
        if row["share"] < 0.4:
            assert row["gone"] <= 0.05 * row["good"]
            assert row["found"] >= 0.8 * row["bad"]
        assert all(value <= 30 for value in [*row["damaged"], *row["cleaned"]])
    assert "| spoilt | 0.4 | " in capsys.readouterr().out
