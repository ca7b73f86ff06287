"""Any series of edits leaves the gallery that a fresh build of the same rows would be."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryContent, GalleryRow, as_ranges, from_ranges, line_counts, rows_changed
from naruto_vision.gallery.edits import add_rows, relabel_rows, remove_rows, roll_back
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import IndexChoice
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.records import Vectors

PRINT = "e" * 64
DIM = 6


def unit(rows: int, rng: np.random.Generator) -> Vectors:
    """Random rows of which some repeat, so that scores tie."""
    vectors = rng.normal(size=(rows, DIM))
    vectors[rng.random(rows) < 0.3] = 1.0
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@dataclass
class Twin:
    """What the gallery should hold, kept in the plainest way: one dict a generation, and every vector by id."""

    vectors: dict[int, Vectors] = field(default_factory=dict)
    states: list[dict[int, GalleryRow]] = field(default_factory=list)

    def enrol(self, vectors: Vectors, first: int, rows: list[GalleryRow]) -> dict[int, GalleryRow]:
        self.vectors.update({first + i: vector for i, vector in enumerate(vectors)})
        return {first + i: row for i, row in enumerate(rows)}

    def fresh(self, index: IndexChoice) -> Gallery:
        now = sorted(self.states[-1].items())
        return Gallery.build(
            np.stack([self.vectors[id_] for id_, _ in now]), [row for _, row in now], fingerprint=PRINT, index=index
        )


def started(rng: np.random.Generator, index: IndexChoice) -> tuple[Gallery, Twin]:
    count, twin = int(rng.integers(1, 9)), Twin()
    vectors, rows = unit(count, rng), [GalleryRow(f"{i}.png", f"label {i % 3}") for i in range(count)]
    twin.states.append(twin.enrol(vectors, 0, rows))
    return Gallery.build(vectors, rows, fingerprint=PRINT, index=index), twin


def step(gallery: Gallery, twin: Twin, rng: np.random.Generator) -> Gallery:
    """Make one random change to both."""
    now, ids = dict(twin.states[-1]), np.array(gallery.ids)
    some = rng.permutation(ids)[: int(rng.integers(1, 4))].tolist()
    change: Callable[[GalleryContent], GalleryContent]
    match int(rng.integers(4)):
        case 0 if len(some) < len(ids):
            now = {id_: row for id_, row in now.items() if id_ not in some}
            change = partial(remove_rows, ids=some)
        case 1 if any(now[id_].label != "new" for id_ in some):
            now |= {id_: GalleryRow(now[id_].path, "new") for id_ in some}
            change = partial(relabel_rows, ids=some, label="new")
        case 2 if len(twin.states) > 1:
            target = int(rng.integers(1, len(twin.states)))
            now = twin.states[target - 1]
            change = partial(roll_back, generation=target)
        case _:
            first, count = gallery.content.next_id, int(rng.integers(1, 4))
            vectors, rows = unit(count, rng), [GalleryRow(f"{first + i}.png", "added") for i in range(count)]
            assert not set(range(first, first + count)) & set(twin.vectors)  # no id is ever given twice
            now |= twin.enrol(vectors, first, rows)
            change = partial(add_rows, vectors=vectors, rows=rows)
    twin.states.append(now)
    return gallery.edited(change)


def answers(gallery: Gallery, queries: Vectors) -> list[list[tuple[str, str, float]]]:
    return [[(one.path, one.label, one.score) for one in found] for found in gallery.search(queries, 5)]


def follow(seeds: range, index: IndexChoice, steps: int) -> None:
    for seed in seeds:
        rng = np.random.default_rng(seed)
        gallery, twin = started(rng, index)
        for _ in range(int(rng.integers(1, steps))):
            gallery = step(gallery, twin, rng)
        assert dict(zip(gallery.ids, gallery.rows, strict=True)) == twin.states[-1]
        fresh, queries = twin.fresh(index), unit(3, rng)
        assert gallery.vectors.tobytes() == fresh.vectors.tobytes()
        assert answers(gallery, queries) == answers(fresh, queries)
        assert gallery.generation == len(twin.states)
        if index == "flat":
            assert list(gallery.index.to_blocks() or ()) == list(fresh.index.to_blocks() or ())


@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.slow) for first in (100, 200, 300, 400))])
def test_hundreds_of_series_of_edits_equal_fresh_builds(first: int) -> None:
    pytest.importorskip("faiss")
    follow(range(first, first + 50), "flat", 12)
    follow(range(first + 50, first + 100), "exact", 12)


@pytest.mark.parametrize("index", ["hnsw", "ivf"])
def test_approximate_indexes_follow_edits_too(index: IndexChoice) -> None:
    """So few rows are all in reach of either, so the neighbours have to be the exact ones."""
    pytest.importorskip("faiss")
    follow(range(20), index, 10)


def built(count: int = 5, thresholds: Thresholds | None = None) -> Gallery:
    rows = [GalleryRow(f"{i}.png", "one" if i % 2 else "two") for i in range(count)]
    return Gallery.build(unit(count, np.random.default_rng(1)), rows, fingerprint=PRINT, thresholds=thresholds)


def test_an_edit_leaves_the_older_gallery_as_it_was() -> None:
    old = built()
    before = (old.ids, old.digest, answers(old, old.vectors))
    old.edited(lambda content: remove_rows(content, [1, 3]))
    assert (old.ids, old.digest, answers(old, old.vectors)) == before


def test_removal_does_not_shift_ids() -> None:
    gallery = built().edited(lambda content: remove_rows(content, [0, 2]))
    assert gallery.ids == (1, 3, 4)
    assert {found[0].path for found in gallery.search(gallery.vectors, 1)} <= {"1.png", "3.png", "4.png"}
    assert [found[0].row for found in gallery.search(gallery.vectors[2:], 1)] == [4]


def test_a_rollback_can_be_rolled_back() -> None:
    first = built()
    second = first.edited(lambda content: add_rows(content, first.vectors[:1], [GalleryRow("late.png", "late")]))
    back = second.edited(lambda content: roll_back(content, 1))
    again = back.edited(lambda content: roll_back(content, 2))
    assert (back.ids, again.ids) == (first.ids, second.ids)
    assert (back.digest, again.digest) == (first.digest, second.digest)
    added = back.edited(lambda content: add_rows(content, first.vectors[:1], [GalleryRow("x.png", "x")]))
    assert added.ids[-1] == 6  # 5 was given before the rollback


def test_every_edit_writes_one_line_that_counts() -> None:
    gallery = built().edited(lambda content: remove_rows(content, [0, 2]))
    gallery = gallery.edited(lambda content: relabel_rows(content, [1, 3], "two"))
    gallery = gallery.edited(lambda content: roll_back(content, 1))
    assert [(line["generation"], line["op"], line["rows"]) for line in gallery.content.ledger] == [
        (1, "build", 5),
        (2, "remove", 3),
        (3, "relabel", 3),
        (4, "rollback", 5),
    ]
    assert [tuple(line_counts(line).values()) for line in gallery.content.ledger] == [
        (5, 0, 0),
        (0, 2, 0),
        (0, 0, 2),
        (2, 0, 2),
    ]


def test_changed_rows_make_thresholds_stale_until_they_are_chosen_again() -> None:
    gallery = built(thresholds=Thresholds(0.5))
    assert gallery.stale_since is None
    gallery = gallery.edited(lambda content: remove_rows(content, [0]))
    assert gallery.stale_since == 2
    assert gallery.edited(lambda content: roll_back(content, 1)).stale_since is None
    chosen = gallery.with_thresholds(Thresholds(0.6))
    assert chosen.stale_since is None
    back = chosen.edited(lambda content: roll_back(content, 2))
    assert (back.thresholds.default, back.stale_since) == (0.5, 2)
    assert built().edited(lambda content: remove_rows(content, [0])).stale_since is None  # there are none to be stale


def test_staleness_is_read_from_the_lines() -> None:
    lines = [{"op": "build"}, {"op": "thresholds"}, {"op": "relabel"}, {"op": "rollback", "to": 2}, {"op": "add"}]
    assert [rows_changed(lines[:count]) for count in range(1, 6)] == [None, None, 3, None, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: remove_rows(content, [9]), "no entry with id 9"),
        (lambda content: remove_rows(content, []), "no entry chosen"),
        (lambda content: remove_rows(content, range(5)), "all 5 entries"),
        (lambda content: relabel_rows(content, [0], "two"), "'two' already"),
        (lambda content: relabel_rows(content, [0], "unknown"), "reserved for unknown characters"),
        (lambda content: add_rows(content, content.vectors[:2], [GalleryRow("a.png", "a")]), "expected 1 vectors"),
        (lambda content: add_rows(content, content.vectors[:0], []), "at least one"),
        (lambda content: add_rows(content, 2 * content.vectors[:1], [GalleryRow("a.png", "a")]), "length 1"),
        (lambda content: roll_back(content, 1), "an earlier generation, of which there is none yet, found 1"),
        (lambda content: roll_back(content, 0), "found 0"),
    ],
)
def test_senseless_edits_are_refused(change: Callable[[GalleryContent], GalleryContent], message: str) -> None:
    with pytest.raises(InputError, match=message):
        built().edited(change)


def test_a_ledger_that_lacks_what_stood_before_is_not_guessed_at() -> None:
    gallery = built(thresholds=Thresholds(0.5)).with_thresholds(Thresholds(0.6))
    line = {key: value for key, value in gallery.content.ledger[1].items() if key != "before"}
    object.__setattr__(gallery.content, "ledger", (gallery.content.ledger[0], line))
    with pytest.raises(InputError, match="does not say what was in generation 1"):
        gallery.edited(lambda content: roll_back(content, 1))


def test_ranges_hold_any_rising_ids() -> None:
    assert as_ranges([]) == []
    assert list(from_ranges(as_ranges([1, 2, 3, 7, 9, 10]))) == [1, 2, 3, 7, 9, 10]
