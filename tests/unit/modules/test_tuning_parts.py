"""The small parts of tuning: schedules, the best pass, class weights, random states, mixtures and figures."""

import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim import SGD

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.modules.clip_tuner import caption_figures, label_figures, read_class_weights
from naruto_vision.modules.freezing import Freeze, FreezeConfig, freeze_towers
from naruto_vision.modules.gathering import gather_columns, gather_lists, take_from_first
from naruto_vision.modules.scene_retriever import _relative_to_here, describe_gallery
from naruto_vision.modules.tuning import (
    AtomicCheckpoints,
    ExportBundle,
    PassFigures,
    ScheduleConfig,
    Tuner,
    random_state,
    restore_random_state,
)
from naruto_vision.modules.wise_ft import WisePoint, choose_point, interpolate
from naruto_vision.modules.zero_shot import ZeroShotProbe, kept_share, synthetic_probe

_QUICK = settings(max_examples=40, deadline=None, derandomize=True)
_ALONE: Any = SimpleNamespace(world_size=1, is_global_zero=True)


@pytest.mark.parametrize(
    "wrong",
    [{"warm_up": 1.0}, {"warm_up": -0.1}, {"warm_up_epochs": -1.0}, {"min_lr_factor": 1.1}, {"min_lr_factor": -0.1}],
)
def test_a_schedule_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(
        InputError, match=r"schedule: warm_up in \[0, 1\), warm_up_epochs >= 0 and min_lr_factor in \[0, 1\]"
    ):
        ScheduleConfig(**wrong)
    ScheduleConfig(warm_up=0.0, warm_up_epochs=0.0, min_lr_factor=1.0)


@pytest.mark.parametrize(
    ("schedule", "steps", "epochs", "rising"),
    [
        (ScheduleConfig(), 100, None, 10),
        (ScheduleConfig(0.0), 100, None, 1),
        (ScheduleConfig(0.25), 10, 3, 2),
        (ScheduleConfig(warm_up_epochs=2.0), 100, 10, 20),
        (ScheduleConfig(warm_up_epochs=0.5), 100, 10, 5),
        (ScheduleConfig(0.9, warm_up_epochs=0.0), 100, 10, 1),
    ],
)
def test_steps_in_which_the_rate_rises(schedule: ScheduleConfig, steps: int, epochs: int | None, rising: int) -> None:
    assert schedule.rising(steps, epochs) == rising


@pytest.mark.parametrize("epochs", [None, 0, -1])
def test_a_warm_up_in_epochs_needs_a_run_in_epochs(epochs: int | None) -> None:
    with pytest.raises(InputError, match=r"schedule\.warm_up_epochs=1\.5 needs trainer\.max_epochs"):
        ScheduleConfig(warm_up_epochs=1.5).rising(100, epochs)


@_QUICK
@given(st.integers(1, 40), st.integers(1, 20), st.floats(0, 1))
def test_rates_rise_to_the_peak_and_fall_to_the_floor(steps: int, rising: int, floor: float) -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    config = ScheduleConfig(warm_up_epochs=min(rising, steps), min_lr_factor=floor)
    schedule, rising = config.build(optimizer, steps, steps), min(rising, steps)
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
    schedule = ScheduleConfig(warm_up=0.5, min_lr_factor=0.2).build(optimizer, 10, None)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert rates[10] == pytest.approx(0.2)


class Module(Tuner):
    """A tuner that trains nothing and counts its bundles."""

    def __init__(self) -> None:
        super().__init__(lambda parameters: SGD(parameters, 0.1), None, "bundle", None)
        self.written: list[dict[str, float]] = []

    def save_bundle(self, figures: dict[str, float]) -> None:
        self.written.append(figures)


def _trainer(epoch: int, verb: TrainerFn = TrainerFn.FITTING, *, sanity: bool = False, first: bool = True) -> Any:
    state = SimpleNamespace(fn=verb)
    return SimpleNamespace(state=state, sanity_checking=sanity, is_global_zero=first, current_epoch=epoch)


def _validated(module: Module, *scores: float) -> list[int]:
    """Return the best epoch after each validation."""
    best = []
    for epoch, score in enumerate(scores):
        module.figures = PassFigures(score, {"accuracy": score}, torch.eye(2, dtype=torch.int64))
        module.export.on_validation_end(_trainer(epoch), module)
        best.append(module.export.epoch)
    return best


def test_the_bundle_is_written_when_validation_is_better_than_ever() -> None:
    module = Module()
    assert _validated(module, 0.0, 0.51239, math.nan, 0.51239, 0.4, 0.6) == [0, 1, 1, 1, 1, 5]
    assert module.written == [{"accuracy": 0.0}, {"accuracy": 0.5124}, {"accuracy": 0.6}]
    assert module.export.best.score == 0.6
    module.export.on_fit_end(_trainer(6), module)
    assert len(module.written) == 3


def test_a_run_without_validation_leaves_the_bundle_of_its_last_step() -> None:
    module = Module()
    assert _validated(module, math.nan) == [-1]
    module.export.on_fit_end(_trainer(1), module)
    assert module.written == [{}]


@pytest.mark.parametrize("trainer", [_trainer(0, TrainerFn.VALIDATING), _trainer(0, sanity=True)])
def test_other_validations_leave_the_bundle_alone(trainer: Any) -> None:
    module = Module()
    module.figures = PassFigures(1.0)
    module.export.on_validation_end(trainer, module)
    assert (module.export.epoch, module.written) == (-1, [])


def test_only_the_first_process_writes_the_bundle() -> None:
    module = Module()
    module.figures = PassFigures(1.0)
    module.export.on_validation_end(_trainer(0, first=False), module)
    assert (module.export.epoch, module.written) == (0, [])


def test_the_best_validation_survives_a_checkpoint_of_plain_values(tmp_path: Path) -> None:
    module, again = Module(), ExportBundle()
    _validated(module, 0.25, 0.75, 0.1)
    torch.save(module.export.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (again.epoch, again.best.score, again.best.named) == (1, 0.75, {"accuracy": 0.75})
    assert again.best.confusion is not None
    assert torch.equal(again.best.confusion, torch.eye(2, dtype=torch.int64))


def test_random_states_go_on_where_they_were_taken() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: S311, NPY002 - the global ones

    random.seed(1)
    draw()
    state = random_state()
    expected = [draw() for _ in range(3)]
    restore_random_state(state)
    assert [draw() for _ in range(3)] == expected


def test_a_module_keeps_random_states_in_checkpoints(tmp_path: Path) -> None:
    module, other = Module(), Module()
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    expected = float(torch.rand(()))
    other.on_load_checkpoint(torch.load(tmp_path / "last.ckpt", weights_only=True))
    fresh, trainer = Module(), Mock(check_val_every_n_epoch=1, lr_scheduler_configs=())
    other.trainer = fresh.trainer = trainer
    torch.rand(5)
    other.on_train_start()
    assert float(torch.rand(())) == expected
    fresh.on_train_start()  # a fresh run leaves the generators alone


def test_class_weights_count_rare_classes_more() -> None:
    data = SimpleNamespace(class_counts=(1, 3, 0), balanced=False)
    weights = read_class_weights("inverse_frequency", data)
    assert weights is not None
    assert weights.tolist() == pytest.approx([4 / 3, 4 / 9, 1.0])
    assert read_class_weights("none", None) is None


def test_class_weights_want_classes_and_warn_of_counting_twice(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match=r"loss\.class_weights=inverse_frequency needs class data"):
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


def test_a_checkpoint_has_its_name_only_when_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, saved = tmp_path / "checkpoints" / "last.ckpt", torch.save
    AtomicCheckpoints().save_checkpoint({"step": 1}, file)

    def killed(value: object, path: Path) -> None:
        saved(value, path)
        path.write_bytes(path.read_bytes()[:9])
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.save", killed)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpoints().save_checkpoint({"step": 2}, file)
    assert torch.load(file, weights_only=True) == {"step": 1}
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("freeze", "visual", "text"),
    [("none", True, True), ("text", True, False), ("vision", False, True), ("both", False, False)],
)
def test_towers_are_frozen_as_a_whole_and_the_scale_never(freeze: Freeze, visual: bool, text: bool) -> None:
    encoder = ClipEncoder("tiny-clip")
    freeze_towers(encoder, FreezeConfig(freeze))
    parameters = dict(encoder.clip.named_parameters())
    shared = {"logit_scale", "logit_bias"}
    assert {value.requires_grad for name, value in parameters.items() if name.startswith("visual.")} == {visual}
    others = [value for name, value in parameters.items() if not name.startswith("visual.") and name not in shared]
    assert {value.requires_grad for value in others} == {text}
    assert encoder.logit_scale.requires_grad


@pytest.mark.parametrize("freeze", ["none", "text"])
def test_blocks_are_unfrozen_only_of_a_frozen_tower(freeze: Freeze) -> None:
    with pytest.raises(
        InputError,
        match=rf"unfreeze_visual_blocks=1 takes effect only with freeze\.towers=vision or both, not {freeze}",
    ):
        FreezeConfig(freeze, 1)


@pytest.mark.parametrize("blocks", [-1, 99])
def test_more_blocks_than_there_are_cannot_be_unfrozen(blocks: int) -> None:
    with pytest.raises(InputError, match=rf"unfreeze_visual_blocks={blocks}: the image tower has \d+ blocks"):
        freeze_towers(ClipEncoder("tiny-clip"), FreezeConfig("both", blocks))


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
    return WisePoint(alpha, score - 1e-6 * loss, {}, retention)


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


@pytest.mark.parametrize(("images", "labels", "texts"), [(0, 0, 2), (1, 1, 1), (2, 1, 2), (1, 2, 2)])
def test_a_probe_needs_images_and_a_choice(images: int, labels: int, texts: int) -> None:
    found = f"found {images} images, {labels} labels and {texts} classes"
    with pytest.raises(InputError, match=found):
        ZeroShotProbe(torch.zeros(images, 3, 4, 4), torch.zeros(labels, dtype=torch.int64), (("a",),) * texts)


def test_drawn_probes_are_those_of_their_seed() -> None:
    encoder = ClipEncoder("tiny-clip")
    probe = synthetic_probe(encoder, 3, seed=1)
    assert torch.equal(probe.pixels, synthetic_probe(encoder, 3, seed=1).pixels)
    assert probe.texts != synthetic_probe(encoder, 3, seed=2).texts
    assert probe.labels.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="found 1 images"):
        synthetic_probe(encoder, 1)
    with pytest.raises(InputError, match="found 0 images"):
        synthetic_probe(encoder, 0)


def test_captions_that_find_their_images() -> None:
    eye = torch.eye(4)
    figures = caption_figures(eye, eye[[0, 1, 3, 2]])
    assert figures.named == {"recall_at_1": 0.5, "caption_recall_at_1": 0.5, "chance": 0.25}
    assert figures.score == pytest.approx(0.5 + 1e-6 * 0.5, abs=1e-12)
    assert figures.confusion is None


def test_labels_that_are_named_by_the_nearest_prototype() -> None:
    eye, labels = torch.eye(2), torch.tensor([0, 0, 0, 1])
    images = eye[[0, 0, 1, 1]]
    figures = label_figures(images, labels, eye, torch.tensor(1.0))
    assert figures.confusion is not None
    assert figures.confusion.tolist() == [[2, 1], [0, 1]]
    assert figures.named["accuracy"] == pytest.approx(0.75)
    assert figures.named["macro_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    tie = 1e-6 / (1 + figures.named["cross_entropy"])
    assert figures.score == pytest.approx(5 / 6 + tie, abs=1e-9)
    accuracy = label_figures(images, labels, eye, torch.tensor(1.0), "accuracy").score
    assert accuracy == pytest.approx(0.75 + tie, abs=1e-12)


def test_a_folder_below_is_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _relative_to_here(Path("data")) == _relative_to_here(tmp_path / "data") == "data"
    assert _relative_to_here(tmp_path.parent) == tmp_path.parent.as_posix()


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        (
            Thresholds(),
            "2 entries, 2 labels; no threshold, so no region is unknown (no validation); --data.valid DIR with ground "
            "truth chooses one",
        ),
        (Thresholds(0.51234, rule="f1"), '2 entries, 2 labels; a score below 0.512 is "unknown" (f1)'),
        (Thresholds(None, {"a": 0.5}, "f1"), "2 entries, 2 labels; 1 labels have a threshold (f1)"),
    ],
)
def test_a_written_gallery_is_described(tmp_path: Path, thresholds: Thresholds, words: str) -> None:
    rows = [GalleryRow("1", "a"), GalleryRow("2", "b")]
    Gallery.build(np.eye(2, dtype=np.float32), rows, fingerprint="0" * 64, index="exact", thresholds=thresholds).save(
        tmp_path
    )
    assert describe_gallery(str(tmp_path)) == f"gallery {tmp_path}: {words}"
