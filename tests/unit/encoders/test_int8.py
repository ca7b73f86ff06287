import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from naruto_vision.encoders import int8
from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import DinoEncoder
from naruto_vision.encoders.int8 import Int8Attention, Int8Encoder, Int8Linear
from naruto_vision.errors import InputError
from naruto_vision.io.machine import cpu_features

needs_vnni = pytest.mark.skipif(not cpu_features()["VNNI"], reason="this CPU has no VNNI")


@pytest.fixture(params=["clip", "dino"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    if request.param == "clip":
        return ClipEncoder("tiny-clip").eval()
    torch.manual_seed(0)
    return DinoEncoder("vit_tiny_patch16_224", weights="random", image_size=64).eval()


def _pixels(encoder: Encoder, count: int = 6) -> torch.Tensor:
    generator = np.random.default_rng(1)
    coarse = [generator.integers(0, 256, (6, 5, 3), dtype=np.uint8) for _ in range(count)]
    return torch.stack([encoder.preprocess(np.kron(one, np.ones((9, 9, 1), np.uint8))) for one in coarse])


@needs_vnni  # other CPUs saturate at 16 bits
@torch.inference_mode()
def test_a_layer_in_integers_is_close_to_the_layer() -> None:
    torch.manual_seed(2)
    layer, rows = nn.Linear(48, 20), torch.randn(3, 7, 48)
    found, expected = Int8Linear(layer.weight, layer.bias)(rows), layer(rows)
    assert found.shape == expected.shape
    assert float((found - expected).norm() / expected.norm()) < 0.02
    assert float((found - expected).abs().max()) > 0.0  # it is rounded
    bare = Int8Linear(layer.weight, None)(rows)
    assert torch.allclose(bare + layer.bias, found, atol=1e-5)


@needs_vnni  # other CPUs saturate at 16 bits
@torch.inference_mode()
def test_attention_in_integers_is_close_to_attention() -> None:
    torch.manual_seed(3)
    attention = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    nn.init.normal_(attention.in_proj_bias)
    rows, mask = torch.randn(2, 9, 32), torch.full((9, 9), float("-inf")).triu(1)
    for given in (None, mask):
        expected, _ = attention(rows, rows, rows, need_weights=False, attn_mask=given)
        found, weights = Int8Attention(attention)(rows, rows, rows, need_weights=False, attn_mask=given)
        assert weights is None
        assert float(cosine_similarity(found.flatten(), expected.flatten(), dim=0)) > 0.999
    with pytest.raises(ValueError, match="need_weights"):
        Int8Attention(attention)(rows, rows, rows, need_weights=True)


@needs_vnni
@torch.inference_mode()
def test_in_integers_the_vectors_are_nearly_the_same(encoder: Encoder) -> None:
    pixels = _pixels(encoder)
    before = copy.deepcopy(encoder.state_dict())
    smaller = Int8Encoder(encoder)
    found, expected = smaller.encode_images(pixels), encoder.encode_images(pixels)
    assert float(cosine_similarity(found, expected, dim=-1).min()) >= 0.99
    assert float((found - expected).abs().max()) > 0.0
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


@needs_vnni
def test_no_matrix_of_the_tower_stays_in_floats(encoder: Encoder) -> None:
    engine = torch.backends.quantized.engine
    smaller = Int8Encoder(encoder)
    smaller.encode_images(_pixels(encoder, 1))
    layers = [type(layer) for layer in smaller._smaller[0].image_tower.modules()]
    assert nn.Linear not in layers
    assert nn.MultiheadAttention not in layers
    assert Int8Linear in layers
    assert torch.backends.quantized.engine == engine


@needs_vnni
def test_everything_but_the_images_is_the_encoders(encoder: Encoder) -> None:
    smaller = Int8Encoder(encoder)
    image = np.full((20, 30, 3), 90, np.uint8)
    assert (smaller.fingerprint, smaller.dim) == (encoder.fingerprint, encoder.dim)
    assert (smaller.recipe, smaller.describe()) == (encoder.recipe, encoder.describe())
    assert smaller.preparation == encoder.preparation
    assert torch.equal(smaller.preprocess(image), encoder.preprocess(image))
    assert {name.removeprefix("encoder.") for name in smaller.state_dict()} == set(encoder.state_dict())
    if encoder.has_text:
        assert torch.equal(smaller.encode_texts(["red hair"]), encoder.encode_texts(["red hair"]))
    with pytest.raises(InputError, match="expected images on the CPU, found meta"):
        smaller.encode_images(torch.zeros(1, 3, 8, 8, device="meta"))


def test_a_cpu_without_the_instructions_is_told(monkeypatch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    monkeypatch.setattr(int8, "cpu_features", lambda: {"VNNI": False})
    with pytest.raises(InputError, match="expected a CPU with VNNI"):
        Int8Encoder(encoder)
