from typing import Any

import numpy as np
import pytest
import torch

from naruto_vision.segmentation.protocol import SceneEmbedding, embed_scenes


class _OneByOne:
    """A model that embeds one image at a time, and counts."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def embed(self, image: np.ndarray) -> SceneEmbedding:
        self.seen.append(len(image))
        return SceneEmbedding(torch.zeros(1, 1, 1, 1), image.shape[:2], image.shape[:2])


class _AtOnce(_OneByOne):
    """A model that can embed several at once."""

    def embed_all(self, images: list[np.ndarray]) -> list[SceneEmbedding]:
        self.seen.append(-len(images))
        return [_OneByOne().embed(image) for image in images]


@pytest.mark.parametrize(("kind", "seen"), [(_OneByOne, [3, 5]), (_AtOnce, [-2])])
def test_scenes_are_embedded_at_once_only_where_the_model_can(kind: type[_OneByOne], seen: list[int]) -> None:
    model: Any = kind()
    images = [np.zeros((height, 4, 3), np.uint8) for height in (3, 5)]
    assert [one.original_size for one in embed_scenes(model, images)] == [(3, 4), (5, 4)]
    assert model.seen == seen
