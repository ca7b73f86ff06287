"""Negative rows: what they rule out, by every rule and in every place that a gallery is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import naruto_vision as nv
from naruto_vision.errors import InputError
from naruto_vision.gallery.edits import add_rows, relabel_rows, remove_rows, roll_back
from naruto_vision.gallery.gallery import copy_gallery, edit_gallery
from naruto_vision.gallery.index import IndexChoice
from naruto_vision.gallery.info import list_gallery
from naruto_vision.gallery.store import NEGATIVE
from naruto_vision.gallery.verify import verify_gallery, worst
from naruto_vision.recognition.decision import Rule
from naruto_vision.recognition.heads import compare_rules
from naruto_vision.recognition.lookup import SearchResult
from naruto_vision.recognition.open_set import gallery_thresholds
from naruto_vision.records import Vectors

RULES: tuple[Rule, ...] = ("vote", "top1", "max", "mean", "prototype", "centroid", "lda", "logreg")


def unit(values: NDArray[np.float64]) -> Vectors:
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True), dtype=np.float32)


def small(index: IndexChoice = "exact") -> nv.Gallery:
    """A gallery of three labels with twelve rows each, around the first three axes."""
    rng = np.random.default_rng(0)
    vectors = unit(np.repeat(np.eye(12)[:3], 12, axis=0) + rng.normal(size=(36, 12)) * 0.1)
    rows = [nv.GalleryRow(f"{number}.png", "abc"[number // 12]) for number in range(36)]
    return nv.Gallery.build(vectors, rows, fingerprint="0" * 64, index=index)


LOOKALIKE = unit(np.array([[1.0, 0.4, 0, 0, 0, 0, 0, 0, 1.2, 0, 0, 0]]))  # nearest to "a", but another direction too


def negated(gallery: nv.Gallery, *labels: str) -> nv.Gallery:
    rows = [nv.GalleryRow("shown.png", label, NEGATIVE) for label in labels]
    return gallery.edited(add_rows, np.repeat(LOOKALIKE, len(labels), 0), rows)


def found(gallery: nv.Gallery, rule: Rule, query: Vectors = LOOKALIKE, k: int = 5) -> SearchResult:
    return nv.look_up(gallery, query, ["q"], "image", decision=rule, k=k, threshold=-1.0)[0]


@pytest.mark.parametrize("rule", RULES)
def test_the_next_label_is_given_by_every_rule(rule: Rule) -> None:
    gallery = small()
    assert found(gallery, rule).identity.label == "a"
    after = found(negated(gallery, "a"), rule)
    assert after.identity.label == "b"
    assert all(hit.neighbour.label != "a" for hit in after.hits)
    assert len(after.hits) == 5
    both = found(negated(gallery, "a", "b"), rule)
    assert both.identity.label == "c"
    every = found(negated(gallery, "a", "b", "c"), rule)
    assert (every.identity.known, every.identity.name) == (False, "unknown")


@pytest.mark.parametrize("rule", RULES)
def test_what_is_nearer_to_an_entry_keeps_its_name_and_score(rule: Rule) -> None:
    gallery, own = small(), unit(np.eye(12)[:1])
    assert found(negated(gallery, "a"), rule, own) == found(gallery, rule, own)
    ruled, plain = found(negated(gallery, "b"), rule).identity, found(gallery, rule).identity
    assert (ruled.label, ruled.score) == (plain.label, plain.score)


def test_a_negative_row_is_no_entry() -> None:
    gallery, after = small(), negated(small(), "a", "b")
    assert (len(after), after.labels, after.ids) == (36, gallery.labels, gallery.ids)
    assert after.rows == gallery.rows
    assert np.array_equal(after.vectors, gallery.vectors)
    assert compare_rules(after.vectors, after.rows) == compare_rules(gallery.vectors, gallery.rows)
    assert gallery_thresholds(after, "lda") == gallery_thresholds(gallery, "lda")
    near = after.search(LOOKALIKE, 50)[0]
    assert near == gallery.search(LOOKALIKE, 50)[0]
    assert after.search(LOOKALIKE, 3)[0] == near[:3]
    with pytest.raises(InputError, match="at least one entry"):
        after.edited(remove_rows, after.ids)


@pytest.mark.parametrize("index", ["exact", "faiss"])
def test_negative_rows_are_stored_edited_and_rolled_back(tmp_path: Path, index: IndexChoice) -> None:
    folder = tmp_path / "g"
    small(index).save(folder)
    plain = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert json.loads(plain["manifest.json"])["format"] == 1
    rows = [nv.GalleryRow("shown.png", "a", NEGATIVE)]
    edit_gallery(folder, add_rows, LOOKALIKE, rows)
    assert json.loads((folder / "manifest.json").read_text())["format"] == 2  # older versions refuse it
    opened = nv.Gallery.open(folder)
    assert found(opened, "vote").identity.label == "b"
    listing = list_gallery(folder, rows=True)
    assert listing.labels == {"a": 12, "b": 12, "c": 12}
    assert (listing.rows[-1]["aug"], len(listing.entries)) == ("not", 36)
    assert worst(verify_gallery(folder)) == "ok"
    copy_gallery(folder, tmp_path / "copy")
    assert found(nv.Gallery.open(tmp_path / "copy"), "lda").identity.label == "b"
    edit_gallery(folder, relabel_rows, [36], "b")
    assert found(nv.Gallery.open(folder), "vote").identity.label == "a"
    edit_gallery(folder, roll_back, 2)
    assert found(nv.Gallery.open(folder), "vote").identity.label == "b"
    edit_gallery(folder, roll_back, 1)
    for name in ("embeddings.npy", "meta.jsonl", "stats.json", "thresholds.json"):
        assert (folder / name).read_bytes() == plain[name]


def test_texts_are_not_ruled_out() -> None:
    (result,) = nv.look_up(negated(small(), "a"), LOOKALIKE, ["q"], "text")
    assert result.identity.label == "a"


def test_the_vector_of_an_entry_is_its_own_behind_a_negative_row() -> None:
    later = unit(np.eye(12)[None, 5])
    gallery = negated(small(), "a").edited(add_rows, later, [nv.GalleryRow("later.png", "c")])
    np.testing.assert_array_equal(gallery.vector_of(gallery.ids[-1]), later[0])
    np.testing.assert_array_equal(gallery.vector_of(gallery.ids[3]), gallery.vectors[3])
