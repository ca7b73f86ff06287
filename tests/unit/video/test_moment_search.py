"""From scores to moments: thresholds that can find nothing, joined intervals, limits and fused queries."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.vector_store import Collection, Metadata, open_store
from naruto_vision.records import Vectors
from naruto_vision.video.search import (
    FoundMoments,
    FrameHit,
    ThresholdRule,
    character_query,
    fuse_queries,
    join_frames,
    search_moments,
)

DIM = 64


def _unit(rows: Vectors) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _noise(count: int, seed: int) -> Vectors:
    return _unit(np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32))


def _at(cosines: Sequence[float], axis: int = 0, seed: int = 0) -> Vectors:
    """Make unit rows with these cosines to an axis, and otherwise all different."""
    rest = _noise(len(cosines), seed)
    rest[:, axis] = 0
    rows = _unit(rest) * np.sqrt(1 - np.square(cosines))[:, None]
    rows[:, axis] = cosines
    return np.asarray(rows, np.float32)


def _query(axis: int = 0) -> Vectors:
    return np.eye(DIM, dtype=np.float32)[axis : axis + 1]


def _facts(video: str, number: int, window: int) -> Metadata:
    start, end = 2.0 * number, 2.0 * number + 2
    times = {"time": start, "start": start, "end": end}
    return {"video": f"/v/{video}", "frame": 48 * number, "shot": number, "window": window, **times}


def _fill(folder: Path, videos: dict[str, Vectors], *, windows: int = 1) -> list[Collection]:
    """Write a collection for each video, a frame every two seconds, with some entries a frame."""
    store = open_store(str(folder / "store"))
    collections = []
    for name, vectors in videos.items():
        collection = store.create(name, {"dim": DIM})
        places = [(number // windows, number % windows) for number in range(len(vectors))]
        facts = [_facts(name, k, w) for k, w in places]
        collection.add([f"frame_{48 * k:06}.png#{w}" for k, w in places], vectors, facts)
        collections.append(collection)
    store.close()
    return collections


def _frames(found: FoundMoments) -> list[tuple[str, int]]:
    return [(hit.video, hit.frame // 48) for hit in found.frames]


def test_a_fixed_threshold_keeps_what_reaches_it_best_first(tmp_path: Path) -> None:
    videos = {"a.mp4": _at([0.1, 0.5, 0.25]), "b.mp4": _at([0.9, 0.2], seed=1)}
    found = search_moments(_fill(tmp_path, videos), _query(), "x", threshold=0.25)
    assert _frames(found) == [("b.mp4", 0), ("a.mp4", 1), ("a.mp4", 2)]
    assert [hit.score for hit in found.frames] == pytest.approx([0.9, 0.5, 0.25], abs=1e-6)
    assert list(found.by_video()) == ["b.mp4", "a.mp4"]


def test_scores_are_cosines_from_minus_one_to_one(tmp_path: Path) -> None:
    vectors = _at([1.0, -1.0, 0.3])
    found = search_moments(_fill(tmp_path, {"a.mp4": vectors}), _query(), "x", threshold=-1.0)
    assert sorted(hit.score for hit in found.frames) == pytest.approx([-1.0, 0.3, 1.0], abs=1e-6)


@pytest.mark.parametrize(("cosines", "kept"), [([0.5, 0.46, 0.44], [0, 1]), ([-0.5, -0.54, -0.56], [0, 1])])
def test_ninety_percent_of_the_best_of_all_collections(tmp_path: Path, cosines: list[float], kept: list[int]) -> None:
    videos = {"a.mp4": _at(cosines), "b.mp4": _at([cosines[0] - 0.2, cosines[0] - 0.3], seed=1)}
    found = search_moments(_fill(tmp_path, videos), _query(), "x", threshold="auto90")
    assert _frames(found) == [("a.mp4", number) for number in kept]
    assert found.threshold == pytest.approx(cosines[0] - 0.1 * abs(cosines[0]), abs=1e-6)


def test_the_calibrated_threshold_says_that_nothing_is_found(tmp_path: Path) -> None:
    unrelated = _noise(58, 7)
    videos = {f"{k}.mp4": _noise(40, 20 + k) for k in range(4)}
    videos["0.mp4"][5] = _at([0.9])[0]
    collections = _fill(tmp_path, videos)
    there = search_moments(collections, _query(), "there", unrelated=unrelated)
    assert _frames(there) == [("0.mp4", 5)]
    absent = [search_moments(collections, row[None], "absent", unrelated=unrelated) for row in _noise(60, 8)]
    assert sum(bool(found.frames) for found in absent) <= 6
    empty = next(found for found in absent if not found.frames)
    assert empty.sentence().startswith("nothing found in 160 entries of 4 videos")
    assert empty.nearest
    assert empty.as_json()["found"] is False
    reference = [search_moments(collections, row[None], "absent", threshold="auto90") for row in _noise(5, 9)]
    assert all(found.frames for found in reference)  # the reference's rule always finds something


@pytest.mark.parametrize("videos", [1, 4])
def test_images_are_compared_with_what_frames_reach_among_others(tmp_path: Path, videos: int) -> None:
    collections = _fill(tmp_path, {f"{k}.mp4": _noise(40, 30 + k) for k in range(videos)})
    frame = collections[0].read()[1][3:4]
    near = _unit(frame + 0.05 * _noise(1, 5))
    assert [hit.video for hit in search_moments(collections, near, "frame.png").frames] == ["0.mp4"]
    assert sum(bool(search_moments(collections, row[None], "x").frames) for row in _noise(40, 6)) <= 4


@pytest.mark.parametrize("videos", [1, 3])
def test_copies_of_a_video_do_not_raise_the_threshold_of_images(tmp_path: Path, videos: int) -> None:
    apart = {f"{k}.mp4": _noise(40, 30 + k) for k in range(videos)}
    copies = {f"{k} again.mp4": _unit(rows + 0.01 * _noise(40, 70 + k)) for k, rows in enumerate(apart.values())}
    near = _unit(apart["0.mp4"][3:4] + 0.1 * _noise(1, 5))  # a cosine of 0.995
    far = _unit(apart["0.mp4"][3:4] + 0.7 * _noise(1, 5))
    single = search_moments(_fill(tmp_path / "single", apart), near, "frame.png")
    double = search_moments(_fill(tmp_path / "double", apart | copies), near, "frame.png")
    assert double.threshold == pytest.approx(single.threshold, abs=0.05)
    found = search_moments(_fill(tmp_path / "far", apart | copies), far, "frame.png")
    assert {hit.video for hit in found.frames} == {"0.mp4", "0 again.mp4"}


def test_a_frame_that_looks_the_same_is_found_however_much_the_others_vary(tmp_path: Path) -> None:
    varied = [0.95, 0.85, 0.65, 0.5, 0.3, 0.1]
    collections = _fill(tmp_path, {"a.mp4": _at(varied), "b.mp4": _at(varied, seed=1)})
    near = _unit(_at(varied)[:1] + 0.14 * _noise(1, 5))  # a cosine of 0.99
    found = search_moments(collections, near, "frame.png")
    assert (found.threshold, _frames(found)) == (0.98, [("a.mp4", 0)])


def test_a_single_shot_has_nothing_to_compare_an_image_with(tmp_path: Path) -> None:
    found = search_moments(_fill(tmp_path, {"a.mp4": _at([0.8])}), _query(), "frame.png")
    assert found.rule == "90 % of the best score"


def test_neighbouring_frames_are_one_moment_and_others_are_not(tmp_path: Path) -> None:
    cosines = [0.9, 0.8, 0.1, 0.1, 0.85, 0.1]
    found = search_moments(_fill(tmp_path, {"a.mp4": _at(cosines)}), _query(), "x", threshold=0.5, join=1.0)
    assert [(moment.start, moment.end, moment.best.frame // 48) for moment in found.moments] == [(0, 4, 0), (8, 10, 4)]
    wide = search_moments(_fill(tmp_path, {"a.mp4": _at(cosines)}), _query(), "x", threshold=0.5, join=4.0)
    assert [(moment.start, moment.end) for moment in wide.moments] == [(0, 10)]
    shots = search_moments(_fill(tmp_path, {"a.mp4": _at(cosines)}), _query(), "x", threshold=0.5)
    assert [(moment.start, moment.end) for moment in shots.moments] == [(0, 2), (8, 10), (2, 4)]


def test_frames_of_one_shot_are_one_moment_and_those_of_a_rate_are_joined_by_time() -> None:
    def hit(time: float, shot: int) -> FrameHit:
        return FrameHit("a", "a.mp4", int(time * 8), time, shot, time, time + 0.5, 0.5, f"{time}")

    shots = join_frames([hit(0, 0), hit(3, 0), hit(3.5, 1), hit(4, 1)])
    assert [(moment.start, moment.end) for moment in shots] == [(0, 3.5), (3.5, 4.5)]
    rate = join_frames([hit(0, -1), hit(0.5, -1), hit(1.5, -1), hit(4, -1)])
    assert [(moment.start, moment.end) for moment in rate] == [(0, 2.0), (4, 4.5)]


def test_moments_that_look_the_same_are_shown_once(tmp_path: Path) -> None:
    vectors = _at([0.9, 0.0, 0.8, 0.0, 0.85])
    vectors[4] = _unit(vectors[:1] + 0.02 * _noise(1, 3))[0]
    collections = _fill(tmp_path, {"a.mp4": vectors})
    found = search_moments(collections, _query(), "x", threshold=0.5)
    assert [moment.best.frame // 48 for moment in found.moments] in ([0, 2], [4, 2])
    assert len(search_moments(collections, _query(), "x", threshold=0.5, same=2.0).moments) == 3


def test_limits_in_all_and_per_video(tmp_path: Path) -> None:
    videos = {"a.mp4": _at([0.9, 0, 0.8, 0, 0.7]), "b.mp4": _at([0.6, 0, 0.5], seed=1)}
    collections = _fill(tmp_path, videos)
    best = search_moments(collections, _query(), "x", threshold=0.4, top_k=2).moments
    assert [moment.best.score for moment in best] == pytest.approx([0.9, 0.8], abs=1e-6)
    each = search_moments(collections, _query(), "x", threshold=0.4, per_video=1).moments
    assert [moment.best.video for moment in each] == ["a.mp4", "b.mp4"]


def test_the_five_best_frames_of_each_video_are_there_whatever_their_score(tmp_path: Path) -> None:
    videos = {"a.mp4": _at([0.1 * k for k in range(9)]), "b.mp4": _at([0.1, 0.05], seed=1)}
    found = search_moments(_fill(tmp_path, videos), _query(), "x", threshold=0.75, top_k=1)
    assert [(hit.video, hit.frame // 48) for hit in found.nearest] == [
        *(("a.mp4", number) for number in (8, 7, 6, 5, 4)), ("b.mp4", 0), ("b.mp4", 1),
    ]  # fmt: skip
    assert len(found.moments) == 1


def test_a_frame_counts_once_with_the_best_of_its_windows(tmp_path: Path) -> None:
    collections = _fill(tmp_path, {"a.mp4": _at([0.2, 0.7, 0.6, 0.1, 0.1, 0.1])}, windows=3)
    found = search_moments(collections, _query(), "x", threshold=0.15)
    assert [(hit.frame, round(hit.score, 3)) for hit in found.frames] == [(0, 0.7)]


def test_every_frame_above_is_found_where_there_are_thousands(tmp_path: Path) -> None:
    collections = _fill(tmp_path, {"a.mp4": _at(np.linspace(0.95, 0.05, 3000).tolist())})
    found = search_moments(collections, _query(), "x", threshold=0.35, same=2.0)
    assert len(found.frames) == 2000


def test_texts_and_images_are_fused_by_their_weight() -> None:
    text, image = _query(0), _query(1)
    assert fuse_queries(text, image, 0.8)[0, :2] == pytest.approx(np.array([0.8, 0.2]) / np.hypot(0.8, 0.2))
    assert np.array_equal(fuse_queries(text, image[:0], 0.1), text)
    assert np.array_equal(fuse_queries(text[:0], image, 0.9), image)
    with pytest.raises(InputError, match="no query"):
        fuse_queries(text[:0], image[:0])
    with pytest.raises(InputError, match="cancel"):
        fuse_queries(text, -text)


def test_a_character_is_the_mean_of_its_class() -> None:
    vectors = np.concatenate([_query(0), _query(1), _query(2)])
    gallery = Gallery.build(vectors, [GalleryRow(f"{k}.png", "ab"[k // 2]) for k in range(3)], fingerprint="0" * 64)
    assert character_query(gallery, "a")[0, :3] == pytest.approx([0.5**0.5, 0.5**0.5, 0.0])
    with pytest.raises(InputError, match="no character 'c'; there are: a, b"):
        character_query(gallery, "c")


@pytest.mark.parametrize("rule", ["auto", "auto90", 0.2])
def test_an_empty_collection_finds_nothing(tmp_path: Path, rule: ThresholdRule) -> None:
    with open_store(str(tmp_path / "store")) as store:
        found = search_moments([store.create("a.mp4", {"dim": DIM})], _query(), "x", threshold=rule)
    assert not found.moments
    assert "nothing found" in found.sentence()


def test_no_video_and_entries_of_others_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="video index"):
        search_moments([], _query(), "x")
    with open_store(str(tmp_path / "store")) as store:
        collection = store.create("a.mp4", {"dim": DIM})
        collection.add(["1"], _query(), [{"page": 3}])
        with pytest.raises(InputError, match=r"a\.mp4.*index the video again"):
            search_moments([collection], _query(), "x", threshold=0.1)
