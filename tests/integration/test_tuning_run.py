"""A tuning run as a user starts it: the reference's config on a drawn cast, with every file that it leaves."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from naruto_vision.cli.main import main
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.dataset import SyntheticConfig, write_dataset

CONFIGS = Path(__file__).parents[2] / "configs"
SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=3, text_width=32, text_layers=1
)
FILES = (
    "metrics.json",
    "classes.json",
    "confusion_matrix.csv",
    "confusion_matrix.png",
    "per_class_accuracy.csv",
    "curves_loss.png",
    "curves_acc.png",
    "lr_schedule.png",
)
EPOCHS = 3


@dataclass(frozen=True)
class Run:
    """Where a run was started, and what it started from."""

    folder: Path
    start: Path

    def json(self, name: str) -> dict[str, object]:
        """Return one of the run's JSON objects."""
        value: dict[str, object] = json.loads((self.folder / "out" / name).read_text())
        return value

    def rows(self, name: str) -> list[list[str]]:
        """Return one of the run's tables."""
        with (self.folder / "out" / name).open() as file:
            return list(csv.reader(file))


def _words(folder: Path, start: Path, extra: Sequence[str] = ()) -> list[str]:
    return [
        *("fit", "--config", "clip-reference.yaml", "--data.root", str(folder / "manifests"), "--out", "out"),
        *("--model.texts.aliases_json", str(folder / "world" / "aliases.json"), "--model.bundle_dir", "out/bundle"),
        *("--model.encoder.init_args.model", str(start), "--trainer.accelerator", "cpu"),
        *("--trainer.max_epochs", str(EPOCHS), "--trainer.enable_progress_bar", "false", "--trainer.logger", "false"),
        *("--trainer.enable_model_summary", "false", "--model.optimizer.init_args.lr", "0.003"),
        *extra,
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("tuning")
    plan = SyntheticConfig(train=4, valid=3, test=1, scenes=1, valid_scenes=1, size=96, image_size=48)
    write_dataset(folder / "world", read_cast(CONFIGS / "cast.yaml"), plan)
    torch.manual_seed(0)
    ClipEncoder("tiny-clip", "random", sizes=SIZES).save(folder / "start")
    settings = yaml.safe_load((CONFIGS / "clip-reference.yaml").read_text())
    del settings["model"]["init_args"]["encoder"]["init_args"]["pretrained"]  # a bundle has weights of its own
    kept = [item for item in settings["trainer"]["callbacks"] if "LearningRate" not in item["class_path"]]
    every = {"dirpath": "out/checkpoints", "filename": "epoch_{epoch:03d}", "auto_insert_metric_name": False}
    kept[0]["init_args"]["dirpath"] = "out/checkpoints"
    kept.append({"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": every | {"save_top_k": -1}})
    kept.append({"class_path": "naruto_vision.modules.wise_ft.WiseSweep", "init_args": {"steps": 2, "count": 8}})
    settings["trainer"]["callbacks"] = kept
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    words = _words(folder, folder / "start")
    words[2] = str(folder / "config.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["data", "prepare", "--root", str(folder / "world"), "--out", str(folder / "manifests")]) == 0
        assert main(words) == 0
    return Run(folder, folder / "start")


def test_manifests_classes_and_aliases_go_in_and_one_folder_comes_out(run: Run) -> None:
    bundle = json.loads((run.folder / "out" / "bundle" / "model.json").read_text())
    classes = json.loads((run.folder / "manifests" / "classes.json").read_text())
    assert bundle["classes"] == classes
    aliases = json.loads((run.folder / "world" / "aliases.json").read_text())
    name, others = next((name, others) for name, others in aliases.items() if others)
    assert f"a portrait of {others[0]}" in bundle["texts"][classes.index(name)]
    assert not (run.folder / "runs").exists()


def test_the_reference_config_has_the_reference_numbers() -> None:
    settings = yaml.safe_load((CONFIGS / "clip-reference.yaml").read_text())
    model, trainer = settings["model"]["init_args"], settings["trainer"]
    assert (trainer["max_epochs"], trainer["accumulate_grad_batches"], settings["seed_everything"]) == (50, 1, 42)
    assert settings["data"]["init_args"]["batch_size"] == 32
    assert model["optimizer"] == {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-5, "weight_decay": 0.02}}


def test_patience_smoothing_scale_warm_up_and_floor_are_settings(run: Run) -> None:
    settings = yaml.safe_load((CONFIGS / "clip-reference.yaml").read_text())
    model = settings["model"]["init_args"]
    assert model["schedule"] == {"warm_up_epochs": 3, "min_lr_factor": 0.1}
    assert (model["loss"]["smoothing"], model["loss"]["max_logit_scale"]) == (0.1, 100.0)
    stopping = [item for item in settings["trainer"]["callbacks"] if item["class_path"].endswith("EarlyStopping")]
    assert stopping[0]["init_args"]["patience"] == 5
    assert len(run.json("metrics.json")["epochs"]) == EPOCHS  # type: ignore[arg-type]  # a list of JSON


def test_best_last_and_every_epoch_are_kept_and_read_back(run: Run) -> None:
    folder = run.folder / "out" / "checkpoints"
    names = {path.name for path in folder.iterdir()}
    assert {"best.ckpt", "last.ckpt", *(f"epoch_{epoch:03d}.ckpt" for epoch in range(EPOCHS))} <= names
    state = torch.load(folder / "best.ckpt", weights_only=True)
    assert {"epoch", "state_dict", "optimizer_states", "lr_schedulers"} <= state.keys()
    kept = ClipEncoder(str(run.folder / "out" / "bundle")).clip.state_dict()
    assert all(torch.equal(state["state_dict"][f"encoder.clip.{name}"], value) for name, value in kept.items())


def test_every_table_and_plot_is_there(run: Run) -> None:
    out = run.folder / "out"
    assert [name for name in FILES if not (out / name).is_file() or not (out / name).stat().st_size] == []
    classes = json.loads((out / "classes.json").read_text())
    rows = run.rows("per_class_accuracy.csv")
    assert rows[0] == ["class", "correct", "total", "accuracy"]
    assert [row[0] for row in rows[1:]] == classes
    assert sum(int(row[2]) for row in rows[1:]) == 3 * len(classes)
    best = run.json("metrics.json")["best"]
    assert isinstance(best, dict)
    right = sum(int(row[1]) for row in rows[1:])
    assert right / (3 * len(classes)) == pytest.approx(best["accuracy"])
    matrix = run.rows("confusion_matrix.csv")
    assert matrix[0] == ["truth", *classes]
    assert [int(matrix[place + 1][place + 1]) for place in range(len(classes))] == [int(row[1]) for row in rows[1:]]


def test_the_card_states_the_kept_weights_their_data_and_their_classes(run: Run) -> None:
    card = (run.folder / "out" / "card.md").read_text()
    assert f"fingerprint {ClipEncoder(str(run.folder / 'out' / 'bundle')).fingerprint[:16]}" in card
    classes = json.loads((run.folder / "out" / "classes.json").read_text())
    assert f"| train | {4 * len(classes)} | {len(classes)} |" in card
    assert f"| valid in train | 0/{3 * len(classes)} = 0.000" in card
    right = sum(int(row[1]) for row in run.rows("per_class_accuracy.csv")[1:])
    assert (
        sum(int(line.split("| ")[2].split("/")[0]) for line in card.splitlines() if line.split(" |")[0][2:] in classes)
        == right
    )


def test_each_epoch_tells_loss_accuracy_and_what_is_left_of_zero_shot(run: Run) -> None:
    epochs = run.json("metrics.json")["epochs"]
    assert isinstance(epochs, list)
    for row in epochs:
        assert {"epoch", "step", "train_loss", "loss", "accuracy", "zero_shot", "retention"} <= row.keys()
    assert [row["epoch"] for row in epochs] == [1, 2, 3]


def test_the_mixture_of_weights_is_swept_and_kept(run: Run) -> None:
    told = run.json("wise.json")
    points, chosen = told["points"], told["chosen"]
    assert isinstance(points, list)
    assert isinstance(chosen, dict)
    assert [point["alpha"] for point in points] == [0.0, 0.5, 1.0]
    assert points[0]["retention"] == 1.0
    best = run.json("metrics.json")["best"]
    assert isinstance(best, dict)
    assert points[2]["accuracy"] == pytest.approx(best["accuracy"], abs=1e-5)
    assert chosen["retention"] >= 0.9
    assert (run.folder / "out" / "wise.png").stat().st_size > 1000
    start = ClipEncoder(str(run.start)).clip.state_dict()
    tuned = ClipEncoder(str(run.folder / "out" / "bundle")).clip.state_dict()
    mixed = ClipEncoder(str(run.folder / "out" / "wise"))
    for name, value in mixed.clip.state_dict().items():
        assert torch.allclose(value, start[name].lerp(tuned[name], chosen["alpha"]), atol=1e-6)
    assert mixed.info["classes"] == json.loads((run.folder / "out" / "classes.json").read_text())


def test_a_wrong_option_is_told_and_not_passed_over(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = _words(run.folder, run.start, ["--model.freeze.unfreeze_visual_block", "2"])
    words[2] = str(run.folder / "config.yaml")
    assert main(words) == 2
    assert "unfreeze_visual_block" in capsys.readouterr().err
