"""The packaged models, loaded once for all tests of a process that leave them as they are."""

from functools import cache

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.segmentation.sam import SamModel


@cache
def tiny_clip() -> ClipEncoder:
    return ClipEncoder("tiny-clip").eval()


@cache
def tiny_sam() -> SamModel:
    return SamModel(weights="tiny-sam").eval()
