"""Segmenting ahead: in order, two at once, one group ahead and no further, and one scene's failure is its own."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import numpy as np
import pytest
import torch

from naruto_vision.errors import InputError
from naruto_vision.recognition.analyzer import SegmentedScene, SegmenterAhead, group_size
from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.protocol import SceneEmbedding
from naruto_vision.segmentation.sam import SamModel

WAIT = 20.0  # seconds until a test that hangs is a failed one


class Watched(Segmenter):
    """Finds one pixel an image, at the column that the image's first level says; 255 fails."""

    def __init__(self) -> None:
        super().__init__(GridPrompter(1), SamModel("tiny-sam"))
        self.begun: list[int] = []
        self.at_once = 0
        self.most = 0
        self.embedded: list[int] = []
        self.seen: list[tuple[bool, bool, int]] = []
        self.let = threading.Event()
        self.let.set()
        self._lock = threading.Lock()

    def embed_all(self, images: Sequence[ImageArray]) -> Sequence[SceneEmbedding | None]:
        self.embedded.append(len(images))
        size = images[0].shape[:2]
        return [SceneEmbedding(torch.tensor([float(each[0, 0, 0])]), size, size) for each in images]

    def __call__(self, image: ImageArray, embedding: SceneEmbedding | None = None) -> list[Region]:
        level = int(image[0, 0, 0])
        with self._lock:
            self.begun.append(level)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            own = threading.current_thread() is threading.main_thread()
            self.seen.append((own, torch.is_autocast_enabled("cpu"), torch.get_num_threads()))
        assert self.let.wait(WAIT)
        time.sleep(0.002 * (3 - level % 4))  # later scenes are done sooner
        with self._lock:
            self.at_once -= 1
        if level == 255:
            msg = "a scene that fails"
            raise RuntimeError(msg)
        assert embedding is None or int(embedding.features) == level
        return [Region((level, 0, level, 0), np.ones((1, 1), np.bool_))]


def images(*levels: int) -> Iterator[tuple[ImageArray, str]]:
    return ((np.full((4, 4, 3), level, np.uint8), f"{level}.png") for level in levels)


def results(groups: Iterator[list[Future[SegmentedScene]]]) -> list[list[int]]:
    return [[one.result().regions[0].box[0] for one in group] for group in groups]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("size", [1, 2, 3, 10])
@pytest.mark.usefixtures("two_threads")
def test_groups_come_in_order_whatever_is_done_first(size: int) -> None:
    segmenter = Watched()
    groups = results(SegmenterAhead(segmenter, 2).groups(images(*range(7)), size))
    assert groups == [list(range(start, min(start + size, 7))) for start in range(0, 7, size)]
    assert segmenter.most == 2
    assert results(SegmenterAhead(segmenter, 2).groups(images(), size)) == []


@pytest.mark.usefixtures("two_threads")
def test_two_groups_are_in_memory_and_no_more() -> None:
    read: list[str] = []

    def reading() -> Iterator[tuple[ImageArray, str]]:
        for image, scene in images(*range(20)):
            read.append(scene)
            yield image, scene

    groups = SegmenterAhead(Watched(), 2).groups(reading(), 3)
    assert read == []
    for number in range(1, 6):
        next(groups)
        assert len(read) == 3 * (number + 1)
    assert len(list(groups)) == 2


@pytest.mark.usefixtures("two_threads")
def test_the_next_group_is_under_way_while_one_is_named() -> None:
    segmenter = Watched()
    groups = SegmenterAhead(segmenter, 2).groups(images(*range(4)), 2)
    first = next(groups)
    for one in first:
        one.result()
    limit = time.monotonic() + WAIT
    while len(segmenter.begun) < 4:  # nobody has asked for the second group
        assert time.monotonic() < limit
        time.sleep(0.001)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_scene_that_fails_leaves_its_neighbours_alone(at_once: int) -> None:
    (group,) = SegmenterAhead(Watched(), at_once).groups(images(1, 255, 2), 3)
    assert [one.exception() is None for one in group] == [True, False, True]
    assert group[2].result().scene == "2.png"
    with pytest.raises(RuntimeError, match="a scene that fails"):
        group[1].result()


@pytest.mark.usefixtures("two_threads")
def test_what_nobody_takes_is_called_off() -> None:
    segmenter = Watched()
    segmenter.let.clear()
    groups = SegmenterAhead(segmenter, 2).groups(images(*range(12)), 6)
    group = next(groups)
    groups.close()
    segmenter.let.set()
    limit = time.monotonic() + WAIT
    while not all(one.done() for one in group):
        assert time.monotonic() < limit
        time.sleep(0.001)
    assert len(segmenter.begun) <= 2
    assert sum(one.cancelled() for one in group) >= 4


@pytest.mark.usefixtures("two_threads")
def test_threads_are_shared_out_and_everybody_elses_stay_as_they_were() -> None:
    segmenter = Watched()
    results(SegmenterAhead(segmenter, 2).groups(images(*range(4)), 4))
    assert {threads for _, _, threads in segmenter.seen} == {1}
    assert not any(own for own, _, _ in segmenter.seen)
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert (torch.get_num_threads(), later) == (2, [2])


@pytest.mark.usefixtures("two_threads")
def test_on_a_cpu_scenes_go_one_by_one_with_all_threads_and_nothing_goes_ahead() -> None:
    segmenter, read = Watched(), list[str]()

    def reading() -> Iterator[tuple[ImageArray, str]]:
        for image, scene in images(*range(9)):
            read.append(scene)
            yield image, scene

    groups = SegmenterAhead(segmenter).groups(reading(), 3)
    first = next(groups)
    assert [one.result().scene for one in first] == read == ["0.png", "1.png", "2.png"]
    assert results(groups) == [[3, 4, 5], [6, 7, 8]]
    assert (segmenter.most, segmenter.begun) == (1, list(range(9)))
    assert {threads for _, _, threads in segmenter.seen} == {2}


def test_no_scene_at_once_is_none() -> None:
    with pytest.raises(InputError, match="at_once 0: expected at least 1"):
        SegmenterAhead(Watched(), 0)


@pytest.mark.parametrize("on", [False, True])
def test_mixed_precision_holds_in_the_threads_too(on: bool) -> None:
    segmenter = Watched()
    threads = SegmenterAhead(segmenter)
    with torch.autocast("cpu", torch.bfloat16, enabled=on):
        results(threads.groups(images(0, 1), 2))
    assert {precision for _, precision, _ in segmenter.seen} == {on}


@pytest.mark.usefixtures("two_threads")
def test_a_gpu_encodes_a_group_together(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = Watched()
    monkeypatch.setattr(SegmenterAhead, "_device", torch.device("cuda"))
    assert results(SegmenterAhead(segmenter).groups(images(*range(5)), 3)) == [[0, 1, 2], [3, 4]]
    assert segmenter.embedded == [3, 2]
    groups = SegmenterAhead(segmenter).groups(images(*range(9)), 2)
    next(groups)
    limit = time.monotonic() + WAIT
    while len(segmenter.embedded) < 4:  # the next group is encoded while this one is named
        assert time.monotonic() < limit
        time.sleep(0.001)


def test_on_a_cpu_the_segmenter_is_asked_with_the_image_alone() -> None:
    segmenter = Watched()
    results(SegmenterAhead(segmenter).groups(images(0, 1), 2))
    assert segmenter.embedded == []


def test_how_many_scenes_go_together_depends_on_the_machine() -> None:
    assert [group_size(torch.device(device)) for device in ("cpu", "cuda", "mps")] == [1, 8, 8]
