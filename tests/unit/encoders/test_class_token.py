"""The shorter forward pass: the same vectors as the library's own, and where it is not taken."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import nn
from torch.nn.functional import normalize

from naruto_vision.encoders.base import Encoder, embed_images
from naruto_vision.encoders.class_token import clip_class_token, clip_tokens, timm_class_token
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import DinoEncoder
from naruto_vision.encoders.int8 import Int8Attention, Int8Encoder
from naruto_vision.encoders.lora import LoraConfig, add_lora
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.io.machine import cpu_features, has_package

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=3, text_width=32, text_layers=1
)


def _moved(module: nn.Module, seed: int = 0) -> Any:
    """Draw every parameter anew, so that no bias is zero, no norm the identity and no scale too small to see."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            spread = torch.randn(value.shape, generator=generator)
            value.copy_(1.0 + 0.3 * spread if value.ndim == 1 and "weight" in name else 0.3 * spread)
    return module.eval()


def _tower(**options: Any) -> Any:
    usual = {
        "image_size": 32,
        "patch_size": 8,
        "width": 64,
        "layers": 3,
        "heads": 4,
        "mlp_ratio": 4.0,
        "output_dim": 20,
    }
    return _moved(VisionTransformer(**(usual | {"output_dim": 20} | options)))


def _pixels(count: int = 3, side: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def _close(found: torch.Tensor | None, expected: torch.Tensor) -> bool:
    return found is not None and torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"act_layer": QuickGELU},
        {"act_layer": lambda: nn.GELU(approximate="tanh")},
        {"act_layer": nn.SiLU},
        {"ls_init_value": 0.1},
        {"no_ln_pre": True},
        {"final_ln_after_pool": True},
        {"layers": 1},
    ],
    ids=lambda options: ",".join(options) or "usual",
)
@torch.inference_mode()
def test_an_open_clip_tower_is_followed_to_rounding(options: dict[str, Any]) -> None:
    tower, pixels = _tower(**options), _pixels()
    weights, given = copy.deepcopy(tower.state_dict()), pixels.clone()
    expected = tower(pixels)
    assert _close(clip_class_token(tower, pixels), expected)
    assert not _close(clip_class_token(tower, pixels.flip(0)), expected)
    assert torch.equal(pixels, given)
    assert all(torch.equal(value, weights[name]) for name, value in tower.state_dict().items())


@torch.inference_mode()
def test_a_tower_without_a_projection_is_followed() -> None:
    tower = _tower()
    tower.proj = None
    assert _close(clip_class_token(tower, _pixels()), tower(_pixels()))


def _counted(layer: nn.Module, seen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Note how many rows a layer is given, without a hook."""
    own: Callable[[torch.Tensor], torch.Tensor] = layer.forward

    def forward(rows: torch.Tensor) -> torch.Tensor:
        seen.append(rows[..., 0].numel())
        return own(rows)

    monkeypatch.setattr(layer, "forward", forward)


@torch.inference_mode()
def test_the_last_block_widens_one_token_a_image(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = _tower()
    first: list[int] = []
    last: list[int] = []
    _counted(tower.transformer.resblocks[0].mlp.c_fc, first, monkeypatch)
    _counted(tower.transformer.resblocks[-1].mlp.c_fc, last, monkeypatch)
    clip_class_token(tower, _pixels(3))
    assert (first, last) == ([3 * 17], [3])
    vit = _vit()
    _counted(vit.blocks[-1].mlp.fc1, last, monkeypatch)
    timm_class_token(vit, _pixels(2))
    assert last == [3, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"pool_type": "avg"},
        {"output_tokens": True},
        {"attentional_pool": True, "attn_pooler_heads": 4},
        {"qk_norm": True},
        {"block_type": "custom"},
    ],
    ids=str,
)
@torch.no_grad()
def test_other_towers_are_asked_themselves(change: dict[str, Any]) -> None:
    assert clip_class_token(_tower(**change), _pixels()) is None


class _Doubling(nn.Linear):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return 2.0 * super().forward(rows)


def _with_another_layer(tower: nn.Module) -> None:
    tower.get_submodule("transformer.resblocks.1.mlp").add_module("c_fc", _Doubling(64, 256))


def _with_another_attention(tower: nn.Module) -> None:
    attention = nn.MultiheadAttention(64, 4, batch_first=True, add_zero_attn=True)
    tower.get_submodule("transformer.resblocks.1").add_module("attn", attention)


@pytest.mark.parametrize(
    "change",
    [nn.Module.train, _with_another_layer, _with_another_attention],
    ids=lambda change: change.__name__,
)
@torch.no_grad()
def test_a_tower_that_does_more_is_asked_itself(change: Callable[[nn.Module], object]) -> None:
    tower = _tower()
    assert clip_class_token(tower, _pixels()) is not None
    change(tower)
    assert clip_class_token(tower, _pixels()) is None
    assert timm_class_token(tower, _pixels()) is None


def test_with_gradients_a_clip_runs_open_clips_own_pass() -> None:
    torch.manual_seed(0)
    encoder = ClipEncoder("tiny-clip", "random", sizes=SIZES).eval()
    pixels = _pixels(2, 24)
    expected = nn.functional.normalize(encoder.clip.encode_image(pixels), dim=-1)
    vectors = encoder.encode_images(pixels)
    assert torch.equal(vectors, expected)
    vectors.sum().backward()
    assert encoder.clip.visual.conv1.weight.grad is not None


@pytest.mark.parametrize("options", [{}, {"pool_type": "avg"}, {"final_ln_after_pool": True}], ids=str)
def test_the_steps_around_the_blocks_are_open_clips_own(options: dict[str, Any]) -> None:
    tower, pixels = _tower(**options), _pixels()
    entered: list[torch.Tensor] = []
    tower.transformer.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    tower(pixels)
    assert torch.equal(clip_tokens(tower, pixels), entered[0])


def _seen(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note for each forward pass whether the shorter one was taken."""
    taken: list[bool] = []
    name = "clip" if isinstance(encoder, ClipEncoder) else "backbone"
    own = {"clip": clip_class_token, "backbone": timm_class_token}[name]

    def noted(tower: nn.Module, pixels: torch.Tensor) -> torch.Tensor | None:
        token = own(tower, pixels)
        taken.append(token is not None)
        return token

    monkeypatch.setattr(f"naruto_vision.encoders.{name}.{own.__name__}", noted)
    return taken


def _dino(**options: Any) -> DinoEncoder:
    encoder = DinoEncoder("test_vit.r160_in1k", "random", image_size=32, **options)
    _moved(encoder)
    return encoder


@pytest.mark.parametrize("build", [lambda: ClipEncoder("tiny-clip").eval(), _dino], ids=["tiny-clip", "dino"])
def test_encoders_take_it_for_images_with_the_vectors_of_the_whole_tower(
    build: Callable[[], Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = build()
    taken = _seen(encoder, monkeypatch)
    images = [np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8) for i in range(3)]
    sooner = embed_images(encoder, images)
    assert taken == [True]
    pixels = torch.stack([encoder.preprocess(image) for image in images])
    with torch.inference_mode():
        whole = encoder.clip.encode_image(pixels) if isinstance(encoder, ClipEncoder) else encoder.tower(pixels)
    assert float((sooner - normalize(whole, dim=-1)).abs().max()) < 1e-5


@torch.inference_mode()
def test_low_rank_updates_are_not_stepped_over() -> None:
    if not has_package("peft"):
        pytest.skip("peft is not installed")
    torch.manual_seed(0)
    encoder = ClipEncoder("tiny-clip", "random", sizes=SIZES)
    add_lora(encoder.clip, LoraConfig(towers="vision", layers="attention"))
    _moved(encoder.clip.visual)
    pixels = _pixels(2, 24)
    assert clip_class_token(encoder.clip.visual, pixels) is None
    assert torch.equal(
        encoder.encode_images(pixels), nn.functional.normalize(encoder.clip.encode_image(pixels), dim=-1)
    )


def _vit(**options: Any) -> Any:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 0}
    return _moved(timm.models.vision_transformer.VisionTransformer(**(sizes | options)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"init_values": 0.1},
        {"reg_tokens": 4},
        {"reg_tokens": 4, "no_embed_class": True},
        {"pre_norm": True},
        {"dynamic_img_size": True},
    ],
    ids=str,
)
@torch.inference_mode()
def test_a_timm_tower_is_followed_to_rounding(options: dict[str, Any]) -> None:
    vit, pixels = _vit(**options), _pixels()
    expected = vit.forward_features(pixels)[:, 0]
    assert _close(timm_class_token(vit, pixels), expected)
    assert not _close(timm_class_token(vit, pixels.flip(0)), expected)


@torch.no_grad()
def test_other_timm_towers_are_asked_themselves() -> None:
    assert timm_class_token(_vit(qk_norm=True), _pixels()) is None
    assert timm_class_token(_vit(pos_embed="none"), _pixels()) is None
    assert timm_class_token(_vit(dynamic_img_size=True), _pixels(side=40)) is None
    assert timm_class_token(_vit(block_fn=timm.models.vision_transformer.ParallelScalingBlock), _pixels()) is None
    assert timm_class_token(_vit().train(), _pixels()) is None
    with torch.enable_grad():
        assert timm_class_token(_vit(), _pixels()) is None


@torch.inference_mode()
def test_a_mean_of_patches_needs_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = _dino(pooling="mean")
    taken = _seen(encoder, monkeypatch)
    pixels = _pixels(2)
    mean = encoder.tower.forward_features(pixels)[:, encoder.tower.num_prefix_tokens :].mean(dim=1)
    assert torch.equal(encoder.encode_images(pixels), nn.functional.normalize(mean, dim=-1))
    assert taken == []


@pytest.mark.skipif(not cpu_features()["VNNI"], reason="this CPU has no VNNI")
@torch.inference_mode()
def test_attention_in_integers_can_look_from_one_token_at_all() -> None:
    attention = _moved(nn.MultiheadAttention(32, 4, batch_first=True))
    smaller, rows = Int8Attention(attention), torch.randn(2, 9, 32)
    one, _ = smaller(rows[:, :1], rows, rows)
    assert one.shape == (2, 1, 32)
    expected, _ = attention(rows[:, :1], rows, rows, need_weights=False)
    assert float(nn.functional.cosine_similarity(one.flatten(), expected.flatten(), dim=0)) > 0.999


@pytest.mark.skipif(not cpu_features()["VNNI"], reason="this CPU has no VNNI")
@torch.inference_mode()
def test_integers_take_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ClipEncoder("tiny-clip").eval()
    taken = _seen(encoder, monkeypatch)
    smaller, pixels = Int8Encoder(encoder), _pixels(4, 96)
    cosines = (smaller.encode_images(pixels) * encoder.encode_images(pixels)).sum(dim=1)
    assert taken == [True, True]
    assert float(cosines.min()) > 0.99


@pytest.mark.slow
@torch.inference_mode()
def test_vit_b_32_is_followed_to_rounding() -> None:
    torch.manual_seed(0)
    tower = open_clip.create_model("ViT-B-32").eval().visual
    pixels = _pixels(2, 224)
    assert _close(clip_class_token(tower, pixels), tower(pixels))
