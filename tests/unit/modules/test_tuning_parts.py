"""The small parts of tuning: schedules, the best pass, class weights, random states, mixtures and figures."""

import logging
import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import SGD

from naruto_vision.callbacks.wise_ft import WisePoint, choose_point, interpolate
from naruto_vision.callbacks.zero_shot import ZeroShotProbe, drawn_probe, kept_share
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.modules.clip_tuner import (
    Best,
    PassFigures,
    RateSchedule,
    ResumableModule,
    caption_figures,
    label_figures,
    random_state,
    read_class_weights,
    restore_random_state,
    warm_up_cosine,
)
from naruto_vision.modules.freezing import Freeze, freeze_towers
from naruto_vision.modules.gathering import gather_columns, gather_lists, take_from_first
from naruto_vision.modules.scene_retriever import _seen_from_here, tell_gallery

_QUICK = settings(max_examples=40, deadline=None, derandomize=True)
_ALONE: Any = SimpleNamespace(world_size=1, is_global_zero=True)


@pytest.mark.parametrize(
    "wrong",
    [{"warm_up": 1.0}, {"warm_up": -0.1}, {"warm_up_epochs": -1.0}, {"min_lr_factor": 1.1}, {"min_lr_factor": -0.1}],
)
def test_a_schedule_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(
        InputError, match=r"rate: warm_up in \[0, 1\), warm_up_epochs >= 0 and min_lr_factor in \[0, 1\]"
    ):
        RateSchedule(**wrong)
    RateSchedule(warm_up=0.0, warm_up_epochs=0.0, min_lr_factor=1.0)


@pytest.mark.parametrize(
    ("schedule", "steps", "epochs", "rising"),
    [
        (RateSchedule(), 100, None, 10),
        (RateSchedule(0.0), 100, None, 1),
        (RateSchedule(0.25), 10, 3, 2),
        (RateSchedule(warm_up_epochs=2.0), 100, 10, 20),
        (RateSchedule(warm_up_epochs=0.5), 100, 10, 5),
        (RateSchedule(0.9, warm_up_epochs=0.0), 100, 10, 1),
    ],
)
def test_steps_in_which_the_rate_rises(schedule: RateSchedule, steps: int, epochs: int | None, rising: int) -> None:
    assert schedule.rising(steps, epochs) == rising


@pytest.mark.parametrize("epochs", [None, 0, -1])
def test_a_warm_up_in_epochs_needs_a_run_in_epochs(epochs: int | None) -> None:
    with pytest.raises(InputError, match=r"rate\.warm_up_epochs=1\.5: this run has no trainer\.max_epochs"):
        RateSchedule(warm_up_epochs=1.5).rising(100, epochs)


@_QUICK
@given(st.integers(1, 40), st.integers(1, 20), st.floats(0, 1))
def test_rates_rise_to_the_peak_and_fall_to_the_floor(steps: int, rising: int, floor: float) -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warm_up_cosine(optimizer, steps, rising, floor)
    rates = []
    for _ in range(steps + 3):
        rates.append(optimizer.param_groups[0]["lr"] / 2.0)
        optimizer.step()
        schedule.step()
    for step, rate in enumerate(rates):
        if step < rising:
            assert rate == pytest.approx((step + 1) / rising)
        else:
            done = min(1.0, (step - rising) / max(1, steps - rising))
            assert rate == pytest.approx(floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)
    assert max(rates) <= 1 + 1e-9
    if steps >= rising + 1:
        assert rates[-1] == pytest.approx(floor)


def test_a_built_schedule_starts_low_and_ends_at_its_floor() -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = RateSchedule(warm_up=0.5, min_lr_factor=0.2).build(optimizer, 10, None)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert rates[10] == pytest.approx(0.2)


def _pass(score: float, second: float = 0.0) -> PassFigures:
    return PassFigures((score, second), {"accuracy": score}, torch.eye(2, dtype=torch.int64))


def test_the_first_pass_is_the_best_and_only_better_ones_replace_it() -> None:
    best = Best()
    offered = [best.offer(_pass(score), epoch) for epoch, score in enumerate([0.0, 0.5, 0.5, 0.4, 0.6])]
    assert offered == [True, True, False, False, True]
    assert (best.epoch, best.passes_since, best.count, best.figures.score) == (4, 0, 3, (0.6, 0.0))


def test_of_equal_figures_the_second_decides_and_nan_never_wins() -> None:
    best = Best()
    best.offer(_pass(0.5, -1.0), 0)
    assert not best.offer(_pass(0.5, -1.1), 1)
    assert not best.offer(_pass(float("nan"), 0.0), 2)
    assert not best.offer(_pass(0.5, float("nan")), 3)
    assert best.passes_since == 3
    assert best.offer(_pass(0.5, -0.9), 4)


def test_the_best_pass_survives_a_checkpoint_of_plain_values(tmp_path: Path) -> None:
    best, again = Best(), Best()
    best.offer(_pass(0.25), 0)
    best.offer(_pass(0.75, -2.0), 5)
    best.offer(_pass(0.1), 6)
    torch.save(best.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (again.epoch, again.passes_since, again.count) == (5, 1, 2)
    assert again.figures.score == (0.75, -2.0)
    assert again.figures.named == {"accuracy": 0.75}
    assert again.figures.confusion is not None
    assert torch.equal(again.figures.confusion, torch.eye(2, dtype=torch.int64))


def test_random_states_go_on_where_they_were_taken() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: S311, NPY002 - the global ones

    random.seed(1)
    draw()
    state = random_state()
    expected = [draw() for _ in range(3)]
    restore_random_state(state)
    assert [draw() for _ in range(3)] == expected


def test_a_module_keeps_its_best_pass_and_random_states_in_checkpoints(tmp_path: Path) -> None:
    module, other = ResumableModule(), ResumableModule()
    module.best.offer(_pass(0.5), 3)
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    expected = float(torch.rand(()))
    other.on_load_checkpoint(torch.load(tmp_path / "last.ckpt", weights_only=True))
    assert other.best.epoch == 3
    torch.rand(5)
    other.on_train_start()
    assert float(torch.rand(())) == expected
    ResumableModule().on_train_start()  # a fresh run leaves the generators alone


def test_class_weights_count_rare_classes_more() -> None:
    data = SimpleNamespace(class_counts=(1, 3, 0), balanced=False)
    weights = read_class_weights("inverse_frequency", data)
    assert weights is not None
    assert weights.tolist() == pytest.approx([4 / 3, 4 / 9, 1.0])
    assert read_class_weights("none", None) is None


def test_class_weights_want_classes_and_warn_of_counting_twice(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="class_weights=inverse_frequency needs class data"):
        read_class_weights("inverse_frequency", object())
    read_class_weights("inverse_frequency", SimpleNamespace(class_counts=(1, 1), balanced=False))
    assert caplog.text == ""
    read_class_weights("inverse_frequency", SimpleNamespace(class_counts=(1, 1), balanced=True))
    assert "favour rare classes twice" in caplog.text


def test_one_process_gathers_its_own() -> None:
    own = [1, 2]
    gathered = gather_lists(_ALONE, own)
    assert gathered == own
    assert gathered is not own
    batches: list[tuple[torch.Tensor, ...]] = [(torch.ones(2, 3), torch.zeros(2)), (torch.zeros(1, 3), torch.ones(1))]
    first, second = gather_columns(_ALONE, batches)
    assert first.shape == (3, 3)
    assert second.tolist() == [0, 0, 1]
    assert gather_columns(_ALONE, []) == ()
    value = torch.arange(3)
    assert take_from_first(value) is value


def test_several_processes_come_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(parts: list[list[int]], own: list[int]) -> None:
        parts[:] = [[9], own, []]

    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    trainer: Any = SimpleNamespace(world_size=3)
    assert gather_lists(trainer, [1, 2]) == [9, 1, 2]


@pytest.mark.parametrize(
    ("freeze", "visual", "text"),
    [("none", True, True), ("text", True, False), ("vision", False, True), ("both", False, False)],
)
def test_towers_are_frozen_as_a_whole_and_the_scale_never(freeze: Freeze, visual: bool, text: bool) -> None:
    encoder = ClipEncoder("tiny-clip")
    freeze_towers(encoder, freeze)
    parameters = dict(encoder.clip.named_parameters())
    shared = {"logit_scale", "logit_bias"}
    assert {value.requires_grad for name, value in parameters.items() if name.startswith("visual.")} == {visual}
    others = [value for name, value in parameters.items() if not name.startswith("visual.") and name not in shared]
    assert {value.requires_grad for value in others} == {text}
    assert encoder.logit_scale.requires_grad


@pytest.mark.parametrize("freeze", ["none", "text"])
def test_blocks_are_unfrozen_only_of_a_frozen_tower(freeze: Freeze) -> None:
    with pytest.raises(
        InputError, match=rf"unfreeze_visual_blocks=1 means something only with freeze=vision or both, not {freeze}"
    ):
        freeze_towers(ClipEncoder("tiny-clip"), freeze, 1)


@pytest.mark.parametrize("blocks", [-1, 99])
def test_more_blocks_than_there_are_cannot_be_unfrozen(blocks: int) -> None:
    with pytest.raises(InputError, match=rf"unfreeze_visual_blocks={blocks}: the image tower has \d+ blocks"):
        freeze_towers(ClipEncoder("tiny-clip"), "both", blocks)


@_QUICK
@given(st.floats(0, 1), st.integers(0, 50))
def test_mixtures_are_those_of_plain_arithmetic(alpha: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    start, tuned = torch.randn(3, 4, generator=generator), torch.randn(3, 4, generator=generator)
    mixed = interpolate({"w": start, "n": torch.tensor(3)}, {"w": tuned, "n": torch.tensor(5)}, alpha)
    assert torch.allclose(mixed["w"], (1 - alpha) * start + alpha * tuned, atol=1e-6)
    assert mixed["n"] == 5


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_ends_of_a_mixture_are_exact(alpha: float) -> None:
    start, tuned = torch.randn(50), torch.randn(50)
    assert torch.equal(interpolate({"w": start}, {"w": tuned}, alpha)["w"], tuned if alpha else start)


def test_weights_of_other_names_or_shares_are_not_mixed() -> None:
    with pytest.raises(InputError, match=r"alpha 0\.5 .*names in one only: \['a', 'b'\]"):
        interpolate({"a": torch.ones(1)}, {"b": torch.ones(1)}, 0.5)
    for alpha in (-0.1, 1.1):
        with pytest.raises(InputError, match=rf"alpha {alpha} \(0 to 1 expected\), names in one only: none"):
            interpolate({"a": torch.ones(1)}, {"a": torch.ones(1)}, alpha)


def _point(alpha: float, score: float, retention: float, loss: float = 0.0) -> WisePoint:
    return WisePoint(alpha, (score, -loss), {}, retention)


@pytest.mark.parametrize(
    ("points", "least", "chosen"),
    [
        ([_point(0.0, 0.5, 1.0), _point(1.0, 0.9, 0.5)], 0.0, 1.0),
        ([_point(0.0, 0.5, 1.0), _point(1.0, 0.9, 0.5)], 0.6, 0.0),
        ([_point(0.0, 0.5, 1.0), _point(1.0, 0.9, 0.5)], 0.5, 1.0),
        ([_point(0.0, 0.9, 1.0), _point(0.5, 0.9, 1.0), _point(1.0, 0.9, 1.0)], 0.0, 0.0),
        ([_point(0.5, 0.9, 1.0, 0.2), _point(1.0, 0.9, 1.0, 0.1)], 0.0, 1.0),
    ],
)
def test_the_best_point_that_keeps_enough(points: list[WisePoint], least: float, chosen: float) -> None:
    assert choose_point(points, least).alpha == choose_point(points[::-1], least).alpha == chosen


def test_no_point_that_keeps_enough_is_told() -> None:
    with pytest.raises(InputError, match="no mixture keeps 90% of the zero-shot accuracy; lower least_retention"):
        choose_point([_point(1.0, 0.9, 0.8)], 0.9)


@pytest.mark.parametrize(("now", "start", "kept"), [(0.5, 1.0, 0.5), (0.0, 0.5, 0.0), (0.6, 0.3, 2.0), (0.0, 0.0, 1.0)])
def test_shares_that_are_kept(now: float, start: float, kept: float) -> None:
    assert kept_share(now, start) == pytest.approx(kept)


@pytest.mark.parametrize(("pictures", "labels", "texts"), [(0, 0, 2), (1, 1, 1), (2, 1, 2), (1, 2, 2)])
def test_a_probe_needs_images_and_a_choice(images: int, labels: int, texts: int) -> None:
    found = f"found {images} images, {labels} labels and {texts} answers"
    with pytest.raises(InputError, match=found):
        ZeroShotProbe(torch.zeros(images, 3, 4, 4), torch.zeros(labels, dtype=torch.int64), (("a",),) * texts)


def test_drawn_probes_are_those_of_their_seed() -> None:
    encoder = ClipEncoder("tiny-clip")
    probe = drawn_probe(encoder, 3, seed=1)
    assert torch.equal(probe.pixels, drawn_probe(encoder, 3, seed=1).pixels)
    assert probe.texts != drawn_probe(encoder, 3, seed=2).texts
    assert probe.labels.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="found 1 images"):
        drawn_probe(encoder, 1)
    with pytest.raises(InputError, match="found 0 images"):
        drawn_probe(encoder, 0)


def test_captions_that_find_their_images() -> None:
    eye = torch.eye(4)
    figures = caption_figures(eye, eye[[0, 1, 3, 2]])
    assert figures.named == {"recall_at_1": 0.5, "picture_recall_at_1": 0.5, "chance": 0.25}
    assert figures.score == (0.5, 0.5)
    assert figures.confusion is None


def test_labels_that_are_named_by_the_nearest_prototype() -> None:
    eye, labels = torch.eye(2), torch.tensor([0, 0, 0, 1])
    images = eye[[0, 0, 1, 1]]
    figures = label_figures(images, labels, eye, torch.tensor(1.0))
    assert figures.confusion is not None
    assert figures.confusion.tolist() == [[2, 1], [0, 1]]
    assert figures.named["accuracy"] == pytest.approx(0.75)
    assert figures.named["macro_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert figures.score[0] == pytest.approx(5 / 6)
    assert figures.score[1] == -figures.named["loss"]
    assert label_figures(images, labels, eye, torch.tensor(1.0), "accuracy").score[0] == pytest.approx(0.75)


def test_a_folder_below_is_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _seen_from_here(Path("data")) == _seen_from_here(tmp_path / "data") == "data"
    assert _seen_from_here(tmp_path.parent) == tmp_path.parent.as_posix()


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        (Thresholds(), "2 rows, 2 labels; no thresholds, so nobody is unknown; --data.valid DIR"),
        (Thresholds(0.51234), '2 rows, 2 labels; a score below 0.512 is "unknown"'),
        (Thresholds(None, {"a": 0.5}), "2 rows, 2 labels; 1 labels have a threshold"),
    ],
)
def test_a_written_gallery_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, thresholds: Thresholds, words: str
) -> None:
    rows = [GalleryRow("1", "a"), GalleryRow("2", "b")]
    Gallery.build(np.eye(2, dtype=np.float32), rows, fingerprint="0" * 64, index="exact", thresholds=thresholds).save(
        tmp_path
    )
    with caplog.at_level(logging.INFO):
        tell_gallery(SimpleNamespace(is_global_zero=False), str(tmp_path))  # type: ignore[arg-type]  # a trainer's part
        assert caplog.text == ""
        tell_gallery(_ALONE, str(tmp_path))
    assert f"gallery {tmp_path}: {words}" in caplog.text
