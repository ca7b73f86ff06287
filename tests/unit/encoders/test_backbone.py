from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, batch_norm, conv2d, linear, normalize, pad

from naruto_vision.encoders.backbone import LITE0, TimmEncoder, lite0_state
from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.int8 import Int8Encoder
from naruto_vision.encoders.opening import open_encoder, open_recipe
from naruto_vision.errors import InputError, StateDictError
from naruto_vision.io.machine import cpu_features

# Repeats, kernel, stride, expansion and channels of EfficientNet-B0's stages (Tan and Le, 2019, table 1).
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
STAGES += ((1, 3, 1, 6, 320),)


def _image(height: int = 60, width: int = 90) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


class _Plain:
    """EfficientNet-Lite0 written down from its description: TensorFlow's padding, ReLU6, no squeeze-and-excitation."""

    def __init__(self) -> None:
        self.values = iter(lite0_state().values())  # in the order of the file, which is that of the layers

    def convolve(self, maps: Tensor, *, stride: int = 1, depthwise: bool = False, active: bool = True) -> Tensor:
        weight = next(self.values)
        size, side = weight.shape[-1], maps.shape[-1]
        more = max((-(-side // stride) - 1) * stride + size - side, 0)
        maps = pad(maps, (more // 2, more - more // 2, more // 2, more - more // 2))
        maps = conv2d(maps, weight, stride=stride, groups=maps.shape[1] if depthwise else 1)
        scale, shift, mean, variance, _ = (next(self.values) for _ in range(5))
        maps = batch_norm(maps, mean, variance, scale, shift, eps=1e-3)
        return maps.clamp(0, 6) if active else maps

    def logits(self, pixels: Tensor) -> Tensor:
        maps = self.convolve(pixels, stride=2)
        for repeats, _, stride, expansion, channels in STAGES:
            for number in range(repeats):
                before = maps
                maps = self.convolve(maps) if expansion > 1 else maps
                maps = self.convolve(maps, stride=stride if number == 0 else 1, depthwise=True)
                maps = self.convolve(maps, active=False)
                assert maps.shape[1] == channels
                maps = maps + before if number else maps
        pooled = adaptive_avg_pool2d(self.convolve(maps), 1).flatten(1)
        return linear(pooled, next(self.values), next(self.values))


@torch.inference_mode()
def test_the_packaged_weights_give_the_logits_of_a_plain_implementation() -> None:
    pixels = torch.stack([TimmEncoder(LITE0).preprocess(_image(side, 120)) for side in (60, 200)])
    net = timm.create_model("tf_efficientnet_lite0").eval()
    net.load_state_dict(lite0_state())
    logits = _Plain().logits(pixels)
    assert torch.allclose(net(pixels), logits, atol=1e-3)
    features = net.forward_head(net.forward_features(pixels), pre_logits=True)
    encoder = TimmEncoder(LITE0).eval()
    assert torch.allclose(encoder.encode_images(pixels), normalize(features, dim=-1), atol=1e-5)
    assert encoder.dim == features.shape[1]


def test_the_packaged_preprocessing_is_tensorflows() -> None:
    grey = TimmEncoder(LITE0).preprocess(np.full((50, 70, 3), 255, dtype=np.uint8))
    assert grey.shape == (3, 224, 224)
    assert torch.allclose(grey, torch.tensor((255 - 127) / 128))


@pytest.mark.parametrize("name", ["test_vit.r160_in1k", "test_efficientnet.r160_in1k", "test_convnext.r160_in1k"])
@torch.inference_mode()
def test_any_backbone_pools_as_it_does_in_timm(name: str) -> None:
    encoder = TimmEncoder(name, "random", image_size=64).eval()
    pixels = torch.rand(5, 3, 64, 64)
    assert torch.allclose(encoder.encode_images(pixels), normalize(encoder.tower(pixels), dim=-1), atol=1e-5)
    assert encoder.encode_images(pixels).shape == (5, encoder.dim)
    maps = encoder.dense(pixels)
    assert maps.ndim == 4
    assert maps.shape[-2:] == ((4, 4) if "vit" in name else (2, 2))


@torch.inference_mode()
def test_the_dense_map_of_a_transformer_has_its_patch_tokens_in_their_places() -> None:
    encoder = TimmEncoder("test_vit.r160_in1k", "random", image_size=64).eval()
    pixels = torch.rand(2, 3, 64, 64)
    tokens = encoder.tower.forward_features(pixels)[:, 1:]
    assert torch.allclose(encoder.dense(pixels).flatten(2).transpose(1, 2), tokens, atol=1e-5)


def test_a_local_file_with_a_classifier_is_loaded_and_opened_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = timm.create_model("test_convnext.r160_in1k")
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    encoder = TimmEncoder("test_convnext.r160_in1k", str(tmp_path / "weights.pth")).eval()
    assert torch.equal(encoder.tower.stem[0].weight, whole.stem[0].weight)
    again = open_recipe(encoder.recipe)
    assert again.fingerprint == encoder.fingerprint
    assert torch.equal(embed_images(again, [_image()]), embed_images(encoder, [_image()]))
    torch.save({**whole.state_dict(), "more.weight": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(StateDictError, match=r"more\.weight"):
        TimmEncoder("test_convnext.r160_in1k", str(tmp_path / "weights.pth"))


def test_names_and_options_that_cannot_be_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"^resnet19: timm has no such model"):
        TimmEncoder("resnet19", "random")
    with pytest.raises(InputError, match=r"^resnet18: pooling 'mean' expected a vision transformer, found ResNet$"):
        TimmEncoder("resnet18", "random", pooling="mean")
    with pytest.raises(InputError, match="multiple of its patch of 16, found 40"):
        TimmEncoder("test_vit.r160_in1k", "random", image_size=40)
    with pytest.raises(InputError, match="no text tower"):
        open_encoder(LITE0).encode_texts(["pink hair"])


@pytest.mark.skipif(not cpu_features()["VNNI"], reason="needs a CPU with VNNI")
def test_a_network_without_linear_layers_is_refused_in_int8() -> None:
    with pytest.raises(InputError, match="no linear layers"):
        Int8Encoder(open_encoder(LITE0))


def test_images_are_embedded_in_evaluation_mode_and_every_module_keeps_its_own() -> None:
    encoder = TimmEncoder("tf_efficientnet_lite0", "random", image_size=32)
    images = list(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    encoder.train()
    next(encoder.children()).eval()
    modes = [module.training for module in encoder.modules()]
    together = embed_images(encoder, images)
    assert torch.allclose(together[:1], embed_images(encoder, images[:1]), atol=1e-5)
    assert [module.training for module in encoder.modules()] == modes
