"""Images that look alike are found whatever was done to them; others are not."""

import cv2
import numpy as np
import pytest

from naruto_vision.data.image_hash import ImageSignature, NearPair, image_signature, near_pairs, perceptual_hash
from naruto_vision.records import ImageArray
from naruto_vision.synthetic.attributes import random_attributes
from naruto_vision.synthetic.scene import draw_image


def drawing(seed: int, size: int = 96) -> ImageArray:
    return draw_image(random_attributes(np.random.default_rng(seed)), seed, size).image


def distance(first: ImageArray, second: ImageArray) -> int:
    return int(np.bitwise_count(perceptual_hash(first) ^ perceptual_hash(second)).sum())


def compressed(image: ImageArray) -> ImageArray:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), dtype=np.uint8)


def brighter(image: ImageArray) -> ImageArray:
    return np.clip(image.astype(np.int16) + 6, 0, 255).astype(np.uint8)


def smaller(image: ImageArray) -> ImageArray:
    return np.asarray(cv2.resize(image, (70, 66), interpolation=cv2.INTER_AREA), dtype=np.uint8)


@pytest.mark.parametrize("change", [compressed, brighter, smaller])
def test_a_changed_copy_is_near(change: object) -> None:
    for seed in range(3):
        copy = change(drawing(seed))  # type: ignore[operator]  # a function of the list above
        found = near_pairs([image_signature(drawing(seed)), image_signature(copy)])
        assert [(pair.first, pair.second, pair.mirrored) for pair in found] == [(0, 1, False)]
        assert image_signature(drawing(seed)).digest != image_signature(copy).digest


def test_a_mirrored_copy_is_near_and_said_to_be_mirrored() -> None:
    image = drawing(5)
    found = near_pairs([image_signature(image), image_signature(np.ascontiguousarray(image[:, ::-1]))])
    assert found == [NearPair(0, 1, 0, mirrored=True)]


def test_different_drawings_are_not_near() -> None:
    looks = [image_signature(drawing(seed)) for seed in range(20)]
    assert near_pairs(looks) == []
    assert min(distance(drawing(0), drawing(seed)) for seed in range(1, 8)) > 60


def test_the_hash_alone_does_not_see_colour_but_a_pair_has_to_agree_in_it() -> None:
    image = drawing(3)
    other = np.ascontiguousarray(image.copy())
    other[..., 0], other[..., 2] = image[..., 2].copy(), image[..., 0].copy()
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    assert distance(image, grey) < 8
    assert near_pairs([image_signature(image), image_signature(grey)]) == []


def test_near_ends_at_48_bits_where_unrelated_drawings_begin_at_88() -> None:
    grey = np.zeros((16, 16, 3), dtype=np.uint8)

    def looks(ones: int) -> ImageSignature:
        bits = np.packbits(np.arange(256) < ones).view(np.uint64)
        return ImageSignature(bytes([ones]), bits, ~bits, grey)

    for ones, near in ((48, True), (49, False), (60, False), (88, False)):
        assert bool(near_pairs([looks(0), looks(ones)])) == near
    shots = [compressed(brighter(smaller(drawing(seed)))) for seed in range(6)]  # three changes at once stay within
    for seed, shot in enumerate(shots):
        assert len(near_pairs([image_signature(drawing(seed)), image_signature(shot)])) == 1


def test_flat_images_are_alike_only_in_one_colour() -> None:
    flats = [np.full((20, 30, 3), value, dtype=np.uint8) for value in (10, 12, 200)]
    assert [(pair.first, pair.second) for pair in near_pairs([image_signature(flat) for flat in flats])] == [(0, 1)]
    assert image_signature(flats[0]).digest != image_signature(flats[0][:10]).digest


def test_many_images_are_searched_in_blocks() -> None:
    drawings = [drawing(seed, 64) for seed in range(12)]
    looks = [image_signature(image) for image in drawings * 13]  # 156, more than one block
    found = near_pairs(looks)
    assert {(pair.first % 12, pair.second % 12) for pair in found} == {(k, k) for k in range(12)}
    assert len(found) == 12 * 13 * 12 // 2
    assert all(pair.distance == 0 for pair in found)
    assert near_pairs(looks[:1]) == near_pairs([]) == []
