"""``naruto-vision gallery``: list, log, edits, checks and additions."""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from naruto_vision.cli.gallery import add_row_options, chosen_ids, embed_files
from naruto_vision.cli.main import main
from naruto_vision.cli.trainer_args import REGIONS
from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import InputError
from naruto_vision.gallery import store as layout
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.edits import add_rows, relabel_rows, remove_rows, roll_back
from naruto_vision.gallery.gallery import Gallery, edit_gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.io.images import read_image
from naruto_vision.recognition import enrolment
from naruto_vision.segmentation.detector import BoxDetector, BoxModel, DetectorPrompter
from naruto_vision.segmentation.generator import Segmenter

CROP = "b/9.png#xywh=1,2,8,8"


def drawn(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 255, (12, 10, 3), dtype=np.uint8)
    cv2.imwrite(str(path), image)
    return path


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of three images by the packaged encoder, with thresholds."""
    folder = tmp_path_factory.mktemp("enrolled")
    encoder = ClipEncoder("tiny-clip")
    paths = ["a/0.png", "a/1.png", "b/0.png"]
    images = [read_image(drawn(folder / "data" / path, seed)) for seed, path in enumerate(paths)]
    Gallery.build(
        embed_images(encoder, images, mirror=True).numpy(),
        [GalleryRow(path, path[0]) for path in paths],
        fingerprint=encoder.fingerprint,
        thresholds=Thresholds(0.5, {}, "by hand"),
        note={"encoder": dict(encoder.recipe), "mirror": True, "root": "data"},
    ).save(folder / "g")
    return folder


@pytest.fixture
def home(enrolled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the gallery and its images, as the working folder."""
    shutil.copytree(enrolled, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["gallery", *words]) == code
    out, err = capsys.readouterr()
    return out if code == 0 else out + err


def listed(capsys: pytest.CaptureFixture[str]) -> dict[int, tuple[str, str]]:
    found = json.loads(told(capsys, "list", "g", "--rows", "--json"))
    return {row["id"]: (row["path"], row["label"]) for row in found["meta"]}


def test_list_shows_labels_counts_and_rows(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "list", "g")
    assert "generation 1, 3 entries, 2 labels, 192 dimensions, index flat (ip)" in text
    assert "  a       2\n  b       1\n" in text
    assert text.endswith("thresholds: 0.5, 0 labels have their own\n")
    assert "       2  b  none     b/0.png\n" in told(capsys, "list", "g", "--rows")
    found = json.loads(told(capsys, "list", "g", "--json"))
    assert (found["rows"], found["labels"], found["thresholds_stale_since"]) == (3, {"a": 2, "b": 1}, None)
    assert home.is_dir()


def test_images_are_added_as_the_enrolment_would(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An added image gets the very vector that enrolling it would have given, and the others keep theirs."""
    drawn(home / "data" / "b" / "9.png", 9)
    before = Gallery.open("g")
    text = told(capsys, "add", "g", "data/b", "--label", "b")
    assert "g: 1 added; 4 entries in generation 2" in text
    assert "thresholds were chosen with other entries" in text
    assert "2 images seen = 1 added + 1 already in the gallery + 0 unreadable" in text
    after = Gallery.open("g")
    assert listed(capsys)[3] == ("b/9.png", "b")
    assert after.vectors[:3].tobytes() == before.vectors.tobytes()
    image = read_image(home / "data" / "b" / "9.png")
    expected = embed_images(ClipEncoder("tiny-clip"), [image], mirror=True).numpy()
    assert after.vectors[3] == pytest.approx(expected[0], abs=1e-6)
    assert "0 added + 2 already in the gallery" in told(capsys, "add", "g", "data/b", "--label", "b")
    assert Gallery.open("g").generation == 2


@pytest.mark.parametrize(("way", "paths"), [("region", [CROP]), ("both", ["b/9.png", CROP])])
def test_images_are_added_by_their_region_as_they_were_enrolled(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, way: str, paths: list[str]
) -> None:
    drawn(home / "data" / "b" / "9.png", 9)
    words = ("add", "g", "data/b", "--label", "b")
    BoxDetector("random", image_size=64).save(REGIONS)
    segmenter = Segmenter(DetectorPrompter(REGIONS), BoxModel())
    before = Gallery.open("g")
    note = {**before.note, "enrol": {"by": way, "detector": segmenter.fingerprint}}
    Gallery.build(before.vectors, before.rows, fingerprint=before.fingerprint, note=note).save("g")
    monkeypatch.setattr(enrolment, "only_crop", lambda _, image: ((1, 2, 8, 9), image[2:10, 1:9]))
    assert "2 images seen = 1 added + 1 already in the gallery + 0 unreadable" in told(capsys, *words)
    after = Gallery.open("g")
    assert [row.path for row in after.rows[3:]] == paths
    crop = np.ascontiguousarray(read_image(home / "data" / "b" / "9.png")[2:10, 1:9])
    expected = embed_images(ClipEncoder("tiny-clip"), [crop], mirror=True).numpy()
    assert after.vectors[-1] == pytest.approx(expected[0], abs=1e-6)
    (home / "data" / "b" / "9.png").touch()
    assert "0 added + 2 already in the gallery" in told(capsys, *words)
    shutil.rmtree(REGIONS)
    drawn(home / "data" / "b" / "8.png", 8)
    assert main(["gallery", *words]) == 0
    line = "images are added whole: g was enrolled by regions of a detector that is not in runs/regions/bundle"
    assert line in capsys.readouterr().err
    assert Gallery.open("g").rows[-1].path == "b/8.png"


def test_class_folders_are_added_in_generations_and_bad_files_counted(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        drawn(home / "more" / "c" / f"{seed}.png", 20 + seed)
    (home / "more" / "c" / "broken.png").write_bytes(b"no image")
    text = told(capsys, "add", "g", "--root", "more", "--publish-every", "1")
    assert "4 images seen = 3 added + 0 already in the gallery + 1 unreadable" in text
    assert {label for _, label in listed(capsys).values()} == {"a", "b", "c"}
    assert listed(capsys)[3][0] == (home / "more" / "c" / "0.png").as_posix()  # outside of the enrolled root


def test_what_another_process_adds_meanwhile_is_not_added_twice(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn(home / "new.png", 30)
    words, embed = ["gallery", "add", "g", "new.png", "--label", "b"], embed_files

    def meanwhile(*args: Any, **options: Any) -> Iterator[tuple[Any, list[int]]]:
        monkeypatch.setattr("naruto_vision.cli.gallery.embed_files", embed)
        assert main(words) == 0
        yield from embed(*args, **options)

    monkeypatch.setattr("naruto_vision.cli.gallery.embed_files", meanwhile)
    assert main(words) == 2
    assert "another process has added " in capsys.readouterr().err
    assert [path for path, _ in listed(capsys).values()].count((home / "new.png").as_posix()) == 1


def test_nothing_readable_is_an_error(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "broken.png").write_bytes(b"no image")
    assert "error: broken.png: " in told(capsys, "add", "g", "broken.png", "--label", "b", code=2)
    assert Gallery.open("g").generation == 1


def test_another_encoder_adds_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn(home / "new.png", 7)
    words = ("add", "g", "new.png", "--label", "b", "--encoder", "tiny-clip", "--weights", "random")
    assert "opened with encoder" in told(capsys, *words, code=2)
    assert Gallery.open("g").generation == 1


def test_remove_relabel_rollback_and_log(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 removed; 2 entries in generation 2" in told(capsys, "remove", "g", "--path", "a/1.png")
    assert listed(capsys) == {0: ("a/0.png", "a"), 2: ("b/0.png", "b")}
    assert "STALE: entries changed in generation 2" in told(capsys, "list", "g")
    assert "1 relabelled; 2 entries in generation 3" in told(capsys, "relabel", "g", "--label", "b", "--to", "c")
    assert "1 added, 1 relabelled; 3 entries in generation 4" in told(capsys, "rollback", "g", "--to", "1")
    assert listed(capsys) == {0: ("a/0.png", "a"), 1: ("a/1.png", "a"), 2: ("b/0.png", "b")}
    assert "STALE" not in told(capsys, "list", "g")
    log = told(capsys, "log", "g").splitlines()
    assert [line.split()[:2] for line in log] == [["1", "build"], ["2", "remove"], ["3", "relabel"], ["4", "rollback"]]
    assert json.loads(told(capsys, "log", "g", "--json").splitlines()[1])["removed"] == [[1, "a/1.png", "a", "none"]]
    assert home.is_dir()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("remove", "g"), "give --id, --label or --path"),
        (("remove", "g", "--label", "nobody"), "g: no entry has 'nobody'; `naruto-vision gallery list g --rows`"),
        (("remove", "g", "--path", "x"), "g: no entry has 'x'; `naruto-vision gallery list g --rows`"),
        (("relabel", "g", "--label", "nobody", "--to", "b"), "g: no entry has 'nobody'; `naruto-vision gallery list g"),
        (("remove", "g", "--id", "77"), "g: no entry has id 77; `naruto-vision gallery list g --rows`"),
        (("remove", "g", "--label", "a", "b"), "g: remove: that is all 3 entries"),
        (("relabel", "g", "--id", "2", "--to", "b"), "g: relabel: all of these entries are 'b' already"),
        (("list", "."), ".: no gallery here, it has no manifest.json; there is one in g"),
        (("list", "data"), "data: no gallery here, it has no manifest.json; enrol first"),
        (("rollback", "g", "--to", "1"), "g: rollback: expected an earlier generation, of which there is none yet"),
        (("add", "g"), "give images and their --label"),
        (("add", "g", "a.png"), "give images and their --label"),
        (("add", "g", "none.png", "--label", "a"), "none.png: no such image"),
        (("add", "g", "data/a/0.png", "--label", "a", "--publish-every", "0"), "expected a whole number of 1 or more"),
        (("list", "nowhere"), "nowhere: no such gallery"),
        (("verify", "nowhere"), "nowhere: no such gallery"),
    ],
)
def test_mistakes_are_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    text = told(capsys, *words, code=2)
    assert message in text
    assert text.count("\n") == 1
    assert Gallery.open(home / "g").generation == 1


def test_verify_says_what_is_wrong(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "verify", "g", "--encoder", "tiny-clip", "--root", "data")
    assert [line.split()[0] for line in text.splitlines()] == ["ok"] * 8
    assert "3 of 3 are there" in text
    wrong = told(capsys, "verify", "g", "--encoder", "tiny-clip", "--weights", "random", code=1)
    assert "use the encoder that built it" in wrong
    told(capsys, "remove", "g", "--id", "0")
    assert "warning thresholds  entries changed in generation 2" in told(capsys, "verify", "g")
    (home / "g" / "embeddings.npy").write_bytes(b"")
    found = json.loads(told(capsys, "verify", "g", "--json", code=1))
    assert found["verdict"] == "wrong"
    assert [item["check"] for item in found["findings"] if item["verdict"] == "wrong"] == ["hashes", "content"]


def test_verify_finds_images_below_the_folder_that_was_enrolled(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.move(home / "data", home / "cast" / "train")  # rows of a split are stored relative to the split's folder
    assert "3 of 3 are there" in told(capsys, "verify", "g", "--root", "cast")
    (home / "cast" / "train" / "a" / "1.png").unlink()
    assert "2 of 3 are there; first missing a/1.png" in told(capsys, "verify", "g", "--root", "cast")


def test_verify_help_does_not_promise_an_encoder(capsys: pytest.CaptureFixture[str]) -> None:
    assert "default: none, the encoder is not checked" in " ".join(told(capsys, "verify", "--help").split())
    assert "default: the one that built the gallery" in " ".join(told(capsys, "add", "--help").split())


def test_verify_notices_one_vector_under_two_names(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gallery = Gallery.open("g")
    rows = [GalleryRow("x.png", "a"), GalleryRow("y.png", "b")]
    Gallery.build(gallery.vectors[[0, 0]], rows, fingerprint=gallery.fingerprint).save(home / "twice")
    assert "1 vectors have several labels, 1 as a = b" in told(capsys, "verify", "twice")


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf", "exact"])
def test_reindex_changes_the_kind_and_leaves_a_ledger_line(
    home: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    before = Gallery.open("g")
    assert f"index {kind} of 3 entries" in told(capsys, "reindex", "g", "--index", kind)
    after = Gallery.open(home / "g")
    assert (after.digest, after.generation) == (before.digest, 2)
    assert after.content.ledger[-1] == {"generation": 2, "op": "reindex", "rows": 3, "next_id": 3, "index": kind}
    assert f"reindex           3 entries  to {kind}" in told(capsys, "log", "g")
    assert after.search(before.vectors, 2) == before.search(before.vectors, 2)
    assert told(capsys, "verify", "g").count("ok ") == 7


def test_list_takes_counts_from_the_statistics_and_tells_how_far_an_index_looks(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told(capsys, "reindex", "g", "--index", "ivf")
    read: list[str] = []
    whole = layout._read_checked

    def spy(root: Path, name: str, digest: object) -> bytes:
        read.append(name)
        return whole(root, name, digest)

    monkeypatch.setattr(layout, "_read_checked", spy)
    shown = told(capsys, "list", "g")
    assert "3 entries" in shown
    assert "nprobe 1 for image queries (recall@10 1.000 of 1)" in shown
    assert "meta.jsonl" not in read  # a line a row: the only file here that grows with the gallery
    told(capsys, "list", "g", "--rows")
    assert "meta.jsonl" in read
    assert "recall@10 1.000 for image queries" in told(capsys, "verify", "g")
    assert home.is_dir()


def test_verify_asks_for_a_new_measurement_when_an_index_has_grown(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(capsys, "reindex", "g", "--index", "ivf")
    gallery = Gallery.open("g")
    rows = [GalleryRow("x.png", "a")] * 3
    edit_gallery(home / "g", add_rows, gallery.vectors, rows, fingerprint=gallery.fingerprint)
    assert "measured at 3 entries; measure again with `naruto-vision gallery reindex" in told(capsys, "verify", "g")


@pytest.mark.parametrize("command", ["list", "log", "verify"])
def test_what_only_reads_takes_the_usual_gallery(home: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    shutil.copytree(home / "g", "runs/gallery")
    assert told(capsys, command).replace("runs/gallery", "g") == told(capsys, command, "g")


@pytest.mark.parametrize("command", ["remove", "relabel", "reindex", "add"])
def test_what_changes_rows_wants_its_gallery_named(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert "required: GALLERY" in told(capsys, command, code=2)


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    rows = [GalleryRow(f"p{k}.png", name) for k, name in enumerate(["ann", "bob", "ann", "Zoë"])]
    built = Gallery.build(
        np.eye(4, dtype=np.float32), rows, fingerprint="cd" * 32, index="exact", thresholds=Thresholds(0.5)
    )
    built.save(tmp_path / "g")
    return tmp_path / "g"


def _chosen(gallery: Path, *words: str) -> list[int]:
    parser = argparse.ArgumentParser()
    add_row_options(parser)
    arguments = parser.parse_args(words)
    arguments.gallery = gallery
    return chosen_ids(arguments, Gallery.open(gallery, index="exact").content)


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (("--id", "2"), {2}),
        (("--label", "ann"), {0, 2}),
        (("--path", "p1.png", "p3.png"), {1, 3}),
        (("--id", "1", "--label", "Zoë", "--path", "p0.png"), {0, 1, 3}),
        (("--id", "0", "--label", "ann"), {0, 2}),
    ],
)
def test_rows_are_named_by_id_label_or_path(gallery: Path, words: tuple[str, ...], ids: set[int]) -> None:
    assert set(_chosen(gallery, *words)) == ids


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "no entries chosen: give --id, --label or --path"),
        (("--id", "9", "7", "0"), "no entry has id 7, id 9; "),
        (("--label", "eve", "ann"), "no entry has 'eve'; "),
        (("--path", "x.png", "--id", "8"), "no entry has id 8, 'x.png'; "),
    ],
)
def test_rows_that_are_not_there_are_named(gallery: Path, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError) as caught:
        _chosen(gallery, *words)
    assert str(caught.value).startswith(told)
    assert "naruto-vision gallery list" in str(caught.value)


def _printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(["gallery", *words]) == 0
    return capsys.readouterr().out


def test_a_list_for_people_has_labels_thresholds_and_rows(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _printed(capsys, "list", str(gallery), "--rows").splitlines()
    assert lines[0].startswith(f"{gallery}: generation 1, 4 entries, 3 labels, 4 dimensions, index ")
    assert lines[0].endswith("encoder cdcdcdcdcdcd")
    assert lines[1:4] == ["  Zoë       1", "  ann       2", "  bob       1"]
    assert lines[4] == "thresholds: 0.5, 0 labels have their own"
    assert lines[6].split() == ["ID", "LABEL", "AUG", "PATH"]
    assert [line.split() for line in lines[7:]] == [
        [str(k), name, "none", f"p{k}.png"] for k, name in enumerate(["ann", "bob", "ann", "Zoë"])
    ]


def test_a_list_without_rows_ends_with_the_thresholds(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_gallery(gallery, relabel_rows, [1], "ann")
    last = _printed(capsys, "list", str(gallery)).splitlines()[-1]
    assert last.endswith("; STALE: entries changed in generation 2, choose them again with `validate`")


def test_a_list_for_programs_is_json(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(_printed(capsys, "list", str(gallery), "--json", "--rows"))
    assert told["labels"] == {"Zoë": 1, "ann": 2, "bob": 1}
    assert [row["id"] for row in told["meta"]] == [0, 1, 2, 3]
    assert "meta" not in json.loads(_printed(capsys, "list", str(gallery), "--json"))


def test_a_log_has_a_line_a_generation(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_gallery(gallery, remove_rows, [0, 2])
    edit_gallery(gallery, relabel_rows, [1], "eve")
    edit_gallery(gallery, roll_back, 1)
    lines = _printed(capsys, "log", str(gallery)).splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["1", "build", "4"], ["2", "remove", "2"], ["3", "relabel", "2"], ["4", "rollback", "4"],
    ]  # fmt: skip
    assert lines[0].endswith("4 added")
    assert lines[1].endswith("2 removed")
    assert lines[2].endswith("1 relabelled")
    assert "to 1; 2 added, 1 relabelled" in lines[3]
    records = [json.loads(line) for line in _printed(capsys, "log", str(gallery), "--json").splitlines()]
    assert [record["generation"] for record in records] == [1, 2, 3, 4]


def test_an_edit_says_what_it_came_to(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = _printed(capsys, "remove", str(gallery), "--label", "ann")
    assert told.startswith(
        f"{gallery}: 2 removed; 2 entries in generation 2\nits thresholds were chosen with other entries;"
    )
    told = _printed(capsys, "relabel", str(gallery), "--id", "1", "--to", "eve")
    assert told.startswith(f"{gallery}: 1 relabelled; 2 entries in generation 3")
    assert _printed(capsys, "rollback", str(gallery), "--to", "1").startswith(
        f"{gallery}: 2 added, 1 relabelled; 4 entries"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("remove", "--id", "9"), "no entry has id 9"),
        (("remove", "--label", "ann", "bob", "Zoë"), "that is all 4 entries"),
        (("relabel", "--id", "0", "--to", "ann"), "all of these entries are 'ann' already"),
        (("rollback", "--to", "1"), "generation"),
    ],
)
def test_an_edit_that_cannot_be_is_one_line_with_the_folder(
    gallery: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    capsys.readouterr()
    assert main(["gallery", words[0], str(gallery), *words[1:]]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert str(gallery) in error
    assert error.count("\n") == 1


def test_an_image_that_has_another_label_is_reported_with_the_command_that_changes_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn(home / "new.png", 5)
    words = ("add", "g", "data/a/0.png", "new.png", "--label", "b")
    text = told(capsys, *words, code=1)
    assert "2 images seen = 1 added + 1 already in the gallery" in text
    assert "a/0.png: is in the gallery as a, not b; change its label with `naruto-vision gallery relabel g" in text
    assert listed(capsys)[0] == ("a/0.png", "a")
    told(capsys, "relabel", "g", "--path", "a/0.png", "--to", "b")
    told(capsys, *words)


@pytest.mark.parametrize("how", ["written", "moved"])
def test_an_image_that_has_changed_since_is_reported(how: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = drawn(home / "other.png", 5)
    told(capsys, "add", "g", "other.png", "--label", "b")
    drawn(home / "data" / "a" / "0.png", 8)
    assert "a/0.png: has changed since it was added" in told(capsys, "add", "g", "data/a", "--label", "a", code=1)
    told(capsys, "remove", "g", "--path", "a/0.png")
    assert "1 added" in told(capsys, "add", "g", "data/a", "--label", "a")
    if how == "moved":  # a file that is older than the gallery takes the place of an entry's
        other.rename(home / "data" / "a" / "1.png")
        assert "a/1.png: has changed" in told(capsys, "add", "g", "data/a", "--label", "a", code=1)


def test_an_image_that_was_only_touched_is_the_same(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "relabel", "g", "--label", "b", "--to", "c")
    (home / "data" / "a" / "0.png").touch()
    assert "has changed" not in told(capsys, "add", "g", "data/a", "--label", "a")


def test_an_image_is_added_as_not_a_label(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = drawn(home / "new.png", 7)
    before = json.loads(told(capsys, "list", "g", "--json"))["labels"]
    assert "negative rows of a: 1 added, 0 were there" in told(capsys, "add", "g", "new.png", "--not", "a")
    assert "negative rows of a: 0 added, 1 were there" in told(capsys, "add", "g", "new.png", "--not", "a")
    assert json.loads(told(capsys, "list", "g", "--json"))["labels"] == before
    assert f"a  not      {image.absolute().as_posix()}" in told(capsys, "list", "g", "--rows")
    assert "--not x: the gallery has no such label" in told(capsys, "add", "g", "new.png", "--not", "x", code=2)
    assert "in the gallery as a; remove it first" in told(capsys, "add", "g", "data/a/0.png", "--not", "a", code=2)
    assert "give images and their --label, or --not" in told(
        capsys, "add", "g", "new.png", "--not", "a", "--label", "b", code=2
    )
    assert "1 removed" in told(capsys, "remove", "g", "--id", "3")


def test_a_gated_image_is_added_by_force(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("grey.png", np.random.default_rng(0).integers(0, 255, (12, 10), dtype=np.uint8))
    whole = Gallery.open(home / "g")
    gated = Gallery.build(
        whole.vectors, whole.rows, fingerprint=whole.fingerprint, note={**whole.note, "gates": [2.0, 0.0, 0.5, 8.0]}
    )
    gated.save(home / "g")
    text = told(capsys, "add", "g", "grey.png", "--label", "a")
    assert "0 added + 0 already in the gallery + 1 left out by the gates (--force adds them)" in text
    assert "1 images seen = 1 added" in told(capsys, "add", "g", "grey.png", "--label", "a", "--force")
    gated.noted({"gates": "x"}).save(home / "g")
    assert "g: expected" in told(capsys, "add", "g", "grey.png", "--label", "b", code=2)


def test_entries_of_a_wrong_label_are_listed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, axes = np.random.default_rng(0), np.eye(192, dtype=np.float32)
    vectors = np.repeat(axes[:2], 6, axis=0) + rng.normal(size=(12, 192)).astype(np.float32) * 0.02
    rows = [GalleryRow(f"{number}.png", "ab"[number // 6 if number != 2 else 1]) for number in range(12)]
    units = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    Gallery.build(units, rows, fingerprint="0" * 64).save(home / "wrong")
    text = told(capsys, "suspects", "wrong")
    assert "wrong: 1 of 12 entries may have a wrong label" in text
    assert "       2  b 0." in text
    (one,) = json.loads(told(capsys, "suspects", "wrong", "--json"))["suspects"]
    assert (one["id"], one["path"], one["label"], one["rival"]) == (2, "2.png", "b", "a")
    told(capsys, "relabel", "wrong", "--id", "2", "--to", "a")
    assert "0 of 12 entries" in told(capsys, "suspects", "wrong")
