"""Images that are the same, or nearly: a digest of the pixels, and a perceptual hash with a thumbnail to check it by.

The hash is the signs of the low frequencies of a discrete cosine transform (pHash). It does not see colour, so a pair
whose hashes are near counts only if the thumbnails agree too.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from naruto_vision.records import ImageArray

BITS = 256
NEAR_BITS = 48
"""Hashes that differ in at most this many of their bits are near: unrelated drawings differ in 88 to 170."""
NEAR_COLOUR = 12.0
"""Thumbnails of a near pair differ by at most this on average, in levels of 255."""

_SIDE = 64  # the transform's input; the low 16 x 16 of it are the hash
_LOW = 16
_THUMBNAIL = 16
_BLOCK = 128
_FLAT = 1.0  # coefficients below this are the rounding of a flat image


class Looks(NamedTuple):
    """What one image looks like.

    Args:
        digest: Of the decoded pixels; equal for equal images, whatever file format they are in.
        bits: Shape (4,), uint64: the perceptual hash.
        mirrored: Shape (4,), uint64: the hash of the mirrored image.
        thumbnail: Shape (16, 16, 3), uint8, RGB.
    """

    digest: bytes
    bits: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]
    thumbnail: NDArray[np.uint8]


@dataclass(frozen=True)
class NearPair:
    """Two images that look alike.

    Args:
        first: Place of the one.
        second: Place of the other, larger than ``first``.
        distance: Bits that differ, 0 to 256.
        mirrored: Whether one is the other's mirror image.
    """

    first: int
    second: int
    distance: int
    mirrored: bool = False


def perceptual_hash(image: ImageArray) -> NDArray[np.uint64]:
    """Hash what an image looks like; small changes of size, light and compression change few bits.

    Args:
        image: Shape (H, W, 3), uint8, RGB.

    Returns:
        Shape (4,), uint64: 256 bits, the low frequencies that are above their median.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:_LOW, :_LOW].ravel()
    low[0] = 0.0  # the mean brightness
    low[np.abs(low) < _FLAT] = 0.0
    bits: NDArray[np.uint64] = np.packbits(low > np.median(low)).view(np.uint64)
    return bits


def look_at(image: ImageArray) -> Looks:
    """Describe one image.

    Args:
        image: Shape (H, W, 3), uint8, RGB.

    Returns:
        Its digest, hashes (4,) and thumbnail (16, 16, 3).
    """
    digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest()
    mirror = np.ascontiguousarray(image[:, ::-1])
    thumbnail = cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return Looks(digest, perceptual_hash(image), perceptual_hash(mirror), thumbnail)


def _differing_bits(block: NDArray[np.uint64], all_bits: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count differing bits of (B, 4) against (N, 4) hashes, as (B, N)."""
    counts = np.zeros((len(block), len(all_bits)), dtype=np.int64)
    for word in range(all_bits.shape[1]):
        counts += np.bitwise_count(block[:, word, None] ^ all_bits[None, :, word])
    return counts


def _alike(first: Looks, second: Looks, *, mirrored: bool) -> bool:
    other = second.thumbnail[:, ::-1] if mirrored else second.thumbnail
    return float(np.abs(first.thumbnail.astype(np.int16) - other).mean()) <= NEAR_COLOUR


def _candidates(looks: Sequence[Looks], most_bits: int) -> Iterator[NearPair]:
    """Yield every pair whose hashes are near, block by block; a pair may come as it is and mirrored."""
    bits = np.stack([one.bits for one in looks])
    sides = ((False, bits), (True, np.stack([one.mirrored for one in looks])))
    for start, (flipped, others) in itertools.product(range(0, len(looks), _BLOCK), sides):
        distances = _differing_bits(bits[start : start + _BLOCK], others)
        for row, second in np.argwhere(distances <= most_bits).tolist():
            if start + row < second:
                yield NearPair(start + row, second, int(distances[row, second]), flipped)


def near_pairs(looks: Sequence[Looks], most_bits: int = NEAR_BITS) -> list[NearPair]:
    """Find every pair of images that look alike, also mirrored ones.

    Args:
        looks: N images.
        most_bits: Most bits of 256 in which a pair's hashes differ.

    Returns:
        The pairs, the most alike first.
    """
    if len(looks) < 2:
        return []
    found: dict[tuple[int, int], NearPair] = {}
    for pair in _candidates(looks, most_bits):
        before = found.get((pair.first, pair.second))
        better = before is None or pair.distance < before.distance
        if better and _alike(looks[pair.first], looks[pair.second], mirrored=pair.mirrored):
            found[pair.first, pair.second] = pair
    return sorted(found.values(), key=lambda pair: (pair.distance, pair.first, pair.second))
