from collections.abc import Callable
from typing import Any

import pytest

from naruto_vision.data.class_data import ClassDataModule
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.data.scenes import SceneDataModule
from naruto_vision.data.synthetic_captions import SyntheticCaptionData
from naruto_vision.errors import InputError


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClassDataModule("data", batch_size=0),
        lambda: SyntheticCaptionData(batch_size=0),
        lambda: SceneDataModule(batch_size=0),
        lambda: GalleryDataModule("data", enrol_batch_size=0),
    ],
)
def test_a_batch_of_nothing_is_refused_in_one_line(make: Callable[[], Any]) -> None:
    with pytest.raises(InputError, match="batch_size 0: expected at least 1"):
        make()
