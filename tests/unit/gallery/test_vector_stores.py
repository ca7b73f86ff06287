"""Every vector store does the same: one set of tests over all of them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from store_servers import PACKAGES, serving

from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.gallery.vector_store import BATCH, Collection, Metadata, VectorStore, collection_key, open_store
from naruto_vision.records import Vectors

NOTE = {"encoder": "tiny", "dim": 16, "source": "/videos/Folge 1.mp4"}
NAMES = ("Folge 1.mp4", "ナルト 第一話", "../../outside", "a" * 300, "..", "Folge-1.mp4", "folge 1.mp4", "/etc")


def unit(rows: int, dim: int = 16, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def frames(rows: int, first: int = 0) -> list[str]:
    return [f"frame_{number:06d}.png" for number in range(first, first + rows)]


def facts(rows: int, first: int = 0) -> list[dict[str, str | int | float]]:
    return [{"video": "Folge 1.mp4", "frame": n, "time": n / 24, "shot": n // 9} for n in range(first, first + rows)]


def about(entry: Metadata) -> dict[str, str | int | float]:
    """Round: Chroma changes the last bit of some fractions."""
    return {key: round(value, 9) if isinstance(value, float) else value for key, value in entry.items()}


def filled(store: VectorStore, rows: int = 40) -> Collection:
    collection = store.create("Folge 1.mp4", NOTE)
    collection.add(frames(rows), unit(rows), facts(rows))
    return collection


SLOW = [
    pytest.param(form, marks=pytest.mark.slow)
    for form in ("chroma:store", "chroma+http", "milvus:store.db", "milvus+http")
]


def _require(kind: str) -> None:
    for package in PACKAGES.get(kind, ()):
        pytest.importorskip(package, reason=f"{package} is not installed")


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    _require("chroma")
    program = Path(sys.executable).with_name("chroma")
    with serving([program, "run", "--path", tmp_path_factory.mktemp("chroma"), "--host", "127.0.0.1"], "chroma") as uri:
        yield uri


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    _require("milvus")
    program = Path(sys.executable).with_name("milvus-lite")
    with serving([program, "server", "--data-dir", tmp_path_factory.mktemp("milvus")], "milvus") as uri:
        yield uri


def _uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind, _, name = request.param.partition(":")
    _require(kind)
    if not kind.endswith("+http"):
        return f"{kind}:{tmp_path / name}"
    uri = str(request.getfixturevalue(f"{kind.removesuffix('+http')}_server"))
    try:
        with open_store(uri) as store:
            store.reset()
    except InputError:  # milvus-lite closes a connection with too many keep-alive pings, of which an idle one has many
        with open_store(uri) as store:
            store.reset()
    return uri


@pytest.fixture(params=["faiss:store", *SLOW])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty store of every kind; those that need seconds are slow."""
    return _uri(request, tmp_path)


@pytest.fixture(params=["faiss:store", "chroma:store", "milvus:store.db"])
def embedded(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same, of every embedded kind, for tests that always run."""
    return _uri(request, tmp_path)


@pytest.fixture
def store(uri: str) -> Iterator[VectorStore]:
    with open_store(uri) as opened:
        yield opened


def test_what_was_added_is_read_and_found_again_after_opening(embedded: str) -> None:
    with open_store(embedded) as store:
        filled(store)
    with open_store(embedded, existing=True) as store:
        assert store.collections() == ["Folge 1.mp4"]
        collection = store.open("Folge 1.mp4")
        assert (len(collection), collection.note, collection.dim) == (40, NOTE, 16)
        names, vectors, metadata = collection.read()
        assert names == frames(40)
        assert [about(entry) for entry in metadata] == [about(entry) for entry in facts(40)]
        np.testing.assert_allclose(vectors, unit(40), atol=1e-6)
        (hit,) = collection.search(unit(40)[7:8], 1)[0]
        assert (hit.id, about(hit.metadata)) == ("frame_000007.png", about(facts(1, 7)[0]))
        assert hit.score == pytest.approx(1, abs=1e-4)


def test_a_thousand_queries_give_the_ids_and_cosines_of_numpy(store: VectorStore) -> None:
    vectors, queries = unit(2000, seed=1), unit(1000, seed=2)
    collection = store.create("long", NOTE)
    collection.add(frames(2000), vectors, facts(2000))
    cosines = queries @ vectors.T
    expected = np.argsort(-cosines, axis=1)[:, :5]
    found = collection.search(queries, 5)
    assert [[hit.id for hit in hits] for hits in found] == [[frames(1, row)[0] for row in rows] for rows in expected]
    scores = np.array([[hit.score for hit in hits] for hits in found])
    np.testing.assert_allclose(scores, np.take_along_axis(cosines, expected, 1), atol=1e-4)


@pytest.mark.slow
def test_more_entries_than_a_request_takes_are_added_read_and_removed(store: VectorStore) -> None:
    rows = BATCH + 1500
    collection = store.create("long", NOTE)
    collection.add(frames(rows), unit(rows), facts(rows))
    assert len(collection) == rows
    names, vectors, metadata = collection.read()
    assert (names, about(metadata[-1])) == (frames(rows), about(facts(1, rows - 1)[0]))
    np.testing.assert_allclose(vectors, unit(rows), atol=1e-6)
    collection.remove(frames(rows - 1))
    assert collection.read()[0] == frames(1, rows - 1)


def test_a_removal_shifts_no_other_entry(uri: str) -> None:
    with open_store(uri) as store:
        filled(store).remove([*frames(5), "frame_000020.png", "never there.png"])
    with open_store(uri) as store:
        collection = store.create("Folge 1.mp4", NOTE)
        assert len(collection) == 34
        hits = [hits[0] for hits in collection.search(unit(40), 1)]
        left = [hit for hit, query in zip(hits, frames(40), strict=True) if hit.id == query]
        assert len(left) == 34
        assert [hit.metadata["frame"] for hit in left] == [*range(5, 20), *range(21, 40)]
        collection.add(frames(3), unit(3), facts(3))
        assert collection.read(frames(6))[0] == [*frames(3), *frames(1, 5)]


def test_two_openings_of_one_collection_lose_nothing_of_each_other(store: VectorStore) -> None:
    first = filled(store, 2)
    second = store.open("Folge 1.mp4")
    for number, collection in enumerate((first, first, second, first, second)):
        collection.add(frames(1, 10 + number), unit(1, seed=number), facts(1, 10 + number))
    assert store.open("Folge 1.mp4").read()[0] == [*frames(2), *frames(5, 10)]


def test_the_same_id_replaces_its_entry(store: VectorStore) -> None:
    collection = filled(store)
    collection.add(frames(1, 3), unit(1, seed=9), facts(1, 100))
    assert len(collection) == 40
    names, vectors, metadata = collection.read(frames(1, 3))
    assert (names, [about(entry) for entry in metadata]) == (frames(1, 3), [about(entry) for entry in facts(1, 100)])
    np.testing.assert_allclose(vectors, unit(1, seed=9), atol=1e-6)
    assert collection.search(unit(1, seed=9), 1)[0][0].id == "frame_000003.png"


def test_entries_are_read_in_the_order_asked_without_those_that_are_not_there(store: VectorStore) -> None:
    collection = filled(store)
    names, vectors, metadata = collection.read(["frame_000007.png", "nothing", "frame_000002.png"])
    assert (names, [entry["frame"] for entry in metadata]) == (["frame_000007.png", "frame_000002.png"], [7, 2])
    np.testing.assert_allclose(vectors, unit(40)[[7, 2]], atol=1e-6)
    assert collection.read([])[1].shape == (0, 16)


def test_an_empty_collection_and_few_entries_are_searched(store: VectorStore) -> None:
    collection = store.create("short", NOTE)
    assert collection.search(unit(2), 5) == [[], []]
    assert collection.read()[1].shape == (0, 16)
    collection.add(frames(2), unit(2), facts(2))
    assert [len(hits) for hits in collection.search(unit(3), 5)] == [2, 2, 2]
    assert collection.search(unit(0), 5) == []
    collection.add([], unit(0), [])
    assert len(collection) == 2


def test_collections_are_independent_and_names_are_free(store: VectorStore, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("kept")
    for number, name in enumerate(NAMES):
        collection = store.create(name, {**NOTE, "source": name})
        collection.add(frames(number + 1), unit(number + 1), facts(number + 1))
    assert store.collections() == sorted(NAMES)
    assert [len(store.open(name)) for name in NAMES] == list(range(1, len(NAMES) + 1))
    store.delete("../../outside")
    with pytest.raises(InputError, match=r"no collection '\.\./\.\./outside'; there are: "):
        store.open("../../outside")
    store.reset()
    assert store.collections() == []
    assert {path.name for path in tmp_path.iterdir()} <= {"outside", "store", "store.db", ".store.db.lock"}


def test_metadata_keeps_text_whole_numbers_and_fractions(store: VectorStore) -> None:
    entry = {"video": 'ナルト "1"\n', "frame": 3, "time": 1.0, "note": "", "odd": "caf\udce9"}
    collection = store.create("x", NOTE)
    collection.add(["a"], unit(1), [{"gone": 1}])
    collection.add(["a"], unit(1), [entry])
    collection.add(["b"], unit(1, seed=1), [{}])
    (first, second) = collection.read()[2]
    assert first == {**entry, "odd": "caf\\udce9"}
    assert [type(first[key]) for key in ("frame", "time")] == [int, float]
    assert second == {}


def test_a_note_opens_its_collection_and_another_is_refused(store: VectorStore) -> None:
    filled(store)
    assert len(store.create("Folge 1.mp4", dict(NOTE))) == 40
    with pytest.raises(InputError, match=r"collection 'Folge 1\.mp4' has encoder tiny, not clip; delete it, or"):
        store.create("Folge 1.mp4", {**NOTE, "encoder": "clip"})
    with pytest.raises(InputError, match="expected a note with dim"):
        store.create("other", {})
    with pytest.raises(InputError, match="an empty one"):
        store.create(" ", NOTE)
    with pytest.raises(InputError, match=r"no collection 'other'; there are: Folge 1\.mp4"):
        store.delete("other")


BAD: dict[str, tuple[Callable[[Collection], None], str]] = {
    "dimension": (lambda c: c.add(frames(1), unit(1, 8), facts(1)), "expected vectors of 16 numbers, found 8"),
    "query": (lambda c: c.search(unit(1, 8), 1) and None, "expected vectors of 16 numbers, found 8"),
    "length": (lambda c: c.add(frames(1), 2 * unit(1), facts(1)), "expected rows of length 1, found 2"),
    "nan": (lambda c: c.add(frames(1), np.nan * unit(1), facts(1)), "expected rows of length 1, found nan"),
    "lengths": (lambda c: c.add(frames(2), unit(2), facts(1)), "2 ids, 2 vectors and 1 of metadata"),
    "twice": (lambda c: c.add(["a", "a"], unit(2), facts(2)), "'a' twice"),
    "empty id": (lambda c: c.add([""], unit(1), facts(1)), "ids of 1 to 512 bytes"),
    "long id": (lambda c: c.add(["ナ" * 200], unit(1), facts(1)), "ids of 1 to 512 bytes"),
    "list": (lambda c: c.add(["a"], unit(1), [{"tags": [1]}]), r"text and finite numbers in the metadata, found \[1\]"),  # type: ignore[dict-item]  # what is refused
    "infinite": (lambda c: c.add(["a"], unit(1), [{"time": float("inf")}]), "finite numbers in the metadata"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_is_refused_and_nothing_is_stored(store: VectorStore, what: str) -> None:
    collection = filled(store)
    call, message = BAD[what]
    with pytest.raises(InputError, match=message):
        call(collection)
    assert len(collection) == 40


WRITER = """
import sys
import numpy as np
from naruto_vision.gallery.vector_store import open_store
with open_store(sys.argv[1]) as store:
    collection = store.create("killed", {"dim": 512})
    for batch in range(100_000):
        vectors = np.random.default_rng(batch).standard_normal((64, 512)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        collection.add([f"{batch:06d}-{n:02d}" for n in range(64)], vectors, [{"batch": batch}] * 64)
        print(batch, flush=True)
"""


@pytest.mark.parametrize("batches", [1, 11])
def test_a_kill_while_adding_loses_nothing_that_was_acknowledged(uri: str, batches: int) -> None:
    command = [sys.executable, "-c", WRITER, uri]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(batches)]
        os.kill(process.pid, signal.SIGKILL)
        acknowledged = len(lines + process.stdout.read().splitlines())
    assert acknowledged >= batches
    with open_store(uri) as store:
        names, vectors, _ = store.create("killed", {"dim": 512}).read()
        assert len(names) % 64 == 0
        assert len(names) // 64 in (acknowledged, acknowledged + 1)
        expected = np.random.default_rng(acknowledged - 1).standard_normal((64, 512)).astype(np.float32)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors[64 * (acknowledged - 1) :][:64], expected, atol=1e-6)


@pytest.mark.parametrize(
    "uri", ["lance:x", "faiss:", "faiss+http://host:1", "http://host:8000", "postgres:x", "chroma:/", "C:store"]
)
def test_another_uri_names_the_forms(uri: str) -> None:
    with pytest.raises(InputError, match=r"expected faiss:DIR, chroma:DIR, .* or milvus\+http://host:port"):
        open_store(uri)


@pytest.mark.parametrize("form", ["{}", "faiss:{}", "faiss://{}", "chroma:{}", "milvus:{}"])
def test_a_store_that_has_to_be_there_is_not_made(tmp_path: Path, form: str) -> None:
    with pytest.raises(MissingPathError, match="missing: no such vector store; index a video"):
        open_store(form.format(tmp_path / "missing"), existing=True)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_short_plain_and_of_one_name_each() -> None:
    keys = [collection_key(name) for name in NAMES]
    assert len(set(keys)) == len(keys)
    assert all(len(key) < 64 and key.replace("_", "").isalnum() and key.isascii() and key[0].isalpha() for key in keys)
