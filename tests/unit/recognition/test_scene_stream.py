"""Scenes analyzed as a stream: the answers of one by one, one search a group, and errors in their place."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.bundles import config_path
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.recognition.merging import MergeConfig
from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.crops import CropConfig
from naruto_vision.segmentation.generator import RegionFilter, Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.protocol import SceneEmbedding
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene

BAD = 7  # the first level of an image that cannot be segmented


class Fragile(Segmenter):
    """Fails at images whose first level says so."""

    def __call__(self, image: ImageArray, embedding: SceneEmbedding | None = None) -> list[Region]:
        if image[0, 0, 0] == BAD:
            msg = "no memory left"
            raise MemoryError(msg)
        return super().__call__(image, embedding)


@pytest.fixture(scope="module")
def scenes() -> list[tuple[ImageArray, str]]:
    cast = read_cast(config_path("cast.yaml"))
    drawn = [(draw_scene(seed, cast, size=96).image.copy(), f"{seed}.png") for seed in range(5)]
    drawn.insert(2, (np.full((40, 56, 3), 90, np.uint8), "empty.png"))
    for image, _ in drawn:
        image[0, 0] = 0
    return drawn


@pytest.fixture(scope="module")
def parts(scenes: list[tuple[ImageArray, str]]) -> tuple[Segmenter, ClipEncoder, Gallery]:
    encoder = ClipEncoder("tiny-clip").eval()
    images = [image[:, :48] for image, _ in scenes[:4]]
    rows = [GalleryRow(f"{number}.png", name) for number, name in enumerate("abca")]
    gallery = Gallery.build(embed_images(encoder, images).numpy(), rows, fingerprint=encoder.fingerprint)
    segmenter = Fragile(GridPrompter(5), SamModel(weights="tiny-sam").eval(), keep=RegionFilter(min_area=20))
    return segmenter, encoder, gallery


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "two ways, as the reference scores": {"more_crops": [CropConfig(background=128)], "renormalise": False},
    "class means": {"decision": "mean", "mirror": False},
    "merging": {"merge": MergeConfig(gain=-1.0, gap=8)},
}


@pytest.mark.parametrize(
    ("case", "group"), [(case, 4) for case in OPTIONS] + [("defaults", size) for size in (1, 2, 9)]
)
def test_a_stream_has_the_answers_of_one_by_one(
    parts: tuple[Segmenter, ClipEncoder, Gallery],
    scenes: list[tuple[ImageArray, str]],
    case: str,
    group: int,
) -> None:
    analyzer = SceneAnalyzer(*parts, neighbours=3, at_once=1 + group % 2, **OPTIONS[case])
    found = list(analyzer.analyze_many(iter(scenes), group))
    assert [one.scene for one in found] == [scene for _, scene in scenes]
    assert sum(len(one.regions) for one in found) > 5
    for one, (image, scene) in zip(found, scenes, strict=True):
        alone = analyzer(image, scene)
        assert (one.width, one.height) == (alone.width, alone.height)
        assert [region.box for region in one.regions] == [region.box for region in alone.regions]
        assert all(np.array_equal(a.mask, b.mask) for a, b in zip(one.regions, alone.regions, strict=True))
        assert [who.label for who in one.identities] == [who.label for who in alone.identities]
        assert [who.score for who in one.identities] == pytest.approx([who.score for who in alone.identities], abs=1e-5)
        rows = [[row.row for row in who.neighbours] for who in one.identities]
        assert rows == [[row.row for row in who.neighbours] for who in alone.identities]
        assert list(one.milliseconds) == list(alone.milliseconds)
        assert one.milliseconds["segment"] > 0


def test_a_group_is_searched_once_and_its_time_is_shared_out_by_regions(
    parts: tuple[Segmenter, ClipEncoder, Gallery], scenes: list[tuple[ImageArray, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzer, asked = SceneAnalyzer(*parts, neighbours=3), list[int]()
    search = analyzer.gallery.search

    def counted(queries: Any, k: int, *rest: Any) -> Any:
        asked.append(len(queries))
        return search(queries, k, *rest)

    monkeypatch.setattr(analyzer.gallery, "search", counted)
    found = list(analyzer.analyze_many(scenes, 3))
    counts = [len(one.regions) for one in found]
    assert asked == [sum(counts[:3]), sum(counts[3:])]
    for one, count in zip(found[:3], counts[:3], strict=True):
        assert one.milliseconds["embed"] * max(counts[:3]) == pytest.approx(
            count * max(other.milliseconds["embed"] for other in found[:3])
        )
    assert counts[2] == found[2].milliseconds["search"] == 0


@pytest.mark.parametrize(("group", "place"), [(1, 1), (2, 4), (3, 1), (3, 3), (9, 0), (9, 4)])
def test_the_scenes_before_one_that_fails_are_answered(
    parts: tuple[Segmenter, ClipEncoder, Gallery], scenes: list[tuple[ImageArray, str]], group: int, place: int
) -> None:
    analyzer = SceneAnalyzer(*parts)
    bad = np.full((16, 16, 3), BAD, np.uint8)
    answered: list[str] = []
    stream = analyzer.analyze_many([*scenes[:place], (bad, "bad.png"), *scenes[place:]], group)
    with pytest.raises(MemoryError, match="no memory left"):
        answered.extend(one.scene for one in stream)
    assert answered == [scene for _, scene in scenes[:place]]
    assert len(list(analyzer.analyze_many(scenes, group))) == len(scenes)  # its threads go on


def test_a_group_has_a_scene(parts: tuple[Segmenter, ClipEncoder, Gallery]) -> None:
    analyzer = SceneAnalyzer(*parts)
    with pytest.raises(ValueError, match="groups of 1 scene or more, found 0"):
        next(analyzer.analyze_many([], 0))
    assert list(analyzer.analyze_many([], 3)) == []


def test_the_size_of_groups_is_that_of_the_machine(
    parts: tuple[Segmenter, ClipEncoder, Gallery], scenes: list[tuple[ImageArray, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SceneAnalyzer(*parts).at_once == 1
    with pytest.raises(InputError, match="at_once 0: expected at least 1"):  # also where nothing goes side by side
        SceneAnalyzer(*parts, at_once=0)
    devices: list[torch.device] = []
    read: list[str] = []

    def three(device: torch.device) -> int:
        devices.append(device)
        return 3

    def reading() -> Iterator[tuple[ImageArray, str]]:
        for image, scene in scenes:
            read.append(scene)
            yield image, scene

    monkeypatch.setattr("naruto_vision.recognition.analyzer.group_size", three)
    stream = SceneAnalyzer(*parts).analyze_many(reading())
    next(stream)
    assert devices == [torch.device("cpu")]
    assert len(read) == 3
    next(SceneAnalyzer(*parts, at_once=2).analyze_many(reading()))
    assert len(read) == 3 + 6  # the group that is named and the next one


def test_the_kind_of_arithmetic_belongs_to_what_decides_a_run(
    parts: tuple[Segmenter, ClipEncoder, Gallery], monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzer = SceneAnalyzer(*parts)
    before = analyzer.facts()
    monkeypatch.setattr(analyzer.encoder, "arithmetic", "int8")
    assert {key for key, value in analyzer.facts().items() if before[key] != value} == {"arithmetic"}
