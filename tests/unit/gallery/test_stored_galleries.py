"""One contract of every gallery, in a folder and in each vector store: rows, neighbours, edits and refusals."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from store_servers import PACKAGES, serving

from naruto_vision.cli.main import main
from naruto_vision.errors import FingerprintError, FormatError, InputError
from naruto_vision.gallery.content import GalleryContent, GalleryRow
from naruto_vision.gallery.edits import add_rows, change_thresholds, relabel_rows, remove_rows, roll_back
from naruto_vision.gallery.gallery import Gallery, copy_gallery, edit_gallery, enrol_gallery, reindex_gallery
from naruto_vision.gallery.info import list_gallery
from naruto_vision.gallery.store import DRIFT, NEGATIVE, read_manifest, store_uri
from naruto_vision.gallery.stored import GalleryStore, connect
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.gallery.vector_store import Collection, open_store
from naruto_vision.gallery.verify import verify_gallery, worst
from naruto_vision.recognition.negatives import search_allowed
from naruto_vision.records import Vectors

PRINT = "e" * 64
PLACES = ["folder", "chroma:store", "milvus:store.db"]


def unit(rows: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(rows, 6))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def built(rows: int = 30, fingerprint: str = PRINT) -> Gallery:
    entries = [GalleryRow(f"{i}/ä.png", f"name {i % 4}") for i in range(rows)]
    note = {"encoder": {"kind": "clip"}, "mirror": True}
    return Gallery.build(unit(rows), entries, fingerprint=fingerprint, thresholds=Thresholds(0.5), note=note)


@pytest.fixture(params=[*PLACES, pytest.param("chroma+http", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a gallery can be."""
    kind, _, rest = request.param.partition(":")
    for package in PACKAGES.get(kind.partition("+")[0], ()):
        pytest.importorskip(package)
    if kind == "chroma+http":
        program = Path(sys.executable).with_name("chroma")
        with serving([program, "run", "--path", tmp_path / "server", "--host", "127.0.0.1"], "chroma") as uri:
            yield uri
    else:
        yield f"{kind}:{tmp_path / rest}" if rest else str(tmp_path / kind)
        if rest:
            connect(f"{kind}:{tmp_path / rest}").close()
    connect.cache_clear()


def same(found: Gallery, expected: Gallery) -> None:
    """The rows, vectors, neighbours and scores are those of the other gallery, to the last bit."""
    assert (found.ids, list(found.rows), found.labels) == (expected.ids, list(expected.rows), expected.labels)
    assert np.array_equal(found.vectors, expected.vectors)
    assert found.content.ledger == expected.content.ledger
    assert np.array_equal(found.content.removed, expected.content.removed)
    assert found.thresholds == expected.thresholds
    assert found.search(unit(9, 5), 6) == expected.search(unit(9, 5), 6)


def test_a_gallery_comes_back(place: str) -> None:
    gallery = built()
    gallery.save(place)
    found = Gallery.open(place, fingerprint=PRINT)
    assert (len(found), found.dim, found.generation, found.note) == (30, 6, 1, gallery.note)
    assert found.digest == gallery.digest
    same(found, gallery)
    assert len(found.search(unit(1), 99)[0]) == 30
    with pytest.raises(FingerprintError):
        Gallery.open(place, fingerprint="a" * 64)
    assert worst(verify_gallery(place)) == "ok"
    listing = list_gallery(place, rows=True)
    assert (listing.total, len(listing.rows), listing.labels) == (
        30,
        30,
        {"name 0": 8, "name 1": 8, "name 2": 7, "name 3": 7},
    )


def test_edits_give_what_they_give_in_memory(place: str) -> None:
    gallery = built()
    gallery.save(place)
    fresh = [GalleryRow(f"new {i}.png", "new") for i in range(3)]
    for change, *arguments in (
        (relabel_rows, [2, 5], "other"),
        (remove_rows, [2, 8]),
        (add_rows, unit(3, 9), fresh),
        (roll_back, 2),
        (change_thresholds, Thresholds(0.25)),
        (remove_rows, [0, 5]),
        (roll_back, 1),
    ):
        gallery = gallery.edited(change, *arguments)
        edit_gallery(place, change, *arguments, fingerprint=PRINT)
        same(Gallery.open(place), gallery)
    assert read_manifest(place)["generation"] == 8
    with pytest.raises(InputError, match="no entry with id 77"):
        edit_gallery(place, remove_rows, [77])


def test_enrolling_again_keeps_ids_and_another_encoder_replaces(place: str) -> None:
    enrol_gallery(place, built(30))
    enrol_gallery(place, built(28))
    assert (len(Gallery.open(place)), Gallery.open(place).generation) == (28, 2)
    enrol_gallery(place, built(5, "b" * 64))
    found = Gallery.open(place)
    assert (len(found), found.fingerprint, found.generation) == (5, "b" * 64, 1)
    assert len(found.search(unit(2), 30)[0]) == 5


class Stopped(BaseException):
    """Stands in for a kill: nothing of the package catches it."""


@pytest.mark.parametrize("place", PLACES[1:], indirect=True)
@pytest.mark.parametrize("step", ["add", "claim", "remove"])
def test_an_edit_that_is_stopped_leaves_one_of_two_generations(
    place: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = built()
    gallery.save(place)

    def change(content: GalleryContent) -> GalleryContent:
        more = add_rows(remove_rows(content, [1, 3]), unit(2, 4), [GalleryRow("n.png", "n")] * 2)
        return relabel_rows(more, [4], "other")

    def stop(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Collection, step, stop)
        with pytest.raises(Stopped):
            edit_gallery(place, change)
    same(Gallery.open(place), gallery.edited(change) if step == "remove" else gallery)
    edit_gallery(place, remove_rows, [7])
    done = gallery.edited(change) if step == "remove" else gallery
    same(Gallery.open(place), done.edited(remove_rows, [7]))


@pytest.mark.parametrize("place", PLACES[1:], indirect=True)
def test_the_second_of_two_writers_is_refused(place: str) -> None:
    built().save(place)
    store = connect(place)
    before = store.head()
    first, second = (Gallery.open(place).edited(remove_rows, [number]) for number in (1, 2))
    store.publish(first.content, before)
    with pytest.raises(InputError, match="another writer changed the gallery"):
        store.publish(second.content, before)
    same(Gallery.open(place), first)


def test_a_gallery_is_copied_with_its_history(place: str, tmp_path: Path) -> None:
    built().edited(remove_rows, [3]).edited(relabel_rows, [4], "x").save(tmp_path / "from")
    assert main(["gallery", "copy", str(tmp_path / "from"), place]) == 0
    assert main(["gallery", "copy", place, str(tmp_path / "back")]) == 0
    same(Gallery.open(tmp_path / "back"), Gallery.open(tmp_path / "from"))
    assert main(["gallery", "remove", place, "--id", "9"]) == 0
    assert 9 not in Gallery.open(place).ids
    with pytest.raises(InputError, match="there is a gallery"):
        copy_gallery(tmp_path / "from", place)


def test_a_copied_folder_has_the_scenes_that_runs_are_compared_with(tmp_path: Path) -> None:
    built().save(tmp_path / "from")
    (tmp_path / "from" / DRIFT).write_text("{}\n")
    copy_gallery(tmp_path / "from", tmp_path / "to")
    assert (tmp_path / "to" / DRIFT).read_text() == "{}\n"


def test_a_damaged_gallery_is_not_copied_over(tmp_path: Path) -> None:
    built().save(tmp_path / "from")
    built().save(tmp_path / "to")
    (tmp_path / "to" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json"):
        copy_gallery(tmp_path / "from", tmp_path / "to")
    assert (tmp_path / "to" / "manifest.json").read_text() == "{"


@pytest.mark.parametrize("place", PLACES[1:2], indirect=True)
def test_videos_of_the_same_store_are_apart(place: str) -> None:
    built().save(place)
    connect(place).close()
    connect.cache_clear()
    with open_store(place) as videos:
        assert videos.collections() == []
        videos.create("a.mp4", {"dim": 4})
        assert videos.reset() == 1
    assert len(Gallery.open(place)) == 30
    with pytest.raises(InputError, match="its own index"):
        reindex_gallery(place, "flat")


def test_an_empty_store_says_how_a_gallery_is_made(tmp_path: Path) -> None:
    pytest.importorskip("chromadb")
    with pytest.raises(InputError, match="no gallery here; build one"):
        GalleryStore(f"chroma:{tmp_path / 's'}").head()
    assert not list(tmp_path.iterdir())  # reading makes no store
    (tmp_path / "s").mkdir()
    store = GalleryStore(f"chroma:{tmp_path / 's'}")
    with pytest.raises(InputError, match="no gallery here; build one"):
        store.head()
    store.close()


def test_a_uri_stays_one_after_it_was_a_path() -> None:
    for uri in ("chroma+http://h:80", "milvus+https://h:1", "chroma:runs/s", "milvus:/a/b.db"):
        assert store_uri(Path(uri)) == uri
    assert [store_uri(name) for name in ("runs/gallery", "/a/chroma", "faiss:x")] == [None] * 3


@pytest.mark.parametrize("name", ["evil", "-1", "9" * 30])
def test_entries_that_are_no_rows_are_refused(tmp_path: Path, name: str) -> None:
    pytest.importorskip("chromadb")
    place = f"chroma:{tmp_path / 'store'}"
    built().save(place)
    store = connect(place)
    store.collection(store.head()).add([name], unit(1), [{"path": "a", "label": "b", "aug": "none"}])
    gallery = Gallery.open(place)
    with pytest.raises(FormatError, match="under their number"):
        gallery.search(unit(1), 3)
    with pytest.raises(FormatError, match="under their number"):
        len(gallery.rows)
    store.close()
    connect.cache_clear()


@pytest.mark.parametrize(
    "uri",
    [
        "chroma+http://user:s3cret@127.0.0.1:9",
        "milvus+http://user:s3cret@127.0.0.1:9",
        "chroma+http://127.0.0.1:9/?token=s3cret",
        "chroma+http:user:s3cret@127.0.0.1",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_shown(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["gallery", "list", uri], ["video", "list", "--store", uri]):
        assert main(command) == 2
        shown = capsys.readouterr()
        assert "without a user, password or query" in shown.err
        assert "s3cret" not in shown.err + shown.out


def test_negative_rows_are_stored_and_rule_out_labels_everywhere(place: str) -> None:
    built().save(place)
    query = unit(1, 8)
    (near,) = Gallery.open(place).search(query, 3)
    edit_gallery(place, add_rows, query, [GalleryRow("shown.png", near[0].label, NEGATIVE)])
    found = Gallery.open(place)
    expected = built().edited(add_rows, query, [GalleryRow("shown.png", near[0].label, NEGATIVE)])
    assert (len(found), found.has_negatives, read_manifest(place)["format"]) == (30, True, 2)
    assert found.search(query, 3) == (near,)
    assert search_allowed(found, query, 3) == search_allowed(expected, query, 3)
    assert near[0].label not in {row.label for row in search_allowed(found, query, 9)[0].neighbours}
    assert sum(list_gallery(place).labels.values()) == 30
    same(found, expected)
    edit_gallery(place, roll_back, 1)
    assert not Gallery.open(place).has_negatives
