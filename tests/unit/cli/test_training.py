import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from naruto_vision.cli.main import main
from naruto_vision.cli.trainer_args import arrange_words, find_config, limit_threads
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.io.images import write_image

CONFIG = """
trainer:
  max_epochs: 1
  accelerator: cpu
  limit_train_batches: 2
  limit_val_batches: 1
  num_sanity_val_steps: 0
  enable_progress_bar: false
  enable_model_summary: false
  logger:
    class_path: lightning.pytorch.loggers.CSVLogger
    init_args: {save_dir: FOLDER/logs, name: toy, version: run}
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {dirpath: FOLDER/checkpoints, save_last: true}
model: lightning.pytorch.demos.boring_classes.BoringModel
data: lightning.pytorch.demos.boring_classes.BoringDataModule
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "toy.yaml"
    path.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    return str(path)


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("naruto-vision: error: ")]
    assert len(lines) == 1
    return lines[0]


def test_configs_are_found_by_bare_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("scenes.yaml").is_absolute()
    (tmp_path / "scenes.yaml").write_text("{}")
    assert find_config("scenes.yaml") == Path("scenes.yaml")
    with pytest.raises(MissingPathError, match="no such config"):
        find_config("elsewhere/scenes.yaml")


def test_predict_folder_becomes_the_packaged_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("naruto_vision.cli.trainer_args.check_gallery", asked.append)
    write_image(tmp_path / "scene.png", torch.zeros(8, 8, 3, dtype=torch.uint8).numpy())
    words = arrange_words("predict", [str(tmp_path), "--out", "results"])
    assert words[:2] == ["predict", "--config"]
    assert words[2].endswith("scenes.yaml")
    assert words[3:] == ["--out", "results", f"--data.predict={tmp_path}"]
    own = arrange_words("predict", [str(tmp_path), "--config=scenes.yaml"])
    assert own.count("--config") == 1
    assert asked == ["runs/gallery"]  # another config may name another gallery


def test_a_default_gallery_that_is_not_there_is_told_before_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "scene.png", torch.zeros(8, 8, 3, dtype=torch.uint8).numpy())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingPathError, match=r"runs/gallery: no such gallery; enrol first"):
        arrange_words("predict", [str(tmp_path)])


def test_threads_are_limited_unless_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == str(len(os.sched_getaffinity(0)))
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "1"
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_fit_leaves_config_and_checkpoint_and_resumes(config: str, tmp_path: Path) -> None:
    assert main(["fit", "--config", config]) == 0
    assert (tmp_path / "logs" / "toy" / "run" / "config.yaml").is_file()
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 2
    assert main(["fit", "--config", config, "--trainer.max_epochs=3", "--ckpt_path", "last"]) == 0
    assert torch.load(last, weights_only=True)["global_step"] == 6


def test_a_run_without_logger_leaves_no_config_behind(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert main(["fit", "--config", config, "--trainer.logger=false"]) == 0
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--model", "os.system"], "Importing 'os.system' is not allowed"),
        (["--model", "naruto_vision.cli.importlib.import_module"], "is not allowed"),
        (["--trainer.callbacks+=subprocess.Popen"], "Importing 'subprocess.Popen' is not allowed"),
        (["--trainer.max_epochs=many"], "trainer.max_epochs many: expected int"),
        (["--trainer.no_such=1"], "no_such"),
        (["--nope", "3"], "unrecognized arguments: --nope;"),
        (["--out", "results"], "no callback of this config writes results"),
        (["--ckpt_path", "/no/such.ckpt"], "/no/such.ckpt: no such checkpoint"),
        (["--trainer.callbacks=null", "--trainer.enable_checkpointing=true", "--trainer.devices=0"], "devices"),
    ],
)
def test_wrong_words_are_one_line(config: str, words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", config, *words]) == 2
    assert text in _error(capsys)


def test_a_module_outside_the_allowed_ones_is_never_imported(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["fit", "--config", config, "--model", "trap.Model"]) == 2
    assert "trap.Model" in _error(capsys)


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("kind", ["code", "garbage", "no weights"])
def test_a_bad_checkpoint_is_refused_and_runs_nothing(
    config: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.ckpt"
    match kind:
        case "code":
            torch.save({"state_dict": {}, "extra": _Code()}, path)
        case "garbage":
            path.write_bytes(b"garbage")
        case _:
            torch.save({"epoch": 3}, path)
    assert main(["fit", "--config", config, "--ckpt_path", str(path)]) == 2
    assert "bad.ckpt: expected a Lightning checkpoint" in _error(capsys)
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_never_chooses_classes_or_values(config: str, tmp_path: Path) -> None:
    assert main(["fit", "--config", config]) == 0
    path = tmp_path / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"] = {"_class_path": "os.system", "lr": 9.0, "_instantiator": "os.system"}
    torch.save(content, path)
    assert main(["fit", "--config", config, "--trainer.max_epochs=2", "--ckpt_path", str(path)]) == 0


def test_emulated_bf16_is_refused(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("naruto_vision.cli.trainer.has_fast_bf16", lambda: False)
    assert main(["fit", "--config", config, "--trainer.precision=bf16-mixed"]) == 2
    assert "use 32-true" in _error(capsys)


def test_own_errors_come_through_the_parser(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_self: BoringModel) -> None:
        raise InputError("the image is upside down")

    monkeypatch.setattr(BoringModel, "__init__", refuse)
    assert main(["fit", "--config", config]) == 2
    assert _error(capsys) == "naruto-vision: error: the image is upside down"


def test_ctrl_c_during_training_exits_130(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_self: BoringModel, _batch: torch.Tensor, _index: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BoringModel, "training_step", interrupt)
    assert main(["fit", "--config", config]) == 130


def test_s1_075_predict_takes_short_words_for_what_it_is_told_most_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "scene.png", torch.zeros(8, 8, 3, dtype=torch.uint8).numpy())
    monkeypatch.setattr("naruto_vision.cli.trainer_args.check_gallery", Path)
    short = ["--gallery", "g", "--threshold=0.8", "--top-k", "2", "--prefer-different-label", "--fail-fast"]
    assert arrange_words("predict", [str(tmp_path), *short])[3:-1] == [
        "--model.gallery",
        "g",
        "--model.overlay.min_score=0.8",
        "--model.overlay.top_k",
        "2",
        "--model.overlay.prefer_different_label=true",
        "--fail_fast=true",
    ]
