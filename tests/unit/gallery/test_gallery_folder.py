"""What is written to a gallery folder comes back the same, and everything that can be wrong with it is refused."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naruto_vision.errors import FingerprintError, FormatError, InputError, MissingPathError
from naruto_vision.gallery import index as search_module
from naruto_vision.gallery import store as publish
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import IndexChoice
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.records import Vectors

PRINT = "0123456789abcdef" * 4
NAMES = sorted(
    ["embeddings.npy", "meta.jsonl", "stats.json", "faiss.index", "faiss_meta.json", "thresholds.json", "ledger.jsonl"]
)


def unit(rows: int, dim: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def made(index: IndexChoice = "auto") -> Gallery:
    rows = [GalleryRow(f"綾/{i}.png", f"label {i % 2}") for i in range(5)]
    thresholds = Thresholds(0.25, {"label 1": 0.5}, "by hand")
    return Gallery.build(unit(5, 4), rows, fingerprint=PRINT, index=index, thresholds=thresholds)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    made().save(tmp_path / "gallery")
    return tmp_path / "gallery"


def sign(folder: Path) -> None:
    """Make the hashes of a changed gallery right again, as somebody who means harm would."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest["files"]}
    del manifest["checksum"]
    manifest["checksum"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(manifest), encoding="utf-8")


def alter(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file in place."""
    value = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(change(value)), encoding="utf-8")


def attempt(folder: Path, index: IndexChoice) -> tuple[Gallery | None, str]:
    """Open a gallery; return it, or what was said against it."""
    try:
        return Gallery.open(folder, index=index), ""
    except InputError as error:
        return None, str(error)


def same(one: Gallery, other: Gallery) -> bool:
    queries = unit(6, 4, 9)
    return one.digest == other.digest and one.search(queries, 5) == other.search(queries, 5)


@pytest.mark.parametrize("written", ["faiss", "exact"])
@pytest.mark.parametrize("opened", ["auto", "faiss", "exact"])
def test_round_trip(tmp_path: Path, written: IndexChoice, opened: IndexChoice) -> None:
    gallery = made(written)
    gallery.save(tmp_path / "g")
    again = Gallery.open(tmp_path / "g", fingerprint=PRINT, index=opened)
    assert same(gallery, again)
    assert again.rows == gallery.rows
    assert again.thresholds == gallery.thresholds
    assert again.index_kind == ("exact" if opened == "exact" else "faiss")


def test_the_folder_is_the_documented_one(saved: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == sorted([*NAMES, "manifest.json"])
    vectors = np.load(saved / "embeddings.npy", allow_pickle=False)
    assert (vectors.dtype, vectors.shape) == (np.float32, (5, 4))
    lines = [json.loads(line) for line in (saved / "meta.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[3] == {"id": 3, "path": "綾/3.png", "label": "label 1", "aug": "none"}
    meta = json.loads((saved / "faiss_meta.json").read_text(encoding="utf-8"))
    assert meta == {"metric": "ip", "kind": "flat", "dim": 4, "size": 5, "index": "faiss"}
    stats = json.loads((saved / "stats.json").read_text(encoding="utf-8"))
    assert stats == {"total": 5, "dim": 4, "counts": {"label 0": 3, "label 1": 2}, "aug": {"none": 5}}
    ledger = json.loads((saved / "ledger.jsonl").read_text(encoding="utf-8"))
    assert ledger == {"generation": 1, "op": "build", "rows": 5, "next_id": 5}
    manifest = json.loads((saved / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["fingerprint"], manifest["generation"], sorted(manifest["files"])) == (PRINT, 1, NAMES)
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((saved / name).read_bytes()).hexdigest() == digest


def test_equal_galleries_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        made().save(tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_saving_again_replaces_the_whole_folder(saved: Path) -> None:
    gallery = Gallery.open(saved).with_thresholds(Thresholds())
    gallery.save(saved)
    assert Gallery.open(saved).generation == 2
    assert len((saved / "ledger.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert [file.name for file in saved.parent.iterdir()] == ["gallery"]


def test_odd_names_survive(tmp_path: Path) -> None:
    rows = [GalleryRow("bad \udcff byte.png", 'a "b", c'), GalleryRow("two\u2028lines\n.png", "\u2029")]
    Gallery.build(unit(2, 4), rows, fingerprint=PRINT).save(tmp_path / "g")
    assert Gallery.open(tmp_path / "g").rows == tuple(rows)


def test_a_gallery_of_faiss_opens_without_it(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Gallery.open(saved)
    monkeypatch.setattr(search_module, "has_package", lambda _: False)
    found = Gallery.open(saved)
    assert found.index_kind == "exact"
    assert same(found, expected)


def test_a_failed_save_leaves_the_old_gallery(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in saved.iterdir()}

    def fail(path: Path, data: bytes) -> None:
        raise OSError(28, str(path), len(data))

    gallery = made().with_thresholds(Thresholds())
    monkeypatch.setattr(publish, "write_bytes", fail)  # everything is prepared, the manifest cannot be written
    with pytest.raises(OSError, match="28"):
        gallery.save(saved)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before


def test_another_encoder_is_refused(saved: Path) -> None:
    with pytest.raises(FingerprintError, match="0123456789ab, opened with encoder aaaaaaaaaaaa"):
        Gallery.open(saved, fingerprint="a" * 64)
    assert Gallery.open(saved, fingerprint=PRINT).fingerprint == PRINT


def test_a_missing_folder_says_to_enrol(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="no such gallery; enrol first"):
        Gallery.open(tmp_path / "none")
    with pytest.raises(InputError, match=r"no gallery here, it has no manifest\.json; enrol first"):
        Gallery.open(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(MissingPathError, match=name.replace(".", r"\.")):
        Gallery.open(saved)


@pytest.mark.parametrize("name", [*NAMES, "manifest.json"])
@pytest.mark.parametrize("index", ["faiss", "exact"])
def test_flipped_and_cut_bytes_never_pass(saved: Path, name: str, index: IndexChoice) -> None:
    whole, expected = (saved / name).read_bytes(), Gallery.open(saved)
    rng = np.random.default_rng(len(whole))
    for trial in range(20):
        place = int(rng.integers(len(whole)))
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << int(rng.integers(8))
        (saved / name).write_bytes(bytes(spoilt) if trial % 2 else whole[:place])
        found, refusal = attempt(saved, index)
        if found is None:
            assert name in refusal
            assert "\n" not in refusal
        else:  # the manifest's own white space is all that is not hashed
            assert name == "manifest.json"
            assert same(found, expected)


def test_forged_files_with_right_hashes_never_crash(saved: Path, tmp_path: Path) -> None:
    """Behind the hashes stand the checks of the content itself."""
    rng = np.random.default_rng(5)
    for name in NAMES:
        whole = (saved / name).read_bytes()
        for trial in range(12):
            copy = tmp_path / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(saved, copy)
            spoilt = bytearray(whole)
            place = int(rng.integers(len(whole)))
            spoilt[place] ^= 1 << int(rng.integers(8))
            (copy / name).write_bytes(bytes(spoilt) if trial % 2 else whole[:place])
            sign(copy)
            found, refusal = attempt(copy, "auto")
            assert "\n" not in refusal
            if found is not None:
                assert len(found.search(unit(6, 4, 9), 5)[0]) == 5


def npy(array: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array), allow_pickle=True)
    return buffer.getvalue()


HUGE = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 4), }".ljust(118)


@pytest.mark.parametrize(
    "data",
    [
        npy(unit(4, 4)),
        npy(unit(5, 3)),
        npy(unit(5, 4).astype(np.float64)),
        npy(np.asfortranarray(unit(5, 4))),
        npy(2 * unit(5, 4)),
        npy(np.full((5, 4), np.nan, np.float32)),
        npy([{}]),
        HUGE,
        b"",
        npy(unit(5, 4)) + b"x",
    ],
)
def test_other_vectors_are_refused_behind_right_hashes(saved: Path, data: bytes) -> None:
    (saved / "embeddings.npy").write_bytes(data)
    sign(saved)
    with pytest.raises(FormatError, match=r"embeddings\.npy: expected"):
        Gallery.open(saved)


def test_an_index_of_other_vectors_is_refused(saved: Path, tmp_path: Path) -> None:
    rows = [GalleryRow("x.png", "x")] * 5
    Gallery.build(unit(5, 4, 3), rows, fingerprint=PRINT).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "faiss.index", saved / "faiss.index")
    sign(saved)
    with pytest.raises(FormatError, match=r"faiss\.index.*no flat inner-product index.*gallery reindex"):
        Gallery.open(saved)


def _ledger_line(**changes: object) -> str:
    return json.dumps({"generation": 1, "op": "build", "rows": 5, "next_id": 5, **changes}) + "\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("meta.jsonl", '{"id": 0, "path": "a", "label": "b", "aug": ""}\n', "5 vectors, 1 ids and 1 rows"),
        ("meta.jsonl", '{"id": 0, "path": "a", "aug": ""}\n' * 5, "an object with 'label'"),
        ("meta.jsonl", '{"id": 7, "path": "a", "label": "b", "aug": ""}\n' * 5, "ascending ids"),
        ("meta.jsonl", '{"id": 0.5, "path": "a", "label": "b", "aug": ""}\n' * 5, "in id a whole number, found 0.5"),
        (
            "meta.jsonl",
            '{"id": 99999999999999999999, "path": "a", "label": "b", "aug": ""}\n' * 5,
            "line 1: expected in id a whole number",
        ),
        ("meta.jsonl", "[]\n", "expected an object"),
        ("meta.jsonl", "{}", "a line feed behind every line"),
        ("ledger.jsonl", "", "generations 1 to 1"),
        ("ledger.jsonl", _ledger_line(generation=2), "generations 1 to 1"),
        ("ledger.jsonl", _ledger_line(next_id=4), "next_id above 4"),
        (
            "faiss_meta.json",
            '{"metric": "cosine", "kind": "flat", "dim": 4, "size": 5}',
            "in metric another value",
        ),
        ("faiss_meta.json", '{"metric": "l2", "kind": "ivf", "dim": 4, "size": 5}', "metric ip"),
        ("ledger.jsonl", _ledger_line(op="tidy"), "line 1: expected in op another value"),
        ("ledger.jsonl", _ledger_line(op="rollback", to=7), "what was done"),
        ("ledger.jsonl", _ledger_line(op="remove", removed=7), "line 1: expected in removed a list"),
        ("ledger.jsonl", _ledger_line(removed=[[1, "a", "b", ""]]), "1 removed rows, but"),
        ("ledger.jsonl", _ledger_line(added=[[0, 10**15]]), "ids below next_id"),
        ("ledger.jsonl", _ledger_line(note=[]), "in note an object"),
        ("ledger.jsonl", _ledger_line(rows="many"), "in rows a whole number"),
        ("faiss_meta.json", '{"metric": "ip", "kind": "flat", "dim": 3, "size": 5}', "dim 4"),
        ("thresholds.json", "[" * 100_000, "JSON"),
        ("thresholds.json", '{"rule": "", "default": NaN, "classes": {}, "counts": {}}', "finite"),
        ("thresholds.json", '{"rule": "", "default": 0, "classes": {}, "counts": {"": {"right": NaN}}}', "finite"),
        ("thresholds.json", '{"rule": "", "default": 0, "classes": {}, "counts": {"": {"right": 1e999}}}', "finite"),
        ("thresholds.json", '{"rule": "", "default": "0.5"}', "in default a number, found '0.5'"),
    ],
)
def test_files_that_disagree_are_refused_behind_right_hashes(saved: Path, name: str, text: str, message: str) -> None:
    (saved / name).write_text(text, encoding="utf-8")
    sign(saved)
    with pytest.raises(FormatError, match=message):
        Gallery.open(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", 99), ("fingerprint", 7), ("rows", 0), ("dim", "4"), ("files", {"../../passwd": "00"}), ("files", [])],
)
def test_a_manifest_of_another_make_is_refused(saved: Path, key: str, value: object) -> None:
    def change(manifest: dict[str, object]) -> dict[str, object]:
        facts = {name: old for name, old in {**manifest, key: value}.items() if name != "checksum"}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return {**facts, "checksum": digest}

    alter(saved / "manifest.json", change)
    with pytest.raises(FormatError, match=r"manifest\.json: expected"):
        Gallery.open(saved)


def test_a_changed_fingerprint_is_noticed(saved: Path) -> None:
    alter(saved / "manifest.json", lambda manifest: {**manifest, "fingerprint": "b" * 64})
    with pytest.raises(FormatError, match="checksum"):
        Gallery.open(saved, fingerprint="b" * 64)
