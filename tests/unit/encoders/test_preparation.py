from typing import Any, Literal

import numpy as np
import pytest
import torch

from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import DinoEncoder
from naruto_vision.encoders.preprocess import Preparation
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.records import ImageArray

SHAPES = [(64, 64), (97, 41), (30, 140), (17, 300), (301, 17), (8, 9), (224, 224), (511, 260)]


@pytest.fixture(scope="module", params=["tiny", "shortest", "squash", "bilinear", "dino"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    if request.param == "dino":
        return DinoEncoder("vit_tiny_patch16_224", weights="random", image_size=64)
    sizes = TinySizes(image_size=48, vision_width=32, vision_layers=1, text_width=32, text_layers=1)
    clip = ClipEncoder("tiny-clip", pretrained="random", sizes=sizes)
    if request.param == "tiny":
        return clip
    told = {"resize_mode": request.param, "mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}
    if request.param == "bilinear":
        told |= {"resize_mode": "shortest", "interpolation": "bilinear"}
    return _with_preprocessing(clip, told)


def _with_preprocessing(clip: ClipEncoder, told: dict[str, object]) -> ClipEncoder:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    clip._record = {**clip._record, "preprocessing": {**clip._record["preprocessing"], **told}}
    clip._transform = image_transform_v2(PreprocessCfg(**clip._record["preprocessing"]), is_train=False)
    return clip


def _smooth(shape: tuple[int, int], seed: int) -> ImageArray:
    """Draw shaded blocks: edges and even grounds, as drawings have them, and values near both ends of the scale."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, ((shape[0] + 6) // 7, (shape[1] + 6) // 7, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((7, 7, 1), np.uint8))[: shape[0], : shape[1]])


def _levels(pixels: torch.Tensor, preparation: Preparation) -> torch.Tensor:
    std, mean = (torch.tensor(value).view(1, 3, 1, 1) for value in (preparation.std, preparation.mean))
    return (pixels * std + mean) * 255.0


@pytest.mark.parametrize("shape", SHAPES)
def test_many_at_once_are_prepared_as_preprocess_prepares_one(encoder: Encoder, shape: tuple[int, int]) -> None:
    preparation = encoder.preparation
    assert preparation is not None
    image = _smooth(shape, seed=sum(shape))
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    ours = preparation.normalise(preparation.levels([tensor, tensor]))
    theirs = encoder.preprocess(image)
    assert ours.dtype == torch.float32
    assert ours.shape == (2, *theirs.shape)
    difference = (_levels(ours, preparation) - _levels(theirs[None], preparation)).abs()
    assert float(difference.mean()) <= 0.3
    assert float((difference <= 2.01).float().mean()) >= 0.98  # the rest are hard edges: PIL chooses the passes' order


@pytest.mark.parametrize("shape", [(64, 150), (150, 64)])
def test_along_one_axis_the_levels_are_pils(shape: tuple[int, int]) -> None:
    from PIL import Image

    preparation = Preparation(64, "squash", 64, mean=(0.0,) * 3, std=(1.0,) * 3)
    image = _smooth(shape, 5)
    levels = preparation.levels([torch.from_numpy(image).permute(2, 0, 1)])[0].permute(1, 2, 0).numpy()
    theirs = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC))
    assert int(np.abs(levels.astype(int) - theirs).max()) <= 1


@pytest.mark.parametrize("shape", [(97, 41), (41, 97), (20, 30), (48, 200)])
@pytest.mark.parametrize("name", ["bicubic", "bilinear"])
def test_a_device_without_a_kernel_for_levels_gives_the_cpus(
    shape: tuple[int, int], name: Literal["bicubic", "bilinear"]
) -> None:
    preparation = Preparation(48, "squash", 48, mean=(0.0,) * 3, std=(1.0,) * 3, filter=name)
    image = torch.from_numpy(_smooth(shape, 4)).permute(2, 0, 1)
    difference = preparation.filter_in_floats(image).int() - preparation.levels([image])[0].int()
    assert int(difference.abs().max()) <= 1


def test_an_extreme_image_keeps_one_row() -> None:
    preparation = Preparation(16, "longest", 16, mean=(0.5,) * 3, std=(0.5,) * 3, fill=9)
    assert preparation.resized(1, 400) == (1, 16)
    levels = preparation.levels([torch.full((3, 1, 400), 200, dtype=torch.uint8)])
    assert set(levels.flatten().tolist()) == {9, 200}
    assert int((levels == 200).sum()) == 3 * 16


def test_a_clip_of_oblong_input_leaves_it_to_preprocess() -> None:
    clip = ClipEncoder("tiny-clip", pretrained="random", sizes=TinySizes(vision_layers=1, text_layers=1))
    clip._record = {**clip._record, "preprocessing": {**clip._record["preprocessing"], "size": (48, 96)}}
    assert clip.preparation is None


@pytest.mark.parametrize("wrong", [{"size": 0}, {"resize_to": 0}, {"std": (0.5, 0.0, 0.5)}])
def test_impossible_numbers_are_refused(wrong: dict[str, object]) -> None:
    told: dict[str, Any] = {"size": 8, "fit": "squash", "resize_to": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    with pytest.raises(ValueError, match="expected sizes >= 1"):
        Preparation(**{**told, **wrong})
