"""Every check of a gallery finds the one damage that it is for, says what to do, and nothing where all is well."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.gallery import verify
from naruto_vision.gallery.content import GalleryContent, GalleryRow
from naruto_vision.gallery.edits import relabel_rows, remove_rows
from naruto_vision.gallery.gallery import Gallery, edit_gallery
from naruto_vision.gallery.index import Budgets, SearchBudget
from naruto_vision.gallery.info import find_image
from naruto_vision.gallery.store import ALWAYS, MANIFEST, STAGING, manifest_checksum
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.gallery.verify import Finding, verify_gallery, worst
from naruto_vision.io.atomic import json_bytes
from naruto_vision.io.bundles import file_sha256
from naruto_vision.records import Vectors

PRINT = "ab" * 32


def _units(count: int, dim: int = 6, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _rows(count: int) -> list[GalleryRow]:
    return [GalleryRow(f"{'ab'[k % 2]}/{k}.png", "ab"[k % 2]) for k in range(count)]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    thresholds = Thresholds(0.5, {"a": 0.4}, "largest f1 on validation regions")
    Gallery.build(_units(6), _rows(6), fingerprint=PRINT, index="exact", thresholds=thresholds).save(tmp_path / "g")
    return tmp_path / "g"


def _found(folder: Path, **options: object) -> dict[str, Finding]:
    return {one.check: one for one in verify_gallery(folder, **options)}  # type: ignore[arg-type]  # the test's own


def test_a_sound_gallery_is_sound_in_every_check(saved: Path) -> None:
    findings = verify_gallery(saved)
    assert [one.check for one in findings] == ["hashes", "encoder", "ids", "vectors", "index", "thresholds", "labels"]
    assert {one.verdict for one in findings} == {"ok"}
    assert worst(findings) == "ok"


def test_sound_checks_say_what_they_counted(saved: Path) -> None:
    found = _found(saved)
    count = len(json.loads((saved / MANIFEST).read_text())["files"])
    assert found["hashes"].text == f"{count} of {count} files have the hash they were written with"
    assert found["ids"].text == "6 of 6 unique, below 6; 0 kept for rollbacks"
    length, _, furthest = found["vectors"].text.partition(", at most ")
    assert length == "6 of length 6"
    assert float(furthest.removesuffix(" from 1")) < 1e-6
    assert found["thresholds"].text == "largest f1 on validation regions"
    assert found["labels"].text == "2 labels, no vector under two of them"
    assert found["index"].text == "none stored: every row is compared"


@pytest.mark.parametrize(
    ("given", "verdict", "text"),
    [
        (None, "ok", "abababababab, not compared with an encoder; --encoder NAME does"),
        (PRINT, "ok", "abababababab, the one given"),
        (
            "cd" * 32,
            "wrong",
            "built by abababababab, given cdcdcdcdcdcd: use the encoder that built it, or enrol again",
        ),
    ],
)
def test_the_encoder_is_held_against_the_one_given(saved: Path, given: str | None, verdict: str, text: str) -> None:
    assert _found(saved, fingerprint=given)["encoder"] == Finding("encoder", verdict, text)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(ALWAYS))
@pytest.mark.parametrize("gone", [True, False])
def test_a_changed_or_missing_file_is_named_and_ends_the_look(saved: Path, name: str, gone: bool) -> None:
    if gone:
        (saved / name).unlink()
    else:
        (saved / name).write_bytes((saved / name).read_bytes() + b" ")
    findings = verify_gallery(saved)
    assert [one.check for one in findings] == ["hashes", "content"]
    assert findings[0].text.startswith(f"{name} changed or missing; the gallery is damaged: copy it again")
    assert str(saved / name) in findings[1].text
    assert worst(findings) == "wrong"


def test_several_damaged_files_are_all_named_in_order(saved: Path) -> None:
    for name in ("thresholds.json", "meta.jsonl"):
        (saved / name).write_bytes(b"")
    assert verify_gallery(saved)[0].text.startswith("meta.jsonl, thresholds.json changed or missing")


def test_files_that_wait_for_their_move_are_no_damage(saved: Path) -> None:
    (saved / STAGING).mkdir(exist_ok=True)
    for name in ("meta.jsonl", "ledger.jsonl"):
        (saved / name).rename(saved / STAGING / name)
    findings = verify_gallery(saved)
    assert findings[0].verdict == "warning"
    assert findings[0].text.startswith("2 of ")
    assert "an edit was stopped; the next edit moves them" in findings[0].text
    assert worst(findings) == "warning"
    (saved / "stats.json").unlink()
    both = verify_gallery(saved)[0]
    assert (both.verdict, both.text.partition(";")[0]) == ("wrong", "stats.json changed or missing")


def test_a_damaged_manifest_is_told_once_and_no_gallery_is_an_error(saved: Path, tmp_path: Path) -> None:
    (saved / MANIFEST).write_text("{")
    findings = verify_gallery(saved)
    assert [(one.check, one.verdict) for one in findings] == [("manifest", "wrong"), ("content", "wrong")]
    with pytest.raises(MissingPathError, match="no such gallery; enrol first"):
        verify_gallery(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no gallery here, it has no manifest\.json"):
        verify_gallery(tmp_path / "empty")


def _forge(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file and put its new hash into the manifest."""
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = file_sha256(folder / name)
    manifest["checksum"] = manifest_checksum(manifest)
    (folder / MANIFEST).write_bytes(json_bytes(manifest))


def test_content_that_disagrees_behind_right_hashes_is_found(saved: Path) -> None:
    _forge(saved, "meta.jsonl", lambda data: b"".join(data.splitlines(keepends=True)[:-1]))
    findings = verify_gallery(saved)
    assert findings[0].verdict == "ok"
    assert (findings[1].check, findings[1].verdict) == ("content", "wrong")
    assert worst(findings) == "wrong"


def test_thresholds_that_were_chosen_with_other_rows_are_stale(saved: Path) -> None:
    edit_gallery(saved, relabel_rows, [1], "c")
    found = _found(saved)["thresholds"]
    assert found.verdict == "warning"
    assert found.text.startswith("entries changed in generation 2, after they were chosen; choose them again with ")


def test_thresholds_of_labels_that_are_not_enrolled_are_named(tmp_path: Path) -> None:
    thresholds = Thresholds(0.5, {"z": 0.4, "a": 0.3, "y": 0.2}, "rule")
    Gallery.build(_units(2), _rows(2), fingerprint=PRINT, index="exact", thresholds=thresholds).save(tmp_path)
    assert _found(tmp_path)["thresholds"] == Finding("thresholds", "warning", "for labels that the gallery lacks: y, z")


def test_one_vector_under_two_labels_is_told_with_the_most_frequent_pair(tmp_path: Path) -> None:
    vectors = _units(3)[[0, 0, 1, 1, 2, 2, 2]]
    labels = ["b", "a", "a", "b", "c", "d", "d"]
    rows = [GalleryRow(f"{k}.png", label) for k, label in enumerate(labels)]
    Gallery.build(vectors, rows, fingerprint=PRINT, index="exact").save(tmp_path)
    found = _found(tmp_path)["labels"]
    assert found.verdict == "warning"
    assert found.text == "3 vectors have several labels, 2 as a = b; relabel or remove the wrong ones"


def test_one_vector_twice_under_one_label_is_no_conflict(tmp_path: Path) -> None:
    rows = [GalleryRow("1.png", "a"), GalleryRow("2.png", "a")]
    Gallery.build(_units(1)[[0, 0]], rows, fingerprint=PRINT, index="exact").save(tmp_path)
    assert _found(tmp_path)["labels"].verdict == "ok"


def test_rows_kept_for_rollbacks_are_counted(saved: Path) -> None:
    edit_gallery(saved, remove_rows, [0, 5])
    assert _found(saved)["ids"].text == "4 of 4 unique, below 6; 2 kept for rollbacks"


def test_a_flat_index_is_held_against_the_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    Gallery.build(_units(6), _rows(6), fingerprint=PRINT, index="faiss").save(tmp_path / "g")
    found = _found(tmp_path / "g")["index"]
    assert (found.verdict, found.text.partition(":")[2]) == ("ok", " holds the gallery's 6 vectors")
    Gallery.build(_units(6, seed=1), _rows(6), fingerprint=PRINT, index="faiss").save(tmp_path / "other")
    other = (tmp_path / "other" / "faiss.index").read_bytes()
    _forge(tmp_path / "g", "faiss.index", lambda _: other)
    found = _found(tmp_path / "g")["index"]
    assert found.verdict == "wrong"
    assert found.text.endswith("; run `naruto-vision gallery reindex GALLERY`")
    monkeypatch.setattr(verify, "has_package", lambda _: False)
    found = _found(tmp_path / "g")["index"]
    assert (found.verdict, "FAISS is not installed" in found.text) == ("warning", True)


@pytest.mark.parametrize(("then", "verdict"), [(100, "ok"), (80, "ok"), (79, "warning"), (133, "ok"), (134, "warning")])
def test_what_was_measured_of_an_index_holds_for_a_quarter_more_or_fewer_rows(then: int, verdict: str) -> None:
    budgets: Budgets = {"image": SearchBudget(4, 0.9951, 256, then), "text": SearchBudget(9, 0.95, 256, then)}
    found = verify._recall("hnsw", budgets, 100)
    assert found.verdict == verdict
    told = "hnsw: holds the gallery's 100 vectors; recall@10 0.995 for image queries and 0.950 for text queries"
    assert found.text.startswith(f"{told}, measured at {then} entries")
    assert found.text.endswith("measure again with `naruto-vision gallery reindex GALLERY`") == (verdict == "warning")


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_images_are_counted_once_each_and_the_first_missing_is_named(saved: Path, tmp_path: Path) -> None:
    _touch(tmp_path / "data", "a/0.png", "train/b/1.png", "a/2.png", "val/b/3.png")
    found = _found(saved, images=tmp_path / "data")["images"]
    assert found.verdict == "warning"
    assert found.text == "4 of 6 are there; first missing a/4.png (searches do not need them)"
    _touch(tmp_path / "data", "a/4.png", "test/b/5.png")
    assert _found(saved, images=tmp_path / "data")["images"] == Finding("images", "ok", "6 of 6 are there")
    with pytest.raises(MissingPathError, match="nowhere: no such folder of the gallery's images"):
        verify_gallery(saved, images=tmp_path / "nowhere")


@pytest.mark.parametrize("split", ["", "train", "valid", "val", "validation", "test"])
def test_a_rows_image_is_looked_for_below_every_split(tmp_path: Path, split: str) -> None:
    _touch(tmp_path / split, "a/1.png")
    assert find_image(tmp_path, "a/1.png") == tmp_path / split / "a/1.png"
    assert find_image(tmp_path, "a") is None  # a folder is no image
    assert find_image(tmp_path, str(tmp_path / split / "a/1.png")) == tmp_path / split / "a/1.png"
    assert find_image(tmp_path, "b/1.png") is None


def test_the_image_beside_wins_over_that_of_a_split(tmp_path: Path) -> None:
    _touch(tmp_path, "a/1.png", "train/a/1.png")
    assert find_image(tmp_path, "a/1.png") == tmp_path / "a/1.png"


@pytest.mark.parametrize(
    ("verdicts", "gravest"),
    [
        (["ok"], "ok"),
        (["ok", "warning", "ok"], "warning"),
        (["wrong", "ok", "warning"], "wrong"),
        (["warning", "wrong"], "wrong"),
    ],
)
def test_the_gravest_verdict_counts(verdicts: list[str], gravest: str) -> None:
    assert worst([Finding("x", verdict, "") for verdict in verdicts]) == gravest  # type: ignore[arg-type]  # verdicts


def test_looking_over_writes_nothing(saved: Path) -> None:
    before = {file.name: file.read_bytes() for file in saved.iterdir() if file.is_file()}
    verify_gallery(saved)
    assert {file.name: file.read_bytes() for file in saved.iterdir() if file.is_file()} == before


def test_only_content_is_looked_at_that_could_be_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> GalleryContent:
        msg = "meta.jsonl: torn"
        raise InputError(msg)

    monkeypatch.setattr(verify, "read_gallery", broken)
    assert verify_gallery(saved)[1:] == [Finding("content", "wrong", "meta.jsonl: torn")]
