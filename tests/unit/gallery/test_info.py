"""What a gallery says about itself: its listing, its ledger, its layout on disk, and the encoder that it remembers."""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.errors import FormatError, InputError, JsonError, MissingPathError
from naruto_vision.gallery.content import (
    GalleryRow,
    archived_ids,
    as_ranges,
    build_content,
    from_ranges,
    line_counts,
    rows_changed,
    unit_rows,
)
from naruto_vision.gallery.edits import add_rows, relabel_rows, remove_rows, roll_back
from naruto_vision.gallery.gallery import Gallery, edit_gallery, reindex_gallery
from naruto_vision.gallery.index import NO_BUDGETS, IndexMeta, SearchBudget
from naruto_vision.gallery.info import encoder_options, list_gallery
from naruto_vision.gallery.store import (
    ALWAYS,
    located_note,
    manifest_checksum,
    parse_json,
    parse_lines,
    read_files,
    read_manifest,
)
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.io.atomic import json_bytes, lines_bytes
from naruto_vision.records import Vectors

_QUICK = settings(max_examples=50, deadline=None, derandomize=True)
PRINT = "ab" * 32
META = b'{"metric": "ip", "kind": "ivf", "dim": 5, "size": 7, "efforts": %b}'
NAMES = ["ann", "Zoë", "bob", "ann", "ナルト", "bob", "ann"]


def _units(count: int, dim: int = 5, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    rows = [GalleryRow(f"{k}.png", name) for k, name in enumerate(NAMES)]
    Gallery.build(_units(7), rows, fingerprint=PRINT, index="exact", thresholds=Thresholds(0.5)).save(tmp_path / "g")
    return tmp_path / "g"


def test_a_listing_says_what_the_gallery_is(saved: Path) -> None:
    found = list_gallery(saved)
    assert (found.generation, found.fingerprint, found.dim, found.total) == (1, PRINT, 5, 7)
    assert list(found.labels.items()) == [("Zoë", 1), ("ann", 3), ("bob", 2), ("ナルト", 1)]
    assert (found.rows, found.stale_since, found.budgets) == ((), None, NO_BUDGETS)
    assert found.thresholds["default"] == 0.5
    assert [line["op"] for line in found.ledger] == ["build"]


def test_a_listing_as_json_has_the_rows_where_they_were_asked_for(saved: Path) -> None:
    plain, whole = list_gallery(saved).as_json(rows=False), list_gallery(saved, rows=True).as_json(rows=True)
    assert "meta" not in plain
    assert {key: value for key, value in whole.items() if key != "meta"} == plain
    assert [(row["id"], row["label"], row["path"]) for row in whole["meta"]] == [
        (k, name, f"{k}.png") for k, name in enumerate(NAMES)
    ]
    assert list_gallery(saved, rows=False).as_json(rows=True)["meta"] == []
    assert (plain["rows"], plain["threshold"], plain["thresholds_stale_since"]) == (7, 0.5, None)
    json.dumps(whole)


def test_a_listing_follows_every_edit(saved: Path) -> None:
    edit_gallery(
        saved, add_rows, _units(2, seed=1), [GalleryRow("x.png", "new"), GalleryRow("y.png", "new")], fingerprint=PRINT
    )
    edit_gallery(saved, relabel_rows, [7], "newer")
    edit_gallery(saved, remove_rows, [0])
    found = list_gallery(saved)
    assert (found.generation, found.total, found.stale_since) == (4, 8, 4)
    assert found.labels == {"Zoë": 1, "ann": 2, "bob": 2, "new": 1, "newer": 1, "ナルト": 1}
    assert [line_counts(line) for line in found.ledger] == [
        {"added": 7, "removed": 0, "relabelled": 0},
        {"added": 2, "removed": 0, "relabelled": 0},
        {"added": 0, "removed": 0, "relabelled": 1},
        {"added": 0, "removed": 1, "relabelled": 0},
    ]
    edit_gallery(saved, roll_back, 1)
    found = list_gallery(saved)
    assert (found.generation, found.total, found.stale_since) == (5, 7, None)


def test_without_thresholds_nothing_is_stale(tmp_path: Path) -> None:
    Gallery.build(_units(2), [GalleryRow("1", "a"), GalleryRow("2", "b")], fingerprint=PRINT, index="exact").save(
        tmp_path
    )
    edit_gallery(tmp_path, relabel_rows, [0], "c")
    assert list_gallery(tmp_path).stale_since is None


def test_a_listing_reads_no_vectors(saved: Path) -> None:
    (saved / "embeddings.npy").write_bytes(b"damaged")
    assert list_gallery(saved).total == 7
    (saved / "stats.json").write_bytes(b"{}")
    with pytest.raises(FormatError, match=r"stats\.json: expected sha256"):
        list_gallery(saved)


def _forge(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(data).hexdigest()
    manifest["checksum"] = manifest_checksum(manifest)
    (folder / "manifest.json").write_bytes(json_bytes(manifest))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("stats.json", b"[]", "expected an object"),
        ("stats.json", b'{"counts": {"a": 6}}', "labels with counts that add up to 7"),
        ("stats.json", b'{"counts": {"a": "7"}}', "in counts.* a whole number"),
        ("stats.json", b'{"counts": {"a": 7, "b": null}}', "in counts.* a whole number"),
        ("stats.json", b"{", "not JSON"),
        ("faiss_meta.json", META % b"3", "in efforts an object"),
        ("faiss_meta.json", META % b'{"image": {}, "text": {}}', "in efforts"),
        ("ledger.jsonl", b"[]\n", "expected an object"),
        ("ledger.jsonl", b"{}", "a line feed behind every line"),
    ],
)
def test_files_that_say_something_else_behind_right_hashes_are_refused(
    saved: Path, name: str, data: bytes, words: str
) -> None:
    _forge(saved, name, data)
    with pytest.raises(FormatError, match=words) as caught:
        list_gallery(saved)
    assert str(saved / name) in str(caught.value)
    assert "enrol again" in str(caught.value)


def test_paths_of_the_enrolment_are_found_from_other_folders(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = saved.parent
    note = {"encoder": {"kind": "clip", "model": "runs/bundle", "pretrained": None}, "root": "images"}
    Gallery.build(
        np.eye(2, dtype=np.float32), [GalleryRow("a", "a"), GalleryRow("b", "b")], fingerprint="0" * 64, note=note
    ).save(project / "runs" / "gallery")
    (project / "runs" / "bundle").mkdir()
    (project / "images").mkdir()
    (project / "elsewhere").mkdir()
    for here, there in (
        (project, "runs/bundle"),
        (project.parent, f"{project.name}/runs/bundle"),
        (project / "elsewhere", str(project / "runs" / "bundle")),
    ):
        monkeypatch.chdir(here)
        for found in (Gallery.open(project / "runs" / "gallery").note, list_gallery(project / "runs" / "gallery").note):
            assert found["encoder"]["model"] == there
            assert Path(found["root"]).samefile(project / "images")


@pytest.mark.parametrize("recorded", ["tiny-clip", "/absolute/bundle", "../bundle", "not/there"])
def test_names_and_other_paths_of_the_enrolment_stay(saved: Path, recorded: str) -> None:
    (saved.parent / "tiny-clip").mkdir()
    note = {"encoder": {"kind": "ensemble", "members": [{"kind": "clip", "model": recorded}], "weights": [1.0]}}
    assert located_note(note, saved) == note


@pytest.mark.parametrize(
    "note",
    [
        {"root": 7},
        {"heads": "vote"},
        {"heads": {"rules": [1]}},
        {"heads": {"rules": {"vote": {"right": "z"}}, "of": 5}},
        {"heads": {"rules": {"vote": {"right": 9}}, "of": 5}},
        {"heads": {"colour": 10**400, "of": 10**400}},
        {"enrol": {"by": "all"}},
        {"enrolment": [1]},
    ],
)
def test_a_note_of_other_types_is_refused_where_the_gallery_is_read(saved: Path, note: dict[str, Any]) -> None:
    line = {"generation": 1, "op": "build", "rows": 7, "next_id": 7, "note": note}
    (saved / "ledger.jsonl").write_bytes(lines_bytes([line]))
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["files"]["ledger.jsonl"] = hashlib.sha256((saved / "ledger.jsonl").read_bytes()).hexdigest()
    (saved / "manifest.json").write_bytes(json_bytes(manifest | {"checksum": manifest_checksum(manifest)}))
    for read in (list_gallery, Gallery.open):
        with pytest.raises(FormatError, match=r"ledger\.jsonl: line 1"):
            read(saved)


@pytest.mark.parametrize(
    ("note", "options"),
    [
        ({}, []),
        ({"encoder": "clip"}, []),
        ({"encoder": {}}, []),
        ({"encoder": {"kind": "other", "model": "x"}}, []),
        ({"encoder": {"kind": "clip"}}, []),
        (
            {"encoder": {"kind": "clip", "model": "ViT-B-32", "pretrained": "openai", "bits": None}},
            [
                "--model.encoder=naruto_vision.ClipEncoder",
                "--model.encoder.init_args.model=ViT-B-32",
                "--model.encoder.init_args.pretrained=openai",
            ],
        ),
        (
            {"encoder": {"kind": "dino", "model": "small", "image_size": 0}},
            [
                "--model.encoder=naruto_vision.DinoEncoder",
                "--model.encoder.init_args.model=small",
                "--model.encoder.init_args.image_size=0",
            ],
        ),
    ],
)
def test_the_encoder_that_is_remembered_becomes_options(note: dict[str, Any], options: list[str]) -> None:
    assert encoder_options(note) == options


@_QUICK
@given(st.sets(st.integers(0, 60)))
def test_ranges_are_few_and_read_back(ids: set[int]) -> None:
    rising = sorted(ids)
    ranges = as_ranges(rising)
    assert list(from_ranges(ranges)) == rising
    assert all(first <= last for first, last in ranges)
    assert all(ranges[k][1] + 1 < ranges[k + 1][0] for k in range(len(ranges) - 1))


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ({"op": "build", "rows": 9}, (9, 0, 0)),
        ({"op": "add", "rows": 9, "added": [[2, 4], [7, 7]]}, (4, 0, 0)),
        ({"op": "remove", "rows": 9, "removed": [[1, "p", "l", "none"]]}, (0, 1, 0)),
        ({"op": "relabel", "rows": 9, "relabelled": [[1, "a", "b"], [2, "a", "b"]]}, (0, 0, 2)),
        ({"op": "rollback", "rows": 9, "added": [[1, 1]], "removed": [[2], [3]], "relabelled": [[4]]}, (1, 2, 1)),
        ({"op": "thresholds", "rows": 9}, (0, 0, 0)),
    ],
)
def test_what_a_line_changed(line: dict[str, Any], counts: tuple[int, int, int]) -> None:
    assert tuple(line_counts(line).values()) == counts


def test_rows_that_were_taken_out_twice_are_kept_once_in_the_order_of_the_first_time() -> None:
    ledger = [{"removed": [[5, "p"], [2, "q"]]}, {}, {"removed": [[2, "q"], [9, "r"]]}]
    assert archived_ids(ledger) == [5, 2, 9]
    assert archived_ids([]) == []


@pytest.mark.parametrize(
    ("ops", "since"),
    [
        (["build"], None),
        (["build", "add"], 2),
        (["build", "add", "thresholds"], None),
        (["build", "thresholds", "relabel", "remove"], 4),
        (["build", "reindex"], None),
        (["build", "add", "reindex", "thresholds", "reindex"], None),
        (["build", "add", ("rollback", 1)], None),
        (["build", "add", "thresholds", "remove", ("rollback", 3)], None),
        (["build", "add", "thresholds", ("rollback", 2)], 2),
        (["build", "add", ("rollback", 1), ("rollback", 2)], 2),
    ],
)
def test_since_when_thresholds_are_stale(ops: list[str | tuple[str, int]], since: int | None) -> None:
    lines = [{"op": one} if isinstance(one, str) else {"op": one[0], "to": one[1]} for one in ops]
    assert rows_changed(lines) == since


_TEXT = st.text('ab\n\r\u2028ナ"\\', max_size=4)
_JSON = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT


@_QUICK
@given(st.lists(st.dictionaries(_TEXT, _JSON | st.lists(_JSON, max_size=2), max_size=3), max_size=4))
def test_json_lines_read_back_whatever_is_in_them(values: list[dict[str, Any]]) -> None:
    data = lines_bytes(values)
    assert parse_lines(Path("x.jsonl"), data, dict) == values
    assert data.count(b"\n") == len(values)
    assert parse_json(Path("x.json"), json_bytes(values), list) == values


def test_names_that_are_no_unicode_and_odd_line_ends_survive() -> None:
    values = [{"path": "\udcff.png", "label": "a\u2028b\x85c\r"}]
    assert parse_lines(Path("x"), lines_bytes(values), dict) == values


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000, b"1,"])
def test_bytes_that_are_no_json_name_the_file(data: bytes) -> None:
    with pytest.raises(JsonError, match=r"x\.json: not JSON .*the gallery is damaged"):
        parse_json(Path("x.json"), data, dict)


def test_json_holds_no_number_that_is_not_finite() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_bytes([float("nan")])
    with pytest.raises(ValueError, match="not JSON compliant"):
        lines_bytes([{"x": float("inf")}])


def test_a_manifests_checksum_covers_all_but_itself() -> None:
    facts = {"format": 1, "rows": 3}
    own = manifest_checksum(facts)
    assert manifest_checksum({**facts, "checksum": own}) == own
    assert manifest_checksum({**facts, "rows": 4}) != own
    assert manifest_checksum(dict(reversed(facts.items()))) == own


def test_no_gallery_here_names_one_that_lies_below(saved: Path) -> None:
    with pytest.raises(InputError, match=rf"no gallery here, it has no manifest\.json; there is one in {saved}"):
        read_manifest(saved.parent)
    with pytest.raises(MissingPathError, match="enrol first with"):
        read_manifest(saved / "nowhere")


def test_only_the_files_that_are_asked_for_are_read(saved: Path) -> None:
    manifest, files = read_files(saved, ["stats.json", "nothing.json"])
    assert set(files) == {"stats.json"}
    assert manifest["rows"] == 7
    assert set(read_files(saved)[1]) == set(ALWAYS)


def test_budgets_read_back_and_nothing_else_does() -> None:
    budgets = {"image": SearchBudget(4, 0.98764, 10, 20), "text": SearchBudget(1, 1, 1, 1)}
    stored = {kind: budget.as_json() for kind, budget in budgets.items()}
    assert stored["image"] == {"width": 4, "recall": 0.9876, "queries": 10, "rows": 20}
    meta: dict[str, Any] = {"metric": "ip", "kind": "ivf", "dim": 5, "size": 7}
    found = msgspec.convert({**meta, "efforts": stored}, IndexMeta).budgets
    assert found == {"image": SearchBudget(4, 0.9876, 10, 20), "text": SearchBudget(1, 1, 1, 1)}
    assert msgspec.convert(meta, IndexMeta).budgets is NO_BUDGETS
    wrong: list[object] = [
        3,
        {},
        {"image": stored["image"]},
        {**stored, "text": {"width": 1}},
        {**stored, "text": None},
    ]
    for one in wrong:
        with pytest.raises(ValueError, match=r"efforts"):
            msgspec.convert({**meta, "efforts": one}, IndexMeta)


@pytest.mark.parametrize(
    "wrong",
    [{"width": 0}, {"width": True}, {"queries": 0}, {"rows": -1}, {"rows": 2.0}, {"recall": 1.1}, {"recall": "1"}],
)
def test_an_effort_of_impossible_numbers_is_refused(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {"width": 1, "recall": 0.5, "queries": 1, "rows": 1}
    with pytest.raises(ValueError, match="xpected"):
        msgspec.convert(good | wrong, SearchBudget)


@pytest.mark.parametrize(
    ("label", "words"), [("", "x.png: expected a label"), ("unknown", "x.png: 'unknown' is reserved")]
)
def test_nobody_has_no_name_or_the_name_of_nobody(label: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        GalleryRow("x.png", label)


@_QUICK
@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 99))
def test_unit_rows_lose_their_last_rounding_and_keep_their_direction(count: int, dim: int, seed: int) -> None:
    vectors = _units(count, dim, seed) * np.float32(1.004)
    found = unit_rows(vectors, "vectors")
    assert np.abs(np.linalg.norm(found.astype(np.float64), axis=1) - 1).max() < 1e-6
    assert found == pytest.approx(vectors / 1.004, abs=1e-5)
    assert found.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (np.ones(3, np.float32), r"vectors: expected float32 of shape \(N, D\), found float32 \(3,\)"),
        (np.eye(2), "found float64"),
        (np.array([[1, 0], [0, 1.02]], np.float32), r"found 1\.02 in row 1; normalise the vectors"),
        (np.array([[0, 0]], np.float32), "found 0 in row 0"),
        (np.array([[np.nan, 1]], np.float32), "found nan in row 0"),
    ],
)
def test_what_are_no_unit_rows_is_told(vectors: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        unit_rows(vectors, "vectors")


def test_a_new_gallery_counts_its_rows_from_nought() -> None:
    rows = [GalleryRow("1", "b"), GalleryRow("2", "a", "gamma"), GalleryRow("3", "b")]
    content = build_content(_units(3), rows, PRINT, Thresholds(), {"enrolment": {"images": 3}})
    assert (content.ids.tolist(), content.next_id, content.generation) == ([0, 1, 2], 3, 1)
    assert content.stats() == {
        "enrolment": {"images": 3},
        "total": 3,
        "dim": 5,
        "counts": {"a": 1, "b": 2},
        "aug": {"gamma": 1, "none": 2},
    }
    assert list(content.stats()["counts"]) == ["a", "b"]
    plain = build_content(_units(3), rows, PRINT, Thresholds())
    assert "enrolment" not in plain.stats()
    assert plain.note == {}
    assert plain.digest() == content.digest()  # how it came to be changes no answer


def test_an_index_made_anew_keeps_every_row_and_says_so(saved: Path) -> None:
    before = list_gallery(saved, rows=True)
    gallery = reindex_gallery(saved, "exact")
    after = list_gallery(saved, rows=True)
    assert (after.generation, after.ledger[-1]["op"], after.ledger[-1]["index"]) == (2, "reindex", "exact")
    assert after.rows == before.rows
    assert gallery.ids == tuple(range(7))


def test_an_edit_that_is_refused_names_the_gallery_and_changes_nothing(saved: Path) -> None:
    before = read_files(saved)
    for ids, words in (([99], "99"), (range(7), "that is all 7 entries")):
        with pytest.raises(InputError, match=words) as caught:
            edit_gallery(saved, remove_rows, ids)
        assert str(caught.value).startswith(f"{saved}: ")
    with pytest.raises(InputError, match="all of these entries are 'ann' already"):
        edit_gallery(saved, relabel_rows, [0, 3], "ann")
    assert read_files(saved) == before
