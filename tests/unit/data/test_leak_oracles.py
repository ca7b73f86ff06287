"""Searches for leaks against plain loops over all pairs, and what is told of what they find."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.data.image_hash import (
    NEAR_BITS,
    NEAR_COLOUR,
    ImageSignature,
    image_signature,
    near_pairs,
    perceptual_hash,
)
from naruto_vision.data.leaks import (
    GALLERY,
    Audit,
    AuditItem,
    AuditItems,
    FrameLeaks,
    ScannedImages,
    audit,
    find_alike,
    find_frame_leaks,
    frame_of,
    is_exported,
    looks_counted,
    plain_stem,
)
from naruto_vision.data.split import LeakFreeSplit, SplitPlan, assign_groups, connected, frame_pairs
from naruto_vision.records import ImageArray, LabelledImage

_QUICK = settings(max_examples=60, deadline=None, derandomize=True)
_ROW = st.tuples(st.sampled_from(["show", "film"]), st.integers(0, 60), st.sampled_from("abc"))


def _rows(places: Sequence[tuple[str, int, str]], side: str = "a") -> list[LabelledImage]:
    """Make rows with paths that are all different."""
    return [LabelledImage(f"{name}-{k}_jpg.rf.{side}{i}.jpg", label) for i, (name, k, label) in enumerate(places)]


@_QUICK
@given(st.lists(_ROW, max_size=15), st.lists(_ROW, max_size=15), st.integers(0, 6))
def test_the_nearest_frame_is_the_one_that_a_plain_loop_finds(
    held: list[tuple[str, int, str]], others: list[tuple[str, int, str]], window: int
) -> None:
    found = find_frame_leaks(_rows(held), _rows(others, "b"), window=window, numbers="frames")
    expected = {}
    for row, (name, number, _) in zip(_rows(held), held, strict=True):
        distances = [abs(number - k) for other, k, _ in others if other == name]
        if distances:
            expected[row.path] = min(distances)
    assert {one.path: one.distance for one in found.neighbours} == expected
    assert len(found.near) == found.within.count == sum(distance <= window for distance in expected.values())
    assert [one.distance for one in found.neighbours] == sorted(one.distance for one in found.neighbours)
    assert found.within.total == found.by_name_alone.total == found.by_majority.total == found.images == len(held)
    labels = {row.path: row.label for row in _rows(others, "b")}
    for one in found.neighbours:
        assert one.nearest_label == labels[one.nearest]
        assert one.agrees == (one.label == one.nearest_label)


@_QUICK
@given(st.lists(_ROW, min_size=1, max_size=12), st.integers(0, 4))
def test_what_comes_later_of_two_equally_near_does_not_hang_on_the_order(
    others: list[tuple[str, int, str]], window: int
) -> None:
    held = _rows([("show", 30, "a"), ("film", 10, "b")])
    one = find_frame_leaks(held, _rows(others), window=window, numbers="frames")
    rows = _rows(others)
    assert find_frame_leaks(held[::-1], rows[::-1], window=window, numbers="frames").neighbours == one.neighbours


def test_the_majority_is_the_other_sides_most_frequent_class() -> None:
    held = _rows([("x", 1, "a"), ("x", 2, "b"), ("x", 3, "b")])
    others = _rows([("y", 1, "b"), ("y", 2, "b"), ("y", 3, "a")])
    found = find_frame_leaks(held, others)
    assert found.majority == ("b", 2)
    assert (found.by_majority.count, found.by_majority.total) == (2, 3)
    assert find_frame_leaks(held, []).majority == ("", 0)


def test_an_empty_side_finds_nothing() -> None:
    rows = _rows([("show", 1, "a")])
    assert find_frame_leaks(rows, []).neighbours == ()
    assert find_frame_leaks([], rows) == FrameLeaks(0, 3, (), ("a", 0))


@pytest.mark.parametrize(
    ("numbers", "counted"),
    [([1], False), ([1, 1], True), ([1, 2, 2], True), ([1, 2, 3, 3], True), ([1, 2, 3, 4, 4], False)],
)
def test_half_of_the_numbers_standing_twice_is_counting(numbers: list[int], counted: bool) -> None:
    assert looks_counted(numbers) == looks_counted(numbers[::-1]) == counted


def test_a_family_counted_on_both_sides_is_told_by_its_name_and_others_are_still_searched() -> None:
    held = [LabelledImage(f"pic{k}.png", "a") for k in range(4)] + [LabelledImage("show-10.png", "a")]
    others = [LabelledImage(f"pic{k}.png", "b") for k in range(9)] + [LabelledImage("show-12.png", "a")]
    found = find_frame_leaks(held, others)
    assert found.counted == ("pic<number>",)
    assert [(one.path, one.nearest) for one in found.neighbours] == [("show-10.png", "show-12.png")]


@pytest.mark.parametrize(
    ("path", "family", "number"),
    [
        ("val/7.png", "#", 7),
        ("Training/ep/7.png", "ep/#", 7),
        ("ep/train/7.png", "#", 7),
        ("train/test/ep/7.png", "ep/#", 7),
        ("show-2024-0007-b.png", "show-2024-#-b", 7),
        ("0.png", "#", 0),
        ("x" * 50 + "99999999999999999999.png", "x" * 50 + "#", 99999999999999999999),
        ("a\nb3.png", "a\nb#", 3),
        ("épisode-٣-4.png", "épisode-٣-#", 4),
    ],
)
def test_folders_of_splits_say_nothing_and_the_last_number_counts(path: str, family: str, number: int) -> None:
    frame = frame_of(path)
    assert frame is not None
    assert (frame.family, frame.number) == (family, number)


def test_only_whole_folders_that_are_classes_are_passed_over() -> None:
    assert frame_of("ann/annie/3.png", ("ann",)) == frame_of("annie/3.png")
    assert frame_of("ann/3.png", ("Ann",)) == ("ann/#", 3)


@pytest.mark.parametrize(
    ("name", "stem", "exported"),
    [
        ("a.rf.1.jpg", "a", True),
        ("a_png.jpg", "a", False),
        ("a_png_jpg.rf.0f.jpg", "a_png", True),
        ("a.rf.jpg", "a.rf", False),
        ("png.jpg", "png", False),
        ("noextension", "noextension", False),
    ],
)
def test_stems(name: str, stem: str, exported: bool) -> None:
    assert plain_stem(name) == stem
    assert is_exported(name) == exported


@_QUICK
@given(st.integers(1, 12), st.data())
def test_components_are_those_of_a_plain_flood(count: int, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=12))
    group = list(range(count))
    for _ in range(count):
        for one, other in pairs:
            group = [min(group[one], group[other]) if g in (group[one], group[other]) else g for g in group]
    expected = [[k for k in range(count) if group[k] == name] for name in sorted(set(group))]
    assert connected(count, pairs) == expected


@_QUICK
@given(st.lists(_ROW, max_size=14), st.integers(0, 5))
def test_pairs_of_neighbours_connect_all_frames_within_the_window(
    places: list[tuple[str, int, str]], window: int
) -> None:
    paths = [f"{name}-{number}.png" for name, number, _ in places]
    close = [
        (i, j)
        for (i, one), (j, other) in itertools.combinations(enumerate(places), 2)
        if one[0] == other[0] and abs(one[1] - other[1]) <= window
    ]
    assert connected(len(paths), frame_pairs(paths, (), window, "frames")) == connected(len(paths), close)
    assert frame_pairs(paths, (), window, "ignore") == []


def test_an_export_repeats_numbers_without_having_counted_them() -> None:
    exported = [f"{k // 2}_jpg.rf.{k:x}.jpg" for k in range(8)]
    assert len(frame_pairs(exported, (), 0)) == 4
    assert frame_pairs([f"{name}/{k}.png" for name in "xy" for k in range(4)], ("x", "y"), 9) == []


def _noise(seed: int, side: int = 32) -> ImageArray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(np.kron(coarse, np.ones((side // 6 + 1, side // 6 + 1, 1), np.uint8))[:side, :side], np.uint8)


def _looks(seed: int, flips: int, light: int) -> ImageSignature:
    look = image_signature(_noise(seed))
    bits = np.unpackbits(look.bits.view(np.uint8))
    bits[:flips] ^= 1
    thumbnail = np.clip(look.thumbnail.astype(int) + light, 0, 255).astype(np.uint8)
    return look._replace(bits=np.packbits(bits).view(np.uint64), thumbnail=thumbnail)


def _differing(one: np.ndarray, other: np.ndarray) -> int:
    return int((np.unpackbits(one.view(np.uint8)) != np.unpackbits(other.view(np.uint8))).sum())


@_QUICK
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 5, 30, 60]), st.sampled_from([0, 10, 40])), max_size=9),
)
def test_near_pairs_are_those_of_a_plain_loop(specs: list[tuple[int, int, int]]) -> None:
    looks = [_looks(*spec) for spec in specs]
    expected = {}
    for (i, one), (j, other) in itertools.combinations(enumerate(looks), 2):
        found = []
        for mirrored, bits in ((False, other.bits), (True, other.mirrored)):
            thumbnail = other.thumbnail[:, ::-1] if mirrored else other.thumbnail
            apart = float(np.abs(one.thumbnail.astype(int) - thumbnail.astype(int)).mean())
            if _differing(one.bits, bits) <= NEAR_BITS and apart <= NEAR_COLOUR:
                found.append((_differing(one.bits, bits), mirrored))
        if found:
            expected[i, j] = min(found)
    pairs = near_pairs(looks)
    assert {(pair.first, pair.second): (pair.distance, pair.mirrored) for pair in pairs} == expected
    assert pairs == sorted(pairs, key=lambda pair: (pair.distance, pair.first, pair.second))


def test_a_hash_is_four_words_and_half_of_its_bits_are_on() -> None:
    for seed in range(5):
        bits = perceptual_hash(_noise(seed))
        assert bits.shape == (4,)
        assert bits.dtype == np.uint64
        assert 100 <= int(np.bitwise_count(bits).sum()) <= 128


def test_the_digest_tells_shapes_with_the_same_bytes_apart() -> None:
    image = _noise(1, 24)
    assert image_signature(image).digest == image_signature(image.copy()).digest
    assert image_signature(image).digest != image_signature(image.reshape(12, 48, 3)).digest
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    assert image_signature(image).digest != image_signature(changed).digest


def test_the_mirrored_hash_is_the_hash_of_the_mirror_image() -> None:
    image = _noise(2)
    mirror = np.ascontiguousarray(image[:, ::-1])
    assert np.array_equal(image_signature(image).mirrored, image_signature(mirror).bits)
    assert image_signature(image).thumbnail.shape == (16, 16, 3)


def _items(*parts: tuple[str, str, str]) -> AuditItems:
    items = tuple(AuditItem(part, LabelledImage(path, label), None) for part, path, label in parts)
    return AuditItems(items, tuple(sorted({label for _, _, label in parts})))


def _audited(specs: Sequence[tuple[str, str, str, int]]) -> Audit:
    """Audit images of (part, path, class, which noise)."""
    items = _items(*(spec[:3] for spec in specs))
    return audit(items, ScannedImages({place: image_signature(_noise(spec[3])) for place, spec in enumerate(specs)}))


def test_exact_pairs_come_before_near_ones_and_are_not_called_mirrored() -> None:
    symmetric = np.concatenate([_noise(3), _noise(3)[:, ::-1]], axis=1)
    looks = [image_signature(symmetric), image_signature(_noise(4)), _looks(4, 2, 4), image_signature(symmetric)]
    seen = ScannedImages({10 * k: look for k, look in enumerate(looks)})
    seen.signatures[20] = seen.signatures[20]._replace(digest=b"another")
    found = find_alike(seen)
    assert [(pair.first, pair.second, pair.exact, pair.mirrored) for pair in found] == [
        (0, 30, True, False),
        (10, 20, False, False),
    ]
    assert find_alike(ScannedImages()) == ()


def test_parts_that_are_learned_from_may_share_everything() -> None:
    found = _audited([("train", "a.png", "x", 1), (GALLERY, "b.png", "x", 1)])
    assert (found.comparisons, found.crossing(), found.leaking) == ((), [], 0)
    assert len(found.alike) == 1


def test_each_held_out_part_is_held_against_all_that_it_must_not_know() -> None:
    parts = ("train", "valid", "test", GALLERY)
    found = _audited([(part, f"{part}.png", "x", 1) for part in parts])
    assert [(one.held, one.against, one.exact) for one in found.comparisons] == [
        ("valid", "train", 1),
        ("test", "train", 1),
        ("test", "valid", 1),
        ("valid", GALLERY, 1),
        ("test", GALLERY, 1),
    ]
    assert found.leaking == 5
    assert len(found.crossing()) == 5
    assert found.as_json()["leaking"] == 5


def test_repeats_and_conflicts_are_counted_by_image_and_by_pair() -> None:
    found = _audited(
        [("train", "a.png", "x", 1), ("train", "b.png", "y", 1), ("train", "c.png", "x", 1), ("valid", "d.png", "x", 9)]
    )
    assert (found.repeats("train"), found.repeats("valid"), found.repeats("test")) == (2, 0, 0)
    assert found.conflicts() == 2
    document = found.as_json()
    assert document["repeats"] == {"train": 2, "valid": 0}
    assert document["same_pixels_other_class"] == 2
    assert document["crossing_pairs"] == []


def test_parts_and_rows_keep_their_order() -> None:
    items = _items(("test", "b", "y"), ("train", "a", "x"), ("test", "a", "x"))
    assert items.parts == ("test", "train")
    assert [row.path for row in items.rows("test")] == ["b", "a"]
    assert items.rows("valid") == []


def _split(*groups: int) -> LeakFreeSplit:
    return LeakFreeSplit({}, SplitPlan(seed=5, window=2), groups, 0, {"train": {"rows": 1}})


def test_a_split_says_how_it_came_about() -> None:
    assert _split(4, 2, 1, 1).note() == (
        "8 images in 4 groups that stay together (6 images are not alone in theirs, the largest group has 4); "
        "window 2, seed 5"
    )
    assert "(0 images are not alone" in _split(1, 1).note()
    told = _split(3, 1).as_json()
    assert (told["groups"], told["group_sizes"], told["leaking"]) == (2, [3, 1], 0)
    assert (told["seed"], told["window"], told["numbers"], told["valid"]) == (5, 2, "auto", 0.15)
    assert told["source"] == {"train": {"rows": 1}}


@pytest.mark.parametrize(
    ("valid", "test", "shares"),
    [
        (0.25, 0.25, {"train": 0.5, "valid": 0.25, "test": 0.25}),
        (0.25, 0.0, {"train": 0.75, "valid": 0.25}),
        (0.0, 0.5, {"train": 0.5, "test": 0.5}),
        (0.0, 0.0, {"train": 1.0}),
    ],
)
def test_shares_of_a_plan(valid: float, test: float, shares: dict[str, float]) -> None:
    assert SplitPlan(valid, test).shares() == pytest.approx(shares)


@_QUICK
@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from("abc")), min_size=1, max_size=25), st.integers(0, 9))
def test_groups_are_given_whole_and_every_class_is_learned(groups: list[tuple[int, str]], seed: int) -> None:
    labels = [label for size, label in groups for _ in range(size)]
    starts = [0, *itertools.accumulate(size for size, _ in groups)]
    lists = [list(range(start, end)) for start, end in itertools.pairwise(starts)]
    given_out = assign_groups(lists, labels, SplitPlan(0.2, 0.2, seed))
    assert list(given_out) == ["train", "valid", "test"]
    assert sorted(image for images in given_out.values() for image in images) == list(range(len(labels)))
    for images in given_out.values():
        assert images == sorted(images)
        assert all(set(one) <= set(images) or not set(one) & set(images) for one in lists)
    assert {labels[image] for image in given_out["train"]} == set(labels)
    assert given_out == assign_groups(lists, labels, SplitPlan(0.2, 0.2, seed))
