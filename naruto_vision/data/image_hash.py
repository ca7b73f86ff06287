"""Exact and near duplicates of images: a digest of the pixels, a perceptual hash and a thumbnail."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from naruto_vision.records import ImageArray

NEAR_BITS = 48
"""Hashes that differ in at most this many of their bits are near: unrelated drawings differ in 88 to 170."""
NEAR_COLOUR = 12.0
"""Thumbnails of a near pair differ by at most this on average, in levels of 255."""

_SIDE = 64  # the transform's input; its low 16 x 16 frequencies are the hash
_THUMBNAIL = 16
_BLOCK = 128


class ImageSignature(NamedTuple):
    """A digest of the decoded pixels, hashes (4,) uint64 and a thumbnail (16, 16, 3) uint8 RGB."""

    digest: bytes
    bits: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]  # the hash of the mirrored image
    thumbnail: NDArray[np.uint8]


@dataclass(frozen=True)
class NearPair:
    """Two similar images: their indices, the bits of 256 that differ, whether the pixels are the same."""

    first: int
    second: int  # larger than ``first``
    distance: int = 0
    exact: bool = False
    mirrored: bool = False


def perceptual_hash(image: ImageArray) -> NDArray[np.uint64]:
    """Compute the 256-bit pHash of an RGB image, as (4,) uint64; it ignores colour."""
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    found = imagehash.phash(Image.fromarray(small.astype(np.uint8)), hash_size=16, highfreq_factor=4)
    bits: NDArray[np.uint64] = np.packbits(found.hash).view(np.uint64)
    return bits


def image_signature(image: ImageArray) -> ImageSignature:
    """Compute the signature of an RGB image."""
    digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest()
    mirror = np.ascontiguousarray(image[:, ::-1])
    thumbnail = cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return ImageSignature(digest, perceptual_hash(image), perceptual_hash(mirror), thumbnail)


def _differing_bits(block: NDArray[np.uint64], all_bits: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count differing bits of (B, 4) against (N, 4) hashes, as (B, N)."""
    counts: NDArray[np.int64] = np.bitwise_count(block[:, None] ^ all_bits[None]).sum(axis=2, dtype=np.int64)
    return counts


def _alike(first: ImageSignature, second: ImageSignature, *, mirrored: bool) -> bool:
    other = second.thumbnail[:, ::-1] if mirrored else second.thumbnail
    return float(np.abs(first.thumbnail.astype(np.int16) - other).mean()) <= NEAR_COLOUR


def _candidates(signatures: Sequence[ImageSignature]) -> Iterator[NearPair]:
    """Yield every pair whose hashes are near, block by block; a pair may be yielded twice, plain and mirrored."""
    bits = np.stack([one.bits for one in signatures])
    sides = ((False, bits), (True, np.stack([one.mirrored for one in signatures])))
    for start, (flipped, others) in itertools.product(range(0, len(signatures), _BLOCK), sides):
        distances = _differing_bits(bits[start : start + _BLOCK], others)
        for row, second in np.argwhere(distances <= NEAR_BITS).tolist():
            if start + row < second:
                exact = signatures[start + row].digest == signatures[second].digest
                yield NearPair(start + row, second, int(distances[row, second]), exact, flipped and not exact)


def near_pairs(signatures: Sequence[ImageSignature]) -> list[NearPair]:
    """Find every pair of similar images, also mirrored ones; identical pixels first, then the most similar."""
    if len(signatures) < 2:
        return []
    found: dict[tuple[int, int], NearPair] = {}
    for pair in _candidates(signatures):
        before = found.get((pair.first, pair.second))
        better = before is None or pair.distance < before.distance
        if better and _alike(signatures[pair.first], signatures[pair.second], mirrored=pair.mirrored):
            found[pair.first, pair.second] = pair
    return sorted(found.values(), key=lambda pair: (not pair.exact, pair.distance, pair.first, pair.second))
