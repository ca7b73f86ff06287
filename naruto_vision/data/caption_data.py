"""Images with captions of the user's own, and the batch that contrastive training sees."""

from typing import NamedTuple

from torch import Tensor


class CaptionBatch(NamedTuple):
    """Images and what is true of them.

    Args:
        pixels: Shape (B, 3, S, S), float32, as the encoder's ``preprocess`` makes them.
        subjects: Shape (B,), int64; images of equal numbers share their captions.
        captions: B texts, one an image.
        phrases: P short texts, of which several may be true of an image; none where only captions are known.
        phrase_groups: Shape (P,), int64: phrases of one group exclude each other (the hair colours, say).
        truths: Shape (B, P), bool: which phrases are true of each image.
    """

    pixels: Tensor
    subjects: Tensor
    captions: list[str]
    phrases: list[str]
    phrase_groups: Tensor
    truths: Tensor
