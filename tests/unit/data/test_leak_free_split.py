"""Whatever the names and copies, nothing that belongs together is ever parted."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.data.image_hash import ImageSignature, image_signature
from naruto_vision.data.leaks import AuditItem, AuditItems, ScannedImages, audit, frame_runs
from naruto_vision.data.split import SplitPlan, assign_groups, connected, frame_pairs, split_items
from naruto_vision.data.tables import ClassTable, Split, sorted_rows
from naruto_vision.errors import InputError
from naruto_vision.records import LabelledImage


def looks_of(seed: int) -> ImageSignature:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return image_signature(np.ascontiguousarray(coarse.repeat(8, axis=0).repeat(8, axis=1)))


LOOKS = [looks_of(seed) for seed in range(40)]


def data_of(images: list[tuple[int, str, int]]) -> tuple[dict[Split, ClassTable], AuditItems, ScannedImages]:
    """Make a data set of (frame number, class, look) without a file on the disk."""
    pairs = [(f"show-{number}_jpg.rf.{place:x}.jpg", label) for place, (number, label, _) in enumerate(images)]
    rows = sorted_rows(pairs)
    look = {path: LOOKS[one[2]] for (path, _), one in zip(pairs, images, strict=True)}
    items = tuple(AuditItem("train", row, Path("/nowhere") / row.path) for row in rows)
    table = ClassTable(Path("/nowhere"), rows, ("a", "b"))
    seen = ScannedImages({place: look[item.row.path] for place, item in enumerate(items)})
    return {"train": table}, AuditItems(items, ("a", "b")), seen


IMAGES = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(["a", "b"]), st.integers(0, 39)), min_size=8, max_size=40
)


@settings(max_examples=60, deadline=None)
@given(IMAGES, st.integers(0, 5), st.integers(0, 3))
def test_no_run_and_no_copy_ever_crosses(images: list[tuple[int, str, int]], window: int, seed: int) -> None:
    tables, items, seen = data_of(images)
    try:
        found = split_items(tables, items, seen, SplitPlan(0.2, 0.2, seed, window, "frames"))
    except InputError:  # all of it is one run, say
        return
    side = {row.path: split for split, table in found.tables.items() for row in table.rows}
    assert sorted(side) == sorted(row.path for row in tables["train"].rows)
    numbers = [(int(path.split("-")[1].split("_")[0]), path) for path in side]
    for number, path in numbers:
        assert {side[other] for near, other in numbers if abs(near - number) <= window} == {side[path]}
    by_look: dict[bytes, set[str]] = {}
    for place, item in enumerate(items.items):
        by_look.setdefault(seen.signatures[place].digest, set()).add(side[item.row.path])
    assert all(len(sides) == 1 for sides in by_look.values())
    assert {row.label for row in found.tables["train"].rows} == {label for _, label, _ in images}
    assert sum(found.groups) == len(images)


def far_apart(count: int) -> list[tuple[int, str, int]]:
    return [(10 * k, "ab"[k % 2], k) for k in range(count)]


def test_lone_images_are_shared_out_exactly() -> None:
    found = split_items(*data_of(far_apart(40)), SplitPlan(0.2, 0.1))
    assert {split: table.counts() for split, table in found.tables.items()} == {
        "train": {"a": 14, "b": 14},
        "valid": {"a": 4, "b": 4},
        "test": {"a": 2, "b": 2},
    }
    assert found.leaking == 0
    assert found.as_json()["images"] == {"train": 28, "valid": 8, "test": 4}


def test_the_same_seed_gives_the_same_split_and_another_another() -> None:
    tables = [split_items(*data_of(far_apart(40)), SplitPlan(seed=seed)).tables for seed in (1, 1, 2)]
    assert tables[0] == tables[1]
    assert tables[0]["valid"].rows != tables[2]["valid"].rows
    assert tables[0]["valid"].counts() == tables[2]["valid"].counts()


def test_a_class_of_one_run_is_trained_on_only() -> None:
    labels = ["a"] * 20 + ["b"] * 10
    groups = [[k] for k in range(20)] + [list(range(20, 30))]
    given_out = assign_groups(groups, labels, SplitPlan(0.25, 0.25))
    assert set(range(20, 30)) <= set(given_out["train"])
    assert {split: len(held) for split, held in given_out.items()} == {"train": 20, "valid": 5, "test": 5}


def test_every_class_is_learned_even_where_little_is_trained_on() -> None:
    given_out = assign_groups([[0], [1], [2], [3]], ["a", "a", "a", "b"], SplitPlan(0.6, 0.3))
    assert 3 in given_out["train"]
    assert set(given_out["train"]) & {0, 1, 2}


def test_a_split_that_was_not_asked_for_is_not_made() -> None:
    assert list(split_items(*data_of(far_apart(20)), SplitPlan(0.3, 0.0)).tables) == ["train", "valid"]


def test_what_cannot_be_held_out_is_told() -> None:
    with pytest.raises(InputError, match=r"no images left for 'valid': 20 images fall into 1 groups .*--numbers"):
        split_items(*data_of([(k, "a", k) for k in range(20)]), SplitPlan(numbers="frames"))
    free = split_items(*data_of([(k, "a", k) for k in range(20)]), SplitPlan(numbers="ignore"))
    assert Counter({split: len(table) for split, table in free.tables.items()}) == {"train": 14, "valid": 3, "test": 3}


@pytest.mark.parametrize(("valid", "test"), [(0.5, 0.5), (-0.1, 0.2), (1.0, 0.0), (0.2, float("nan"))])
def test_impossible_shares_are_refused(valid: float, test: float) -> None:
    with pytest.raises(InputError, match="expected shares of 0 or more"):
        SplitPlan(valid, test)


def test_images_without_looks_are_left_out() -> None:
    tables, items, seen = data_of(far_apart(20))
    del seen.signatures[3]
    found = split_items(tables, items, seen, SplitPlan())
    assert sum(len(table) for table in found.tables.values()) == 19


def test_the_audit_of_a_split_finds_nothing_where_the_old_one_leaked() -> None:
    images = [(4 * (k // 2) * 5 + k % 2, "ab"[k // 2 % 2], k) for k in range(40)]  # pairs of neighbours
    tables, items, seen = data_of(images)
    parted = [AuditItem(("train", "valid")[place % 2], item.row, item.file) for place, item in enumerate(items.items)]
    assert audit(AuditItems(tuple(parted), items.classes), seen, numbers="frames").leaking > 0
    assert split_items(tables, items, seen, SplitPlan(numbers="frames")).leaking == 0


def drift(step: int) -> ImageSignature:
    """Draw a frame of a pan: the neighbours show nearly the same, frames far apart do not."""
    wide = np.random.default_rng(5).integers(0, 256, (6, 40, 3), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    return image_signature(np.ascontiguousarray(wide[:, 5 * step : 5 * step + 96]))


@pytest.mark.parametrize(
    ("looks", "groups"),
    [
        ([drift(step) for step in range(40)], 1),  # a pan
        ([drift(step // 10 * 30 + step % 10) for step in range(40)], 1),  # four shots
        ([looks_of(seed) for seed in range(40)], 40),  # web images, numbered by their order
        ([looks_of(seed) for seed in range(6)], 1),  # too few to tell: kept together
    ],
)
def test_numbers_are_frames_only_where_neighbours_look_alike(looks: list[ImageSignature], groups: int) -> None:
    paths = [f"Mira_{number}.png" for number in range(len(looks))]
    seen = ScannedImages(dict(enumerate(looks)))
    unlike = seen.unlike(paths, ("mira",), 3)
    assert len(connected(len(paths), frame_pairs(paths, ("mira",), 3, unlike=unlike))) == groups
    assert len(connected(len(paths), frame_pairs(paths, ("mira",), 3, "frames", unlike))) == 1
    items = [AuditItem("train" if k % 2 else "valid", row, None) for k, row in enumerate(rows_of(paths))]
    (found,) = audit(AuditItems(tuple(items), ("mira",)), seen).comparisons
    assert (found.frames.within.count > 0) == (groups == 1)
    views = np.stack([one.thumbnail.ravel() for one in looks]).astype(np.float32)
    assert (frame_runs(rows_of(paths), views)[0] is None) == (groups > 1)


def rows_of(paths: list[str]) -> list[LabelledImage]:
    return [LabelledImage(path, "mira") for path in paths]


def test_copies_of_one_upload_stay_together_among_numbers_that_are_no_frames() -> None:
    paths = [f"Mira_{number // 2}_png.rf.{number:x}.png" for number in range(40)]
    seen = ScannedImages({number: LOOKS[number // 2 + number % 2 * 20] for number in range(40)})
    unlike = seen.unlike(paths, ("mira",), 3)
    assert unlike
    assert len(connected(40, frame_pairs(paths, ("mira",), 3, unlike=unlike))) == 20


def test_classes_without_held_out_images_are_known() -> None:
    images = [one for one in far_apart(30) if one[1] == "a" or one[0] < 20]  # one image of b
    found = split_items(*data_of(images), SplitPlan(0.2, 0.2))
    assert found.without() == {"valid": ["b"], "test": ["b"]}
    assert split_items(*data_of(far_apart(40)), SplitPlan(0.2, 0.1)).without() == {"valid": [], "test": []}


def test_connected_components() -> None:
    assert connected(6, [(4, 1), (1, 0), (2, 5)]) == [[0, 1, 4], [2, 5], [3]]
    assert connected(3, []) == [[0], [1], [2]]
    assert [len(group) for group in connected(5000, [(k, k + 1) for k in range(4999)])] == [5000]


def test_counted_families_are_no_runs_unless_said_so() -> None:
    paths = [f"{name}/{k}.png" for name in ("a", "b") for k in range(10)]
    assert frame_pairs(paths, ("a", "b"), 3) == []
    assert len(frame_pairs(paths, ("a", "b"), 3, "frames")) == 19
    assert len(frame_pairs(["1_jpg.rf.a.jpg", "1_jpg.rf.b.jpg"], (), 0)) == 1
