"""Segmenting scenes in threads: a group at a time, ahead of what is being named where a GPU computes.

On a CPU scenes go one after another with all of PyTorch's threads: two at once take turns with Python's lock at every
small product, and end later. On a GPU a second one may fill the gaps in which the first one's masks are sorted out.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice
from threading import Barrier
from typing import TypeAlias

import torch
from torch import nn

from naruto_vision.errors import InputError
from naruto_vision.records import Picture, Region
from naruto_vision.segmentation.automatic import Segmenter
from naruto_vision.segmentation.base import SceneEmbedding

Embedded: TypeAlias = Future[tuple[Sequence[SceneEmbedding | None], float]]
"""What the image encoder made of some pictures, and the milliseconds that each took."""


def group_size(device: torch.device) -> int:
    """Return how many scenes are best analysed together: 8 on a GPU, and 1 on a CPU.

    A GPU wants many pictures and crops at once. A CPU is kept busy by one scene's, so a group would only mean later
    answers, and more to do again after a kill.

    Args:
        device: Where the models are.
    """
    return 1 if device.type == "cpu" else 8


@dataclass(frozen=True)
class SegmentedScene:
    """A scene between segmenting and naming.

    Args:
        picture: Shape (H, W, 3), uint8, RGB, upright.
        scene: Its name.
        regions: What was found in it, largest first.
        milliseconds: Wall time of segmenting.
    """

    picture: Picture
    scene: str
    regions: tuple[Region, ...]
    milliseconds: float


class SegmenterAhead:
    """A segmenter in threads of its own, which begin with the first scene.

    Args:
        segmenter: Cuts pictures into regions.
        at_once: Scenes that are segmented side by side; PyTorch's threads are shared out among them.

    Raises:
        InputError: If ``at_once`` is below 1.

    Example:
        >>> import numpy as np
        >>> from naruto_vision.segmentation.prompters import GridPrompter
        >>> from naruto_vision.segmentation.sam import SamModel
        >>> ahead = SegmenterAhead(Segmenter(GridPrompter(4), SamModel(weights="tiny-sam")))
        >>> picture = np.zeros((48, 64, 3), np.uint8)
        >>> started = ahead.start([(picture, "a.png"), (picture[:30], "b.png")])
        >>> [one.result().scene for one in started]
        ['a.png', 'b.png']
    """

    def __init__(self, segmenter: Segmenter, at_once: int = 1) -> None:
        if at_once < 1:
            msg = f"at_once {at_once}: expected at least 1"
            raise InputError(msg)
        self._segmenter = segmenter
        self._at_once = at_once

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(self._at_once, thread_name_prefix="segmenter")
        _share_out(pool, self._at_once)
        return pool

    @property
    def _device(self) -> torch.device:
        model = self._segmenter.model
        return next(model.parameters()).device if isinstance(model, nn.Module) else torch.device("cpu")

    def groups(self, scenes: Iterable[tuple[Picture, str]], size: int) -> Generator[list[Future[SegmentedScene]]]:
        """Segment a stream of scenes; where threads pay, one group ahead of whoever takes them.

        Args:
            scenes: Pictures (H, W, 3), uint8, RGB, upright, with their names; asked for when there is room.
            size: Scenes a group.

        Yields:
            For each scene of a group what becomes of it, or what went wrong with it. What was begun in vain is called
            off when nobody takes it.
        """
        source, begun = iter(scenes), deque[list[Future[SegmentedScene]]]()
        ahead = int(self._at_once > 1 or self._device.type != "cpu")
        try:
            while some := list(islice(source, size)):
                begun.append(self.start(some))
                if len(begun) > ahead:
                    yield begun[0]
                    begun.popleft()
            while begun:
                yield begun[0]
                begun.popleft()
        finally:
            for future in chain.from_iterable(begun):
                future.cancel()

    def start(self, scenes: Sequence[tuple[Picture, str]]) -> list[Future[SegmentedScene]]:
        """Begin with some scenes, behind those that were begun before.

        On anything but a CPU, the image encoder takes them together.

        Args:
            scenes: Pictures (H, W, 3), uint8, RGB, upright, with their names.

        Returns:
            For each scene what becomes of it, or what went wrong with it.
        """
        device = self._device
        modes = _modes(device)
        embedded: Embedded | None = None
        if device.type != "cpu":
            embedded = self._pool.submit(self._embed, modes, [picture for picture, _ in scenes])
        return [
            self._pool.submit(self._segment, modes, picture, scene, embedded, place)
            for place, (picture, scene) in enumerate(scenes)
        ]

    def _embed(
        self, modes: partial[torch.autocast], pictures: Sequence[Picture]
    ) -> tuple[Sequence[SceneEmbedding | None], float]:
        start = time.perf_counter()
        with modes():
            embeddings = self._segmenter.embed_all(pictures)
        return embeddings, (time.perf_counter() - start) * 1e3 / max(1, len(pictures))

    def _segment(
        self,
        modes: partial[torch.autocast],
        picture: Picture,
        scene: str,
        embedded: Embedded | None,
        place: int,
    ) -> SegmentedScene:
        embedding, before = None, 0.0
        if embedded is not None:
            embeddings, before = embedded.result()  # begun earlier, so it ends
            embedding = embeddings[place]
        start = time.perf_counter()
        with modes():
            regions = self._segmenter(picture, embedding)
        return SegmentedScene(picture, scene, tuple(regions), before + (time.perf_counter() - start) * 1e3)


def _share_out(pool: ThreadPoolExecutor, workers: int) -> None:
    """Start a pool's threads, each with its share of PyTorch's."""
    every, together = torch.get_num_threads(), Barrier(workers)

    def begin() -> None:
        torch.get_num_threads()  # a thread takes over the process's number when first asked, so not after this
        torch.set_num_threads(max(1, every // workers))
        together.wait()

    for begun in [pool.submit(begin) for _ in range(workers)]:
        begun.result()
    torch.set_num_threads(every)  # else threads that anybody starts later would take the share for the whole


def _modes(device: torch.device) -> partial[torch.autocast]:
    """Return what enters this thread's precision in another thread."""
    dtype, enabled = torch.get_autocast_dtype(device.type), torch.is_autocast_enabled(device.type)
    return partial(torch.autocast, device.type, dtype=dtype, enabled=enabled)
