"""Scenes: the ground truth belongs to the pixels, and the rules of who may be in them hold."""

import hashlib
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest

from naruto_vision.io.bundles import config_path
from naruto_vision.synthetic import scene as synthetic_scenes
from naruto_vision.synthetic.attributes import Attributes, Cast, random_attributes, read_cast
from naruto_vision.synthetic.scene import Difficulty, SyntheticScene, draw_scene
from naruto_vision.synthetic.sketch import PARTS

_SIZE = 128


@pytest.fixture(scope="module")
def cast() -> Cast:
    return read_cast(config_path("cast.yaml"))


@pytest.fixture(scope="module")
def scenes(cast: Cast) -> list[SyntheticScene]:
    return [draw_scene(seed, cast, size=_SIZE) for seed in range(100)]


def test_pixels_are_the_same_on_every_machine(cast: Cast) -> None:
    digest = hashlib.sha256()
    for seed in range(4):
        scene = draw_scene(seed, cast, size=192)
        digest.update(scene.image.tobytes())
        for drawn in scene.objects:
            digest.update(drawn.mask.tobytes())
            digest.update(repr((drawn.label, drawn.box, scene.difficulty)).encode())
    assert digest.hexdigest()[:16] == "f31755afd8d7ce7a"


def test_masks_are_tight_disjoint_and_large_enough(scenes: list[SyntheticScene]) -> None:
    for scene in scenes:
        together = np.zeros((_SIZE, _SIZE), dtype=int)
        assert 1 <= len(scene.objects) <= 5
        for drawn in scene.objects:
            together += drawn.mask
            x1, y1, x2, y2 = drawn.box
            rows, columns = np.nonzero(drawn.mask)
            assert (columns.min(), rows.min(), columns.max(), rows.max()) == (x1, y1, x2, y2)
            assert drawn.mask.sum() >= 400 * (_SIZE / 384) ** 2
        assert together.max() == 1


def test_parts_make_up_the_mask(scenes: list[SyntheticScene]) -> None:
    seen: Counter[str] = Counter()
    for scene in scenes[:60]:
        for drawn in scene.objects:
            assert set(drawn.parts) <= set(PARTS[1:])
            assert "head" in drawn.parts
            total = sum(part.astype(int) for part in drawn.parts.values())
            assert np.array_equal(total, drawn.mask.astype(int))
            seen.update(drawn.parts)
    assert set(seen) == set(PARTS[1:])


def test_the_masks_are_where_the_figures_are(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    # with a black background and no wear, what is not black is a figure
    monkeypatch.setattr(synthetic_scenes, "draw_backdrop", lambda _, w, h: np.zeros((h, w, 3), np.uint8))
    monkeypatch.setattr(synthetic_scenes, "finish", lambda image, _, **__: image)
    for seed in range(10):
        scene = draw_scene(seed, cast, size=_SIZE)
        union = np.any([drawn.mask for drawn in scene.objects], axis=0)
        lit = scene.image.max(axis=2) > 25
        assert (union & ~lit).sum() < 0.02 * union.sum()
        assert (lit & ~union).sum() < 0.08 * union.sum()  # half-covered edges
        edge = cv2.erode((~union).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert not (lit & edge).any()


def test_each_member_at_most_once_and_unknowns_are_unknown(cast: Cast, scenes: list[SyntheticScene]) -> None:
    for scene in scenes:
        labels = [drawn.label for drawn in scene.objects if drawn.label is not None]
        assert len(set(labels)) == len(labels)
        for drawn in scene.objects:
            if drawn.label is None:
                assert not any(drawn.attributes.resembles(member) for member in cast.attributes)
            else:
                assert drawn.attributes == cast.members[drawn.label]


def test_some_scenes_have_nobody_known_and_some_have_both(scenes: list[SyntheticScene]) -> None:
    kinds = Counter(tuple(sorted({drawn.label is None for drawn in scene.objects})) for scene in scenes)
    assert 0.05 < kinds[(True,)] / len(scenes) < 0.3
    assert kinds[(False, True)] > 6
    assert kinds[(False,)] > 26
    names = Counter(drawn.label for scene in scenes for drawn in scene.objects)
    assert len(names) == 9  # the eight and the unknowns


def test_unknowns_only_means_it(cast: Cast) -> None:
    for seed in range(12):
        scene = draw_scene(seed, cast, size=64, unknowns_only=True)
        assert all(drawn.label is None for drawn in scene.objects)


def test_difficulty_is_kept_and_hard_is_more_crowded_than_easy(cast: Cast) -> None:
    limits: dict[Difficulty, int] = {"easy": 2, "medium": 4, "hard": 5}
    mean = {}
    for level, most in limits.items():
        scenes = [draw_scene(seed, cast, size=64, difficulty=level) for seed in range(20)]
        assert {scene.difficulty for scene in scenes} == {level}
        counts = [len(scene.objects) for scene in scenes]
        assert 1 <= min(counts) <= max(counts) <= most
        mean[level] = np.mean(counts)
    assert mean["easy"] < mean["medium"] < mean["hard"]


def test_whoever_is_hardly_seen_is_left_out(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [draw_scene(seed, cast, size=64, difficulty="hard") for seed in range(25)]
    monkeypatch.setattr(synthetic_scenes, "_hidden", lambda *_: None)
    everybody = [draw_scene(seed, cast, size=64, difficulty="hard") for seed in range(25)]
    left_out = 0
    for some, more in zip(kept, everybody, strict=True):
        who = {drawn.attributes: drawn for drawn in some.objects}
        left_out += sum(drawn.attributes not in who for drawn in more.objects)
        for drawn in more.objects:  # leaving somebody out can only uncover the others
            if drawn.attributes in who:
                assert (who[drawn.attributes].mask | ~drawn.mask).all()
    assert left_out > 3


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _who(seed: int = 0, **changes: str) -> Attributes:
    return replace(random_attributes(_rng(seed)), **changes)  # type: ignore[arg-type]  # the constructor checks


def test_a_chosen_difficulty_leaves_the_rest_of_the_scene_to_the_seed() -> None:
    cast = Cast({"Ann": _who(10)})
    scene = draw_scene(5, cast, size=64)
    assert np.array_equal(draw_scene(5, cast, size=64, difficulty=scene.difficulty).image, scene.image)


def test_a_cast_of_one_fills_scenes_with_unknowns() -> None:
    cast = Cast({"Ann": _who(11)})
    labels = [[one.label for one in draw_scene(seed, cast, size=64, difficulty="hard").objects] for seed in range(12)]
    assert max(some.count("Ann") for some in labels) == 1
    assert max(map(len, labels)) >= 3
