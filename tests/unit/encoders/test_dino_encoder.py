import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from naruto_vision.encoders.dino import DinoEncoder
from naruto_vision.encoders.opening import open_recipe
from naruto_vision.errors import InputError, StateDictError

MODEL = "test_vit.r160_in1k"  # timm's own smallest transformer


def _image() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def _encoder(**options: Any) -> DinoEncoder:
    torch.manual_seed(0)
    return DinoEncoder(MODEL, "random", image_size=32, **options).eval()


def test_both_poolings_give_unit_vectors_that_differ() -> None:
    pixels = _encoder().preprocess(_image())[None]
    token, mean = _encoder().encode_images(pixels), _encoder(pooling="mean").encode_images(pixels)
    assert token.shape == (1, _encoder().dim)
    assert torch.allclose(token.norm(dim=1), torch.ones(1), atol=1e-5)
    assert not torch.allclose(token, mean, atol=1e-3)
    assert _encoder().fingerprint != _encoder(pooling="mean").fingerprint


def test_preprocessing_resizes_the_short_side_and_cuts_the_centre() -> None:
    found = _encoder().preprocess(_image())
    side = round(32 * 256 / 224)
    resized = Image.fromarray(_image()).resize((int(side * 90 / 60), side), Image.Resampling.BICUBIC)
    left, top = round((resized.width - 32) / 2), round((resized.height - 32) / 2)
    values = np.asarray(resized.crop((left, top, left + 32, top + 32)), dtype=np.float32) / 255
    expected = (values - np.array(IMAGENET_DEFAULT_MEAN)) / np.array(IMAGENET_DEFAULT_STD)
    assert np.allclose(found.numpy(), expected.transpose(2, 0, 1), atol=1e-5)


def test_a_short_side_of_256_a_centre_of_224_and_imagenet_figures() -> None:
    torch.manual_seed(0)
    encoder = DinoEncoder("vit_tiny_patch16_224", "random", image_size=224)
    image = np.random.default_rng(1).integers(0, 256, (300, 421, 3), dtype=np.uint8)
    resized = Image.fromarray(image).resize((int(256 * 421 / 300), 256), Image.Resampling.BICUBIC)
    left = round((resized.width - 224) / 2)
    values = np.asarray(resized.crop((left, 16, left + 224, 240)), dtype=np.float32) / 255
    expected = (values - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert np.abs(encoder.preprocess(image).numpy() - expected.transpose(2, 0, 1)).max() < 1e-5


def test_a_local_file_is_loaded_without_a_download(tmp_path: Path) -> None:
    made = _encoder()
    torch.save(made.tower.state_dict(), tmp_path / "dino.pth")
    torch.manual_seed(1)  # other random weights before the file is read
    found = DinoEncoder(MODEL, str(tmp_path / "dino.pth"), image_size=32).eval()
    pixels = found.preprocess(_image())[None]
    assert torch.equal(found.encode_images(pixels), made.encode_images(pixels))
    assert open_recipe(found.recipe).fingerprint == made.fingerprint


def test_it_reads_no_text() -> None:
    with pytest.raises(InputError, match="no text tower"):
        _encoder().encode_texts(["pink hair"])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="timm has no such model"):
        DinoEncoder("dinov2_vits15")


def _official_dinov2() -> dict[str, torch.Tensor]:
    """Random weights under the names of the official file, at its 37 x 37 grid."""
    torch.manual_seed(0)
    vit = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=518)
    return dict(vit.state_dict()) | {"mask_token": torch.zeros(1, vit.embed_dim)}


@pytest.mark.slow
def test_the_official_file_is_resampled_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "dinov2_vits14_pretrain.pth"
    state = _official_dinov2()
    torch.save(state, path)
    encoder = DinoEncoder("vit_small_patch14_dinov2.lvd142m", str(path), image_size=56).eval()
    assert encoder.tower.pos_embed.shape == (1, 17, 384)
    assert torch.equal(encoder.tower.blocks[3].attn.qkv.weight, state["blocks.3.attn.qkv.weight"])
    assert encoder.encode_images(torch.zeros(1, 3, 56, 56)).shape == (1, 384)
    del state["blocks.0.norm1.weight"]
    torch.save(state, path)
    with pytest.raises(StateDictError, match=r"blocks\.0\.norm1\.weight"):
        DinoEncoder("vit_small_patch14_dinov2.lvd142m", str(path), image_size=56)


@pytest.mark.parametrize(
    ("name", "shape"), [("blocks.9.norm1.weight", (1,)), ("patch_embed.proj.weight", (5, 7)), ("pos_embed", (2, 2))]
)
def test_a_file_of_another_model_is_refused_by_name(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    state = _encoder().tower.state_dict()
    state[name] = torch.zeros(shape)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(StateDictError, match=re.escape(name)):
        DinoEncoder(MODEL, str(tmp_path / "weights.pth"), image_size=32)
