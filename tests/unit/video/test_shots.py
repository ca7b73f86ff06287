import clips
import numpy as np
import pytest

from naruto_vision.io.video import VideoFrame
from naruto_vision.records import ImageArray
from naruto_vision.video.shots import Shot, ShotConfig, find_shots, shots_with_key_frames

FPS = 24


def _scene(seed: int, count: int, moves: int = 1) -> list[ImageArray]:
    """Draw a shot: coloured blocks that move."""
    rng = np.random.default_rng(seed)
    back = np.kron(rng.integers(0, 256, (6, 10, 3), np.uint8), np.ones((18, 18, 1), np.uint8))
    return [np.roll(back, moves * index, axis=1) for index in range(count)]


def _frames(images: list[ImageArray]) -> list[VideoFrame]:
    return [VideoFrame(index, index / FPS, image) for index, image in enumerate(images)]


def test_cuts_are_found_to_the_frame() -> None:
    images = [*_scene(1, 40), *_scene(2, 30), *_scene(3, 50)]
    shots = find_shots(_frames(images))
    assert shots == [
        Shot(0, 40, 0.0, 40 / FPS),
        Shot(40, 70, 40 / FPS, 70 / FPS),
        Shot(70, 120, 70 / FPS, 119 / FPS),
    ]


def test_fast_motion_and_a_flash_are_no_cuts() -> None:
    fast = _scene(1, 60, moves=9)
    assert len(find_shots(_frames(fast))) == 1
    flash = _scene(2, 60)
    flash[30] = np.full_like(flash[30], 255)
    assert len(find_shots(_frames(flash))) == 1


def test_a_shot_has_a_shortest_length() -> None:
    images = [*_scene(1, 40), *_scene(2, 5), *_scene(3, 40)]
    assert [shot.start_frame for shot in find_shots(_frames(images))] == [0, 40]
    assert [shot.start_frame for shot in find_shots(_frames(images), ShotConfig(seconds=0.1))] == [0, 40, 45]


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (30, 1), (100, 2), (400, 3)])
def test_key_frames_are_spread_over_a_shot(count: int, expected: int) -> None:
    ((shot, keys),) = shots_with_key_frames(_frames(_scene(1, 2) * (count // 2) + _scene(1, count % 2)))
    assert shot.end_frame == count
    assert len(keys) == expected
    middles = [count * (2 * part + 1) / (2 * expected) for part in range(expected)]
    assert all(abs(key.index - middle) <= max(count / 10, 1) for key, middle in zip(keys, middles, strict=True))


def test_no_frames_have_no_shots() -> None:
    assert find_shots([]) == []
    assert find_shots(_frames([clips.image(0)])) == [Shot(0, 1, 0.0, 0.0)]
