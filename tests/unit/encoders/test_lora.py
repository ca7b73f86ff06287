from pathlib import Path

import pytest
import torch

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.lora import Layers, LoraConfig, Towers, add_lora, plain_state
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import InputError, MissingPackageError
from naruto_vision.io import machine as optional

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=2, text_width=32, text_layers=1
)
TEXTS = ["a red hat"]


def _encoder() -> ClipEncoder:
    torch.manual_seed(1)
    encoder = ClipEncoder("tiny-clip", "random", sizes=SIZES)
    return encoder.requires_grad_(False)


def _train(encoder: ClipEncoder, pixels: torch.Tensor) -> None:
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        (encoder.encode_images(pixels).sum() + encoder.encode_texts(TEXTS).sum()).backward()
        optimizer.step()


@pytest.mark.parametrize("layers", ["attention", "mlp", "all"])
def test_a_bundle_has_the_updates_merged_and_the_base_stays(layers: Layers, tmp_path: Path) -> None:
    encoder, pixels = _encoder(), torch.randn(2, 3, 24, 24)
    base = {name: value.clone() for name, value in encoder.clip.state_dict().items()}
    before = encoder.encode_images(pixels)
    add_lora(encoder.clip, LoraConfig(layers=layers, rank=2))
    assert torch.allclose(encoder.encode_images(pixels), before, atol=1e-6)  # an update starts as nothing
    _train(encoder, pixels)
    after = encoder.encode_images(pixels)
    assert not torch.allclose(after, before, atol=1e-3)

    plain = {name.replace(".base_layer.", "."): value for name, value in encoder.clip.state_dict().items()}
    assert all(torch.equal(plain[name], value) for name, value in base.items())
    encoder.save(tmp_path / "bundle")
    merged = ClipEncoder(str(tmp_path / "bundle"))
    assert merged.clip.state_dict().keys() == base.keys()
    assert torch.allclose(merged.encode_images(pixels), after, atol=1e-5)
    assert torch.allclose(merged.encode_texts(TEXTS), encoder.encode_texts(TEXTS), atol=1e-5)
    assert torch.allclose(encoder.encode_images(pixels), after, atol=1e-6)  # saving changes nothing but rounding


@pytest.mark.parametrize("towers", ["vision", "text"])
def test_only_the_chosen_tower_is_updated(towers: Towers) -> None:
    encoder = _encoder()
    add_lora(encoder.clip, LoraConfig(towers=towers))
    trained = [name for name, parameter in encoder.clip.named_parameters() if parameter.requires_grad]
    assert trained
    assert all(".lora_" in name for name in trained)
    assert all(name.startswith("visual.") == (towers == "vision") for name in trained)
    assert encoder.trains_text == (towers == "text")


def test_without_updates_the_weights_are_the_weights() -> None:
    encoder = _encoder()
    state = plain_state(encoder.clip)
    assert all(torch.equal(state[name], value) for name, value in encoder.clip.state_dict().items())


def test_options_that_make_no_sense_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="rank 0"):
        LoraConfig(rank=0)
    with pytest.raises(InputError, match="the vision tower has no mlp layers"):
        add_lora(torch.nn.ModuleDict({"visual": torch.nn.Conv2d(3, 4, 1)}), LoraConfig(layers="mlp"))
    monkeypatch.setattr(optional, "has_package", lambda _: False)
    with pytest.raises(MissingPackageError, match=r"naruto-vision\[lora\]"):
        add_lora(_encoder().clip, LoraConfig())
