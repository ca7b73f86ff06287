"""Frames by name: family and number, the nearest one on the other side, and what that alone gives away."""

import pytest

from naruto_vision.data.leaks import Frame, find_frame_leaks, frame_of, is_exported, looks_counted, plain_stem
from naruto_vision.records import LabelledImage


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("29671_jpg.rf.c25904a2a5a9a83d255752975bab7efe.jpg", "29671"),
        ("show-12_jpeg.rf.AbC9.png", "show-12"),
        ("a.b-3-png.rf.0f.webp", "a.b-3"),
        ("show-12_JPG.jpg", "show-12"),
        ("deep/er/plain.png", "plain"),
    ],
)
def test_what_an_export_adds_to_a_name_is_dropped(name: str, stem: str) -> None:
    assert plain_stem(name) == stem
    assert is_exported(name) == (".rf." in name)


@pytest.mark.parametrize(
    ("path", "frame"),
    [
        ("29671_jpg.rf.c259.jpg", Frame("#", 29671)),
        ("show-12_jpg.rf.0a.jpg", Frame("show-#", 12)),
        ("data/train/show-0012.jpg", Frame("show-#", 12)),
        ("data/train/ann/show-12.jpg", Frame("show-#", 12)),
        ("valid/episode2/12.png", Frame("episode2/#", 12)),
        ("ann/episode2/12.png", Frame("episode2/#", 12)),
        ("004_0010b.png", Frame("004_#b", 10)),
        ("0a1b2c.png", Frame("0a1b#c", 2)),
        ("plain.png", None),
    ],
)
def test_family_and_number(path: str, frame: Frame | None) -> None:
    assert frame_of(path, ("ann", "bob")) == frame


def rows(*numbers: tuple[int, str]) -> list[LabelledImage]:
    return [LabelledImage(f"{number}_jpg.rf.{number:x}.jpg", label) for number, label in numbers]


def test_the_nearest_frame_and_of_two_equally_near_the_later() -> None:
    found = find_frame_leaks(rows((10, "a"), (20, "b")), rows((8, "a"), (12, "b"), (26, "b")))
    assert [(one.path[:2], one.nearest[:2], one.distance) for one in found.neighbours] == [
        ("10", "12", 2),
        ("20", "26", 6),
    ]
    assert (found.within.count, found.within.total) == (1, 2)
    assert found.agreeing.count == 0
    assert found.by_name_alone.count == 1
    assert found.majority == ("b", 1)


@pytest.mark.parametrize(("distance", "near"), [(0, 1), (3, 1), (4, 0)])
def test_the_window_holds_its_end(distance: int, near: int) -> None:
    assert find_frame_leaks(rows((50 + distance, "a")), rows((50, "a"))).within.count == near


def test_images_of_other_families_are_not_named_and_stay_in_the_count() -> None:
    held = [*rows((10, "a")), LabelledImage("show-10.jpg", "a"), LabelledImage("none.jpg", "a")]
    found = find_frame_leaks(held, rows((10, "a")))
    assert (found.by_name_alone.count, found.by_name_alone.total) == (1, 3)
    assert len(found.near) == 1
    assert find_frame_leaks([], []).within.value is None


def test_numbers_that_both_sides_count_from_the_start_are_no_frames() -> None:
    held = [LabelledImage(f"ann/{k:03d}.png", "ann") for k in range(4)]
    others = [LabelledImage(f"ann/{k:03d}.png", "ann") for k in range(20)]
    found = find_frame_leaks(held, others, ("ann",))
    assert (found.counted, found.neighbours) == (("<number>",), ())
    assert find_frame_leaks(held, others, ("ann",), numbers="frames").within.count == 4
    assert find_frame_leaks(held, others, ("ann",), numbers="ignore").counted == ()
    same = find_frame_leaks(rows((1, "a"), (2, "a")), rows((1, "a"), (2, "a"), (3, "a")))
    assert same.within.count == 2  # an export's equal stems are copies of one upload, whatever the numbers look like


def test_counters() -> None:
    assert looks_counted([1, 2, 3, 1, 2, 3])
    assert looks_counted([1, 1, 2, 3])
    assert not looks_counted([1, 2, 3, 4, 4])


def test_what_the_file_number_alone_gives_away() -> None:
    """Draw names with the neighbourhoods of the public export: 33/64 and 14/30 within 3, 49/64 and 24/30 by name."""
    train = rows(*((1000 * k, "ab"[k % 2]) for k in range(143)), *((1000 * k + 9, "ab"[k % 2]) for k in range(143)))
    assert len(train) == 286

    def held(near: int, right: int, total: int, start: int) -> list[LabelledImage]:
        found = []
        for k in range(start, start + total):
            place = k - start
            label = "ab"[k % 2] if place < right else "ba"[k % 2]
            found.append(
                (
                    1000 * k - 3 if place < near and place % 2 else 1000 * k + 12 if place < near else 1000 * k + 400,
                    label,
                )
            )
        return rows(*found)

    for near, right, total, start in ((33, 49, 64, 1), (14, 24, 30, 80)):
        found = find_frame_leaks(held(near, right, total, start), train, window=3)
        assert (found.within.count, found.within.total) == (near, total)
        assert (found.agreeing.count, found.agreeing.total) == (near, near)
        assert (found.by_name_alone.count, found.by_name_alone.total) == (right, total)
    assert round(49 / 64, 3) == 0.766
    assert 24 / 30 == 0.8
