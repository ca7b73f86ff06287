"""Frozen image blocks run once an image: the same losses, fewer passes, and no cache where images change."""

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor

from naruto_vision.data.class_data import ClassDataModule
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.lora import LoraConfig
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import InputError
from naruto_vision.io.images import write_image
from naruto_vision.modules.clip_tuner import ContrastiveTuner
from naruto_vision.modules.freezing import (
    ActivationCache,
    CacheConfig,
    FreezeConfig,
    FrozenTrunk,
    find_trunk,
    freeze_towers,
)

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=3, text_width=32, text_layers=1
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    for split, count in (("train", 8), ("valid", 3)):
        for place, name in enumerate(("Ada", "Bo", "Cy")):
            for number in range(count):
                image = rng.integers(0, 120, (24, 24, 3)).astype(np.uint8)
                image[..., place] += 100
                write_image(folder / split / name / f"{number}.png", image)
    return folder


class Recorder(pl.Callback):
    """Writes down the loss of each step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, *given: Any) -> None:
        self.losses.append(float(given[2]["loss"]))


def _encoder() -> ClipEncoder:
    torch.manual_seed(0)
    return ClipEncoder("tiny-clip", "random", sizes=SIZES)


def _fit(
    root: Path,
    folder: Path,
    *,
    augmented: bool = False,
    blocks: int = 1,
    frozen: bool = True,
    cached: bool | None = None,
    **cache: Any,
) -> tuple[ContrastiveTuner, Recorder]:
    freeze = FreezeConfig("both" if frozen else "none", blocks)
    module = ContrastiveTuner(
        _encoder(),
        bundle_dir=str(folder / "bundle"),
        freeze=freeze,
        cache=CacheConfig("auto" if cached is None else cached, **cache),
    )
    recorder = Recorder()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(
        max_epochs=3, default_root_dir=folder, enable_checkpointing=False, callbacks=[recorder], **quiet
    )
    trainer.fit(module, ClassDataModule(str(root), batch_size=6, augmented=augmented))
    return module, recorder


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each pass of the frozen part had."""
    counts: list[int] = []
    below = FrozenTrunk.below

    def counted(self: FrozenTrunk, pixels: Tensor) -> Tensor:
        counts.append(len(pixels))
        return below(self, pixels)

    monkeypatch.setattr(FrozenTrunk, "below", counted)
    return counts


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_the_losses_are_those_without_a_cache(root: Path, tmp_path: Path, passes: list[int], blocks: int) -> None:
    plain, without = _fit(root, tmp_path / "plain", blocks=blocks, cached=False)
    assert passes == []
    module, recorder = _fit(root, tmp_path / "cached", blocks=blocks, cached=True)
    assert sum(passes) == 1 + 24 + 9  # one to see the shape, then every training and validation image once
    assert recorder.losses == pytest.approx(without.losses, abs=1e-5)
    assert len(set(recorder.losses)) > 6
    figures, expected = module.export.best.named, plain.export.best.named
    assert figures["loss"] == pytest.approx(expected["loss"], abs=1e-4)
    for name, value in module.encoder.state_dict().items():
        torch.testing.assert_close(value, plain.encoder.state_dict()[name], atol=2e-4, rtol=0)


def test_sixteen_bits_and_the_disk_change_the_losses_little_or_not_at_all(root: Path, tmp_path: Path) -> None:
    _, memory = _fit(root, tmp_path / "memory", cached=True)
    _, disk = _fit(root, tmp_path / "disk", cached=True, memory=0)
    _, half = _fit(root, tmp_path / "half", cached=True, half=True)
    assert disk.losses == memory.losses
    assert half.losses != memory.losses
    assert half.losses == pytest.approx(memory.losses, abs=2e-2)
    assert not list(tmp_path.rglob("*.npy"))


def test_augmented_images_are_not_kept(
    root: Path, tmp_path: Path, passes: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="naruto_vision"):
        _fit(root, tmp_path, augmented=True)
    assert passes == []
    assert "not cached, because images are augmented" in caplog.text
    assert "data.augmented=false" in caplog.text
    with pytest.raises(InputError, match=r"cache\.frozen=true: activations cannot be cached, because images are augm"):
        _fit(root, tmp_path, augmented=True, cached=True)


def test_a_tower_that_is_trained_from_its_first_layer_has_nothing_to_keep(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no blocks at the bottom of its image tower are frozen"):
        _fit(root, tmp_path, cached=True, frozen=False, blocks=0)


def test_auto_keeps_what_it_can_and_says_so(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="naruto_vision"):
        module, _ = _fit(root, tmp_path)
    assert "activations of the frozen image blocks are cached" in caplog.text
    assert module._features is None  # its room is given back


@pytest.mark.parametrize(("blocks", "below"), [(0, None), (1, 2), (2, 1)])
def test_the_two_parts_make_the_vectors_of_the_whole(blocks: int, below: int | None) -> None:
    encoder = _encoder()
    freeze_towers(encoder, FreezeConfig("both", blocks))
    trunk = find_trunk(encoder)
    assert isinstance(trunk, FrozenTrunk)
    assert trunk.blocks == below
    pixels = torch.randn(4, 3, 24, 24)
    torch.testing.assert_close(trunk.above(trunk.below(pixels)), encoder.encode_images(pixels))
    assert trunk.above(trunk.below(pixels)).requires_grad is (blocks > 0)
    assert not trunk.below(pixels).requires_grad


def test_towers_that_cannot_be_parted_are_told_apart() -> None:
    whole = _encoder()
    assert "no blocks at the bottom" in str(find_trunk(whole))
    freeze_towers(whole, FreezeConfig("both", 3))
    assert "no blocks at the bottom" in str(find_trunk(whole))
    dropping = _encoder()
    freeze_towers(dropping, FreezeConfig("both", 1))
    dropping.clip.visual.patch_dropout = torch.nn.Dropout(0.5)
    assert "dropout" in str(find_trunk(dropping))
    updated = _encoder()
    freeze_towers(updated, FreezeConfig(), LoraConfig(towers="vision", rank=1))
    assert "no blocks at the bottom" in str(find_trunk(updated))
    text_only = _encoder()
    freeze_towers(text_only, FreezeConfig(), LoraConfig(towers="text", rank=1))
    assert find_trunk(text_only) == FrozenTrunk(text_only, None)


def test_activations_are_forgotten_when_other_weights_are_loaded(tmp_path: Path, passes: list[int]) -> None:
    encoder = _encoder()
    freeze_towers(encoder, FreezeConfig("both", 1))
    cache = ActivationCache(FrozenTrunk(encoder, 2), 3, CacheConfig(), tmp_path)
    pixels, keys = torch.randn(3, 3, 24, 24), ["a", "b", "a"]
    pixels[2] = pixels[0]
    before = cache.encode(pixels, keys)
    assert passes == [1, 2]
    assert len(cache) == 2
    torch.testing.assert_close(cache.encode(pixels[:1], ["a"]), before[:1])
    assert passes == [1, 2]
    torch.manual_seed(7)
    encoder.load_state_dict(ClipEncoder("tiny-clip", "random", sizes=SIZES).state_dict())
    torch.testing.assert_close(cache.encode(pixels, keys), encoder.encode_images(pixels))
    assert passes == [1, 2, 2]


def test_a_cache_that_fits_nowhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    encoder = _encoder()
    with pytest.raises(InputError, match=r"need .* GB, and 0\.0 GB are free; use cache\.half=true"):
        ActivationCache(FrozenTrunk(encoder, 2), 100, CacheConfig(memory=0), tmp_path)
