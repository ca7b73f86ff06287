"""An audit counts every held-out image that stands on the other side too, and says what it could not see."""

from pathlib import Path

import numpy as np

from naruto_vision.data.leaks import GALLERY, Audit, audit, collect_items, scan_images
from naruto_vision.data.readers import read_present
from naruto_vision.data.tables import ReadRules
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.images import write_image
from naruto_vision.records import ImageArray


def noise(seed: int) -> ImageArray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, axis=0).repeat(8, axis=1))


def leaky(root: Path) -> Path:
    """Draw six training images; of the held-out ones the first is a copy, the second a brighter one, the last new."""
    for k in range(6):
        write_image(root / "train" / "ann" / f"show-{100 * k}.png", noise(k))
    write_image(root / "valid" / "ann" / "same.png", noise(0))
    write_image(root / "valid" / "bob" / "lighter.png", np.clip(noise(1), 0, 250) + np.uint8(4))
    write_image(root / "valid" / "ann" / "show-202.png", noise(50))
    write_image(root / "valid" / "bob" / "show-150.png", noise(51))
    write_image(root / "test" / "ann" / "new.png", noise(60))
    return root


def audited(root: Path, gallery: Path | None = None, **options: object) -> Audit:
    items = collect_items(read_present(root, rules=ReadRules(need_files=False)), gallery)
    return audit(items, scan_images(items.items), **options)  # type: ignore[arg-type]  # window and numbers


def test_copies_near_copies_and_neighbouring_frames_are_told_apart(tmp_path: Path) -> None:
    found = audited(leaky(tmp_path))
    valid, test, between = found.comparisons
    assert (valid.held, valid.against, valid.compared) == ("valid", "train", 4)
    assert (valid.exact, valid.near, len(valid.frames.near), valid.leaking) == (1, 1, 1, 3)
    assert (test.leaking, between.leaking, found.leaking) == (0, 0, 3)
    assert [pair.exact for pair in found.crossing()] == [True, False]
    assert found.conflicts() == 0
    assert audited(tmp_path, window=50).comparisons[0].leaking == 4
    assert audited(tmp_path, numbers="ignore").comparisons[0].leaking == 2


def test_a_copy_that_is_near_another_image_too_counts_as_a_copy(tmp_path: Path) -> None:
    write_image(leaky(tmp_path) / "train" / "ann" / "lighter.png", np.clip(noise(0), 0, 250) + np.uint8(4))
    assert [getattr(audited(tmp_path).comparisons[0], name) for name in ("exact", "near")] == [1, 1]


def test_figures_are_rates_with_counts_and_intervals(tmp_path: Path) -> None:
    document = audited(leaky(tmp_path)).as_json()
    valid = document["comparisons"][0]
    assert (valid["leaking"]["count"], valid["leaking"]["total"]) == (3, 4)
    assert 0 < valid["leaking"]["low"] < 0.75 < valid["leaking"]["high"] < 1
    assert valid["by_majority"]["label"] == "ann"
    assert [one["distance"] for one in valid["neighbours"]] == [2]
    assert document["images"] == {"train": 6, "valid": 4, "test": 1}
    assert document["images_ok"] == 11
    assert document["crossing_pairs"][0]["paths"] == ["ann/show-0.png", "ann/same.png"]
    assert document["crossing_pairs"][0]["parts"] == ["train", "valid"]


def test_repeats_and_the_same_pixels_under_two_classes(tmp_path: Path) -> None:
    root = leaky(tmp_path)
    write_image(root / "train" / "bob" / "again.png", noise(0))
    found = audited(root)
    assert found.repeats("train") == 1
    assert found.repeats("valid") == 0
    assert found.conflicts() == 2  # with the training image and with its copy


def test_absent_and_broken_images_are_counted_and_compared_by_name(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "valid").mkdir()
    (tmp_path / "train" / "_classes.csv").write_text("filename,ann\n7.png,1\n60.png,1\n")
    (tmp_path / "valid" / "_classes.csv").write_text("filename,ann\n9.png,1\n")
    (tmp_path / "train" / "60.png").write_bytes(b"no image")
    found = audited(tmp_path)
    assert (found.scanned.absent, found.scanned.quarantine.quarantined) == (2, 1)
    assert (found.comparisons[0].compared, found.comparisons[0].leaking) == (0, 1)


def test_a_gallery_is_held_against_what_is_held_out(tmp_path: Path) -> None:
    root = leaky(tmp_path / "data")
    write_image(root / "test" / "ann" / "enrolled.png", noise(3))
    rows = [GalleryRow("ann/show-300.png", "ann"), GalleryRow("ann/show-300.png", "ann", "gamma")]
    rows.append(GalleryRow("elsewhere/show-151.png", "bob"))
    vectors = np.eye(3, dtype=np.float32)
    Gallery.build(vectors, rows, fingerprint="0" * 64, index="exact").save(tmp_path / "gallery")
    found = audited(root, tmp_path / "gallery")
    assert len(found.items.rows(GALLERY)) == 2  # variants of one image are one image
    sides = {(one.held, one.against): one for one in found.comparisons}
    assert sides["test", GALLERY].exact == 1
    assert sides["valid", GALLERY].frames.near == ()  # the folder makes another family
    assert found.scanned.absent == 1
    assert ("train", GALLERY) not in sides


def test_manifests_name_one_file_from_two_sides(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", noise(1))
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("path,label\na.png,ann\n")
    found = audited(tmp_path)
    assert found.comparisons[0].exact == 1
    assert found.scanned.quarantine.ok == 1  # decoded once
