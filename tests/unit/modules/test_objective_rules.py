"""What a batch is asked to do: each kind of loss gets its own arguments, and the bias starts once."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend
from torch.nn.functional import normalize

from naruto_vision.errors import InputError
from naruto_vision.losses.contrastive import (
    multi_positive_contrastive,
    prototype_cross_entropy,
    sigmoid_contrastive,
    starting_bias,
    supervised_contrastive,
)
from naruto_vision.modules import objectives
from naruto_vision.modules.objectives import LossConfig, LossKind, Objective, class_losses, fast_attention

SCALE = torch.tensor(5.0)
LABELS = torch.tensor([0, 2, 1, 0])
POSITIVES = LABELS.unsqueeze(1) == torch.arange(3)
WEIGHTS = torch.tensor([0.5, 1.0, 2.0])


def _unit(seed: int, rows: int) -> Tensor:
    return normalize(torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, 4))).float(), dim=1)


IMAGES, TEXTS = _unit(0, 4), _unit(1, 3)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("own", [None, WEIGHTS])
def test_each_kind_gets_its_smoothing_and_its_weights(smoothing: float, own: Tensor | None) -> None:
    bias = torch.tensor(-1.0)
    rows = None if own is None else own[LABELS]
    pair = None if own is None or rows is None else (rows, own)
    expected: dict[LossKind, Tensor] = {
        "contrastive": multi_positive_contrastive(IMAGES, TEXTS, POSITIVES, SCALE, smoothing=smoothing, weights=pair),
        "sigmoid": sigmoid_contrastive(IMAGES, TEXTS, POSITIVES, SCALE, bias, smoothing=smoothing, row_weights=rows),
        "prototype": prototype_cross_entropy(IMAGES, TEXTS, LABELS, SCALE, smoothing=smoothing, class_weights=own),
    }
    for kind, value in expected.items():
        found = Objective(SCALE, LossConfig(kind, smoothing), bias, own).match(IMAGES, TEXTS, POSITIVES, LABELS)
        assert found.item() == pytest.approx(value.item(), abs=1e-6)
    assert len({round(value.item(), 4) for value in expected.values()}) == 3


@pytest.mark.parametrize("kind", ["contrastive", "sigmoid"])
def test_weights_of_classes_wait_where_several_texts_may_be_right(kind: LossKind) -> None:
    bias = torch.tensor(0.0)
    weighted = Objective(SCALE, LossConfig(kind), bias, WEIGHTS).match(IMAGES, TEXTS, POSITIVES)
    plain = Objective(SCALE, LossConfig(kind), bias).match(IMAGES, TEXTS, POSITIVES)
    assert weighted.item() == plain.item()


def test_captions_are_no_classes() -> None:
    with pytest.raises(InputError, match=r"loss\.kind=prototype needs class data; for captions use contrastive or"):
        Objective(SCALE, LossConfig("prototype")).match(IMAGES, TEXTS, POSITIVES)


def test_the_bias_is_set_by_the_first_batch_and_kept_by_the_next() -> None:
    bias = torch.nn.Parameter(torch.tensor(float("nan")))
    objective = Objective(SCALE, LossConfig("sigmoid"), bias)
    first = objective.match(IMAGES, TEXTS, POSITIVES)
    started = bias.item()
    assert started == pytest.approx(starting_bias(IMAGES, TEXTS, POSITIVES, SCALE).item(), abs=1e-6)
    objective.match(IMAGES.flip(0), TEXTS, torch.ones_like(POSITIVES))
    assert bias.item() == started
    first.backward()
    assert bias.grad is not None
    assert bool(torch.isfinite(bias.grad))


def test_without_a_bias_the_sigmoid_adds_nothing() -> None:
    found = Objective(SCALE, LossConfig("sigmoid")).match(IMAGES, TEXTS, POSITIVES)
    assert found.item() == pytest.approx(
        sigmoid_contrastive(IMAGES, TEXTS, POSITIVES, SCALE, torch.tensor(0.0)).item(), abs=1e-6
    )


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_images_of_one_class_are_pulled_together_as_much_as_asked_for(weight: float) -> None:
    weights = LossConfig(same_image=weight)
    found = sum(part.item() for part in class_losses(IMAGES, LABELS, TEXTS, Objective(SCALE, weights)).values())
    plain = multi_positive_contrastive(IMAGES, TEXTS, POSITIVES, SCALE)
    pulled = supervised_contrastive(IMAGES, LABELS, temperature=0.1)
    assert found == pytest.approx((plain + weight * pulled).item(), abs=1e-5)


def test_nothing_is_compared_where_nothing_is_to_be_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: object, **_options: object) -> Tensor:
        raise AssertionError

    monkeypatch.setattr(objectives, "supervised_contrastive", refuse)
    class_losses(IMAGES, LABELS, TEXTS, Objective(SCALE, LossConfig()))
    with pytest.raises(AssertionError):
        class_losses(IMAGES, LABELS, TEXTS, Objective(SCALE, LossConfig(same_image=0.1)))


@pytest.mark.parametrize(
    ("device", "autocast", "chosen"), [("cpu", True, True), ("cpu", False, False), ("cuda", True, False)]
)
def test_plain_attention_only_for_bfloat16_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, device: str, autocast: bool, chosen: bool
) -> None:
    asked: list[SDPBackend] = []
    kernel = objectives.sdpa_kernel

    def spy(backend: SDPBackend) -> object:
        asked.append(backend)
        return kernel(backend)

    monkeypatch.setattr(objectives, "sdpa_kernel", spy)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), fast_attention(torch.device(device)):
        pass
    assert asked == ([SDPBackend.MATH] if chosen else [])
