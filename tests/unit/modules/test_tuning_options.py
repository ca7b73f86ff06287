import json
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.data import DataLoader

from naruto_vision.callbacks.reports import TuningFiles
from naruto_vision.data.class_data import ClassBatch
from naruto_vision.data.synthetic_captions import SyntheticCaptionData
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.lora import LoraConfig
from naruto_vision.encoders.prompts import TEMPLATES, class_texts
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import InputError, StateDictError
from naruto_vision.io.bundles import load_bundle, save_bundle
from naruto_vision.modules.clip_tuner import ContrastiveTuner, TextConfig, label_figures, read_class_weights
from naruto_vision.modules.freezing import Freeze, FreezeConfig
from naruto_vision.modules.objectives import LossConfig, LossKind
from naruto_vision.modules.tuning import ScheduleConfig
from naruto_vision.modules.zero_shot import ZeroShotRetention

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=2, text_width=32, text_layers=1
)


class ThreeColours(pl.LightningDataModule):
    """Three classes, each brighter in another channel; the first has most images."""

    classes = ("red", "green", "blue")
    class_counts = (6, 2, 2)
    balanced = False

    def _loader(self, batches: int, size: int, first: int) -> "DataLoader[Any]":
        made = []
        for batch in range(batches):
            noise = torch.randn(size, 3, 24, 24, generator=torch.Generator().manual_seed(first + batch))
            labels = torch.arange(size) % 3
            noise = 0.3 * noise + torch.eye(3)[labels][:, :, None, None]
            made.append(ClassBatch(noise, labels, [f"{label}.png" for label in labels.tolist()]))
        loader: DataLoader[Any] = DataLoader(made, batch_size=None)  # type: ignore[arg-type]  # a list is a dataset
        return loader

    def train_dataloader(self) -> "DataLoader[Any]":
        return self._loader(4, 6, 0)

    def val_dataloader(self) -> "DataLoader[Any]":
        return self._loader(1, 9, 100)


def _adamw(parameters: Any) -> Optimizer:
    return AdamW(parameters, lr=3e-3)


def _tuner(folder: Path, **options: Any) -> ContrastiveTuner:
    torch.manual_seed(0)
    encoder = ClipEncoder("tiny-clip", "random", sizes=SIZES)
    return ContrastiveTuner(encoder, **({"optimizer": _adamw, "bundle_dir": str(folder / "bundle")} | options))


def _fit(module: ContrastiveTuner, folder: Path, *, resume: str | None = None, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    options = {"enable_checkpointing": False, "num_sanity_val_steps": 0} | quiet | options
    trainer = pl.Trainer(default_root_dir=folder, **options)
    trainer.fit(module, ThreeColours(), ckpt_path=resume, weights_only=True)
    return trainer


@pytest.mark.parametrize("loss", ["contrastive", "sigmoid", "prototype"])
def test_the_loss_falls(loss: LossKind, tmp_path: Path) -> None:
    module, files = _tuner(tmp_path, loss=LossConfig(loss)), TuningFiles(str(tmp_path / "out"))
    _fit(module, tmp_path, max_epochs=8, callbacks=[files])
    losses = [row["train_loss"] for row in files.epochs]
    assert losses[-1] < 0.8 * losses[0]
    assert module.export.best.named["accuracy"] >= 0.6  # chance is a third


def test_prototypes_are_the_renormalised_mean_over_templates_and_aliases(tmp_path: Path) -> None:
    assert len(TEMPLATES) == 7
    (tmp_path / "aliases.json").write_text(json.dumps({"red": ["crimson", "scarlet one"]}))
    module = _tuner(tmp_path, texts=TextConfig(aliases_json=str(tmp_path / "aliases.json")))
    _fit(module, tmp_path, max_steps=1, limit_val_batches=0)
    texts = class_texts(("red", "green", "blue"), {"red": ("crimson", "scarlet one")})
    assert len(texts[0]) == 21
    assert module.prototypes.texts == texts
    module.prototypes.forget()
    with torch.no_grad():
        mean = module.encoder.encode_texts(texts[0]).mean(dim=0)
    assert torch.allclose(module.prototypes.averaged()[0], mean / mean.norm(), atol=1e-5)


def _sgd(parameters: Any) -> Optimizer:
    return SGD(parameters, lr=0.5)  # no decay and no momentum: what has no gradient stands still


@pytest.mark.parametrize(
    ("freeze", "blocks", "moved"),
    [
        ("none", 0, {"text", "stem", "block 0", "block 1", "head"}),
        ("text", 0, {"stem", "block 0", "block 1", "head"}),
        ("vision", 0, {"text"}),
        ("vision", 1, {"text", "block 1", "head"}),
        ("both", 2, {"block 0", "block 1", "head"}),
        ("both", 0, set()),
    ],
)
def test_one_step_moves_exactly_what_is_not_frozen(
    freeze: Freeze, blocks: int, moved: set[str], tmp_path: Path
) -> None:
    module = _tuner(tmp_path, freeze=FreezeConfig(freeze, blocks), optimizer=_sgd)
    assert _moved_by_one_step(module, tmp_path) == moved


def test_the_text_tower_is_trained_unless_it_is_frozen(tmp_path: Path) -> None:
    module = _tuner(tmp_path, loss=LossConfig("prototype"), texts=TextConfig(per_step="all"), optimizer=_sgd)
    assert "text" in _moved_by_one_step(module, tmp_path)


def _moved_by_one_step(module: ContrastiveTuner, folder: Path) -> set[str]:
    before = {name: value.clone() for name, value in module.encoder.clip.state_dict().items()}
    _fit(module, folder, max_steps=1, limit_val_batches=0)
    parts = {
        "visual.conv1": "stem",
        "visual.transformer.resblocks.0": "block 0",
        "visual.transformer.resblocks.1": "block 1",
        "visual.proj": "head",
    }
    after = module.encoder.clip.state_dict()
    changed = [name for name, value in after.items() if not torch.equal(value, before[name]) and value.ndim > 0]
    visual = {part for start, part in parts.items() if any(name.startswith(start) for name in changed)}
    return visual | ({"text"} if any(not name.startswith("visual.") for name in changed) else set())


def test_a_frozen_text_tower_trains_on_after_a_validation(tmp_path: Path) -> None:
    module = _tuner(tmp_path, freeze=FreezeConfig("text"))
    assert _fit(module, tmp_path, max_epochs=2).global_step == 8


def test_low_rank_updates_are_trained_alone_and_resumed_with_the_same_bits(tmp_path: Path) -> None:
    def run(folder: Path, epochs: int, resume: str | None = None) -> ContrastiveTuner:
        module = _tuner(folder, lora=LoraConfig(rank=2, layers="all"))
        keep = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
        options = {"enable_checkpointing": True, "max_epochs": epochs, "callbacks": [keep], "limit_train_batches": 2}
        _fit(module, folder, resume=resume, **options)
        return module

    whole = run(tmp_path / "whole", 2)
    plain = {name.replace(".base_layer.", "."): value for name, value in whole.encoder.clip.state_dict().items()}
    start = _tuner(tmp_path).encoder.clip.state_dict()
    assert all(torch.equal(plain[name], value) for name, value in start.items() if name != "logit_scale")
    resumed = run(tmp_path / "resumed", 2, str(tmp_path / "whole" / "epoch=0.ckpt"))
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
    pixels = torch.randn(2, 3, 24, 24)
    tuned = ClipEncoder(str(tmp_path / "resumed" / "bundle"))
    assert tuned.encode_images(pixels).shape == (2, 16)
    with pytest.raises(InputError, match=r"freeze\.towers=text has no effect"):
        _tuner(tmp_path, lora=LoraConfig(), freeze=FreezeConfig("text"))


def test_the_sigmoid_learns_its_bias_from_where_the_first_batch_puts_it(tmp_path: Path) -> None:
    module = _tuner(tmp_path, loss=LossConfig("sigmoid"), optimizer=lambda parameters: SGD(parameters, lr=1e-3))
    assert module.bias is not None
    assert bool(torch.isnan(module.bias))
    _fit(module, tmp_path, max_steps=1, limit_val_batches=0)
    first = module.bias.item()
    assert math.isfinite(first)
    _fit(module, tmp_path, max_steps=3, limit_val_batches=0)
    assert module.bias.item() != first
    assert "logit_bias" not in load_bundle(tmp_path / "bundle", "clip")[0]


def test_captions_are_learned_by_sigmoid_but_not_as_classes(tmp_path: Path) -> None:
    data = SyntheticCaptionData(batch_size=4, batches=1, valid=4, num_workers=0, size=32, seed=1)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
    pl.Trainer(max_epochs=1, default_root_dir=tmp_path, **quiet).fit(_tuner(tmp_path, loss=LossConfig("sigmoid")), data)
    with pytest.raises(InputError, match=r"loss\.kind=prototype needs class data"):
        pl.Trainer(max_epochs=1, default_root_dir=tmp_path, **quiet).fit(
            _tuner(tmp_path, loss=LossConfig("prototype")), data
        )


def test_the_rate_rises_for_whole_epochs_and_ends_at_its_floor(tmp_path: Path) -> None:
    schedule = ScheduleConfig(warm_up_epochs=2, min_lr_factor=0.1)
    module, files = _tuner(tmp_path, schedule=schedule), TuningFiles(str(tmp_path / "out"))
    _fit(module, tmp_path, max_epochs=5, callbacks=[files])
    shares = [rate / 3e-3 for rate in files.rates]
    assert shares[:8] == pytest.approx([(step + 1) / 8 for step in range(8)])
    assert shares[8:] == sorted(shares[8:], reverse=True)
    assert schedule.build(AdamW([torch.nn.Parameter(torch.zeros(1))]), 20, 5).lr_lambdas[0](20) == pytest.approx(0.1)
    with pytest.raises(InputError, match=r"needs trainer\.max_epochs"):
        schedule.rising(20, None)
    with pytest.raises(InputError, match="min_lr_factor"):
        ScheduleConfig(min_lr_factor=1.5)


def test_class_weights_clipping_and_accumulation_reach_the_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_class_weights("none", ThreeColours()) is None
    found = read_class_weights("inverse_frequency", ThreeColours())
    assert found is not None
    assert found.tolist() == pytest.approx([10 / 18, 10 / 6, 10 / 6])
    with pytest.raises(InputError, match="needs class data"):
        read_class_weights("inverse_frequency", None)
    both = ThreeColours()
    both.balanced = True
    read_class_weights("inverse_frequency", both)
    assert "favour rare classes twice" in caplog.text

    module = _tuner(
        tmp_path,
        loss=LossConfig("prototype", class_weights="inverse_frequency"),
        optimizer=lambda parameters: SGD(parameters, lr=1.0),
        schedule=ScheduleConfig(warm_up=0.0, min_lr_factor=1.0),
    )
    before = torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    trainer = _fit(module, tmp_path, max_epochs=1, accumulate_grad_batches=2, gradient_clip_val=1e-3)
    assert trainer.global_step == 2  # four batches
    moved = (torch.nn.utils.parameters_to_vector(module.parameters()).detach() - before).norm().item()
    assert 0 < moved <= 2.1e-3  # two steps of at most the clipped length


def test_the_best_pass_has_the_best_accuracy_and_of_equals_the_smallest_loss(tmp_path: Path) -> None:
    labels, prototypes = torch.arange(4) % 2, torch.eye(2)

    def score(right: int, scale: float) -> float:
        named = torch.cat([labels[:right], 1 - labels[right:]])
        return label_figures(prototypes[named], labels, prototypes, torch.tensor(scale), "accuracy").score

    assert score(3, 0.1) > score(2, 0.1)  # more right
    assert score(3, 0.1) > score(3, 9.0)  # as many right, a smaller loss
    assert score(3, 9.0) > score(2, 0.1)  # the loss decides between equals only
    assert math.isnan(label_figures(prototypes[labels], labels, prototypes, torch.tensor(math.nan)).score)
    keep = ModelCheckpoint(tmp_path, monitor="valid/score", mode="max", filename="best")
    module = _tuner(tmp_path)
    _fit(module, tmp_path, max_epochs=4, enable_checkpointing=True, callbacks=[keep])
    assert keep.best_model_score is not None
    assert keep.best_model_score.item() == module.export.best.score  # float64: the tie-break is not rounded away
    state = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert state["epoch"] == module.export.epoch
    kept = ClipEncoder(str(tmp_path / "bundle")).clip.state_dict()
    assert all(torch.equal(state["state_dict"][f"encoder.clip.{name}"], value) for name, value in kept.items())


def test_a_run_that_gets_no_better_stops_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = _tuner(tmp_path, optimizer=lambda parameters: SGD(parameters, lr=0.0))
    caplog.set_level("INFO", logger="naruto_vision")
    trainer = _fit(
        module,
        tmp_path,
        max_epochs=20,
        callbacks=[EarlyStopping("valid/score", mode="max", patience=2), TuningFiles(str(tmp_path))],
    )
    assert trainer.current_epoch == 3
    assert "stopped after epoch 3: 2 validations in a row were no better than that of epoch 1" in caplog.text


def test_the_confusion_matrix_is_that_of_the_best_weights(tmp_path: Path) -> None:
    module, files = _tuner(tmp_path), TuningFiles(str(tmp_path / "out"))

    class Spoil(pl.Callback):
        def on_validation_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
            if trainer.current_epoch == 4:
                torch.nn.init.zeros_(module.encoder.clip.visual.proj)

    _fit(module, tmp_path, max_epochs=5, callbacks=[Spoil(), files])
    rows = [line.split(",") for line in (tmp_path / "out" / "confusion_matrix.csv").read_text().splitlines()]
    right = sum(int(rows[place][place]) for place in (1, 2, 3))
    assert right / 9 == pytest.approx(module.export.best.named["accuracy"])
    assert module.figures is not None
    assert module.figures.confusion is not None
    assert int(module.figures.confusion.diag().sum()) < right


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    ClipEncoder("tiny-clip", "random", sizes=SIZES).save(tmp_path / "bundle")
    state, info = load_bundle(tmp_path / "bundle", "clip")
    state["visual.other"] = state.pop("visual.proj")
    save_bundle(tmp_path / "bundle", state, info)
    with pytest.raises(StateDictError, match=r"1 missing \(visual\.proj\); 1 unexpected \(visual\.other\)"):
        ClipEncoder(str(tmp_path / "bundle"))


def test_the_templates_that_are_given_are_used(tmp_path: Path) -> None:
    module = _tuner(tmp_path, texts=TextConfig(templates=["a sketch of {}"]))
    _fit(module, tmp_path, max_steps=1, limit_val_batches=0)
    assert module.prototypes.texts == (("a sketch of red",), ("a sketch of green",), ("a sketch of blue",))


def test_zero_shot_skill_is_measured_before_and_after_each_epoch(tmp_path: Path) -> None:
    callback, files = ZeroShotRetention(count=5), TuningFiles(str(tmp_path / "out"))
    module = _tuner(tmp_path, optimizer=lambda parameters: SGD(parameters, lr=0.0))
    _fit(module, tmp_path, max_epochs=2, callbacks=[callback, files])
    assert [row["retention"] for row in files.epochs] == [1.0, 1.0]  # nothing was learned, nothing was lost
    assert callback.start == pytest.approx(files.epochs[0]["zero_shot"])
    again = ZeroShotRetention(count=5)
    again.load_state_dict(callback.state_dict())
    assert again.start == callback.start


def test_history_survives_an_interruption(tmp_path: Path) -> None:
    def run(resume: str | None, epochs: int) -> TuningFiles:
        files, keep = TuningFiles(str(tmp_path / "out")), ModelCheckpoint(tmp_path, save_last=True)
        options = {"enable_checkpointing": True, "max_epochs": epochs, "callbacks": [files, keep]}
        _fit(_tuner(tmp_path, schedule=ScheduleConfig(warm_up=0.5)), tmp_path, resume=resume, **options)
        return files

    run(None, 1)
    files = run(str(tmp_path / "last.ckpt"), 2)
    assert [row["epoch"] for row in files.epochs] == [1, 2]
    assert len(files.rates) == 8
