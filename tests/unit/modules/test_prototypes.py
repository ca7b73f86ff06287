"""How often texts go through the text tower while a CLIP is tuned."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from naruto_vision.data.class_data import ClassBatch
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.prompts import class_texts
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.modules.freezing import FreezeConfig, freeze_towers
from naruto_vision.modules.objectives import (
    ClassPrototypes,
    LossConfig,
    LossKind,
    Objective,
    TextsPerStep,
    batch_losses,
)

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)
CLASSES = ("Ada", "Bo", "Cy")
TEXTS = class_texts(CLASSES, {})


class CountingEncoder(ClipEncoder):
    """Writes down how many texts each pass of the text tower had."""

    def __init__(self) -> None:
        super().__init__("tiny-clip", "random", sizes=SIZES)
        self.rows: list[int] = []

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        self.rows.append(len(texts))
        return super().encode_texts(texts)


def _step(encoder: ClipEncoder, prototypes: ClassPrototypes, step: int, kind: LossKind) -> Tensor:
    labels = torch.arange(12) % len(CLASSES)
    pixels = torch.randn(12, 3, 24, 24, generator=torch.Generator().manual_seed(step))
    bias = torch.nn.Parameter(torch.tensor(torch.nan)) if kind == "sigmoid" else None
    objective = Objective(encoder.logit_scale.exp(), LossConfig(kind, same_image=0.5), bias)
    parts = batch_losses(encoder, ClassBatch(pixels, labels, [""] * 12), prototypes, step, objective)
    return parts["match"] + parts["same_image"]


@pytest.mark.parametrize("kind", ["contrastive", "sigmoid", "prototype"])
@pytest.mark.parametrize(("per_step", "rows"), [("one", 3), ("all", 21)])
def test_a_step_encodes_each_class_once_not_each_image(kind: LossKind, per_step: TextsPerStep, rows: int) -> None:
    encoder = CountingEncoder()
    prototypes = ClassPrototypes(encoder, TEXTS, per_step=per_step)
    for step in range(3):
        torch.autograd.backward(_step(encoder, prototypes, step, kind))
    assert encoder.rows == [rows] * 3  # 12 images a batch


@pytest.mark.parametrize("kind", ["contrastive", "sigmoid", "prototype"])
def test_frozen_texts_are_encoded_once_a_run(kind: LossKind) -> None:
    encoder = CountingEncoder()
    freeze_towers(encoder, FreezeConfig("text"))
    prototypes = ClassPrototypes(encoder, TEXTS)
    optimizer = torch.optim.SGD([value for value in encoder.parameters() if value.requires_grad], lr=0.1)
    for step in range(3):
        torch.autograd.backward(_step(encoder, prototypes, step, kind))
        optimizer.step()
        prototypes.forget()  # as every validation does
    prototypes.averaged()
    assert encoder.rows == [sum(map(len, TEXTS))]


def test_frozen_texts_are_encoded_anew_when_other_weights_are_loaded() -> None:
    encoder = CountingEncoder()
    freeze_towers(encoder, FreezeConfig("text"))
    prototypes = ClassPrototypes(encoder, TEXTS)
    before = prototypes.averaged().clone()
    torch.manual_seed(5)
    encoder.load_state_dict(ClipEncoder("tiny-clip", "random", sizes=SIZES).state_dict())
    after = prototypes.averaged()
    assert len(encoder.rows) == 2
    assert not torch.allclose(before, after)


def test_trained_texts_are_forgotten() -> None:
    encoder = CountingEncoder()
    prototypes = ClassPrototypes(encoder, TEXTS)
    prototypes.averaged()
    prototypes.averaged()
    assert len(encoder.rows) == 1
    prototypes.forget()
    prototypes.averaged()
    assert len(encoder.rows) == 2


def test_the_texts_of_a_step_are_one_a_class_and_a_function_of_the_step() -> None:
    prototypes = ClassPrototypes(CountingEncoder(), TEXTS)
    chosen = [prototypes.chosen(step) for step in range(20)]
    assert all(text in own for texts in chosen for text, own in zip(texts, TEXTS, strict=True))
    assert chosen == [prototypes.chosen(step) for step in range(20)]
    assert len({tuple(texts) for texts in chosen}) > 10
