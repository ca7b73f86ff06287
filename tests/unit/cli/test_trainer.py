"""The Trainer commands."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.demos.boring_classes import BoringModel

from naruto_vision.cli import trainer
from naruto_vision.cli.main import main
from naruto_vision.cli.trainer import NarutoCLI, one_line, run_cli
from naruto_vision.cli.trainer_args import SHORT_OPTIONS, VERBS, expand_argv, limit_threads
from naruto_vision.cli.trainer_checks import check_typed
from naruto_vision.errors import InputError
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
    ("options", "text"),
    [
        (["--model", "os.system"], "Importing 'os.system' is not allowed"),
        (["--model", "naruto_vision.cli.main.importlib.import_module"], "is not allowed"),
        (["--trainer.callbacks+=subprocess.Popen"], "Importing 'subprocess.Popen' is not allowed"),
        (["--trainer.max_epochs=many"], "error: --trainer.max_epochs many: expected int"),
        (["--trainer.accelerator=gpu"], "--trainer.accelerator gpu: no GPU that torch can use; give auto or cpu"),
        (["--out", "results"], "no callback of this config writes results"),
        (["--ckpt_path", "/no/such.ckpt"], "/no/such.ckpt: no such checkpoint"),
        (["--trainer.callbacks=null", "--trainer.enable_checkpointing=true", "--trainer.devices=0"], "devices"),
        (["--nope", "3"], "unrecognized arguments: --nope 3; see `naruto-vision fit --help`"),
        (["--seed_everything=-1"], "--seed_everything -1: expected 0 to 4294967295"),
        (["--seed_everything", "3", "stray"], "unrecognized arguments: stray; see `naruto-vision fit --help`"),
        (["--trainer.no_such=1"], "unrecognized arguments: --trainer.no_such=1"),
        (["--confg", "x"], "did you mean --config?"),
        (["--conf", "x"], "did you mean --config?"),  # no abbreviations: they change meaning with the next option
        (["--trainer.max_epoch=3"], "did you mean --trainer.max_epochs?"),
        (["--seed_everythin", "3"], "did you mean --seed_everything?"),
        (
            ["--gallery", "g"],
            "--gallery: BoringModel has no such option; see `naruto-vision fit --model.help BoringModel`",
        ),
    ],
)
def test_a_wrong_option_is_one_line(
    config: str, options: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", config, *options]) == 2
    assert text in _error(capsys)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "trainer:\n  max_epochss: 3\n",
            "own.yaml: Group 'trainer' does not accept option 'max_epochss'; did you mean max_epochs?",
        ),
        (
            "trainr:\n  max_epochs: 3\n",
            "own.yaml: Option 'trainr.max_epochs' is not accepted; did you mean trainer.max_epochs?",
        ),
        (
            "data:\n  class_path: naruto_vision.data.class_data.ClassDataModule\n  init_args:\n    rot: x\n",
            "own.yaml: data: ClassDataModule: Option 'rot' is not accepted; did you mean root?",
        ),
        (
            "data:\n  class_path: naruto_vision.data.class_data.ClassDataModule\n  init_args:\n    xyzzy: x\n",
            "Option 'xyzzy' is not accepted; see ",
        ),
        ("model: [unclosed\n", "own.yaml: not YAML (line 2, column 1: did not find expected ',' or ']'"),
    ],
)
def test_a_wrong_key_is_told_with_its_config(
    config: str,
    text: str,
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(text, encoding="utf-8")
    assert main(["fit", "--config", config, "--config", "own.yaml"]) == 2
    assert error in _error(capsys)


def test_an_option_of_a_class_is_told_without_a_config(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["fit", "--config", config, "--data=naruto_vision.data.class_data.ClassDataModule", "--data.rot=x"]) == 2
    )
    assert _error(capsys) == "naruto-vision: error: --data.rot: ClassDataModule has no such option; did you mean root?"


def test_a_misspelt_short_option_of_predict_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--config", "scenes.yaml", "--treshold=0.5"]) == 2
    assert _error(capsys).endswith("unrecognized arguments: --treshold; did you mean --threshold?")


UNION = """Parser key "model":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'lightning.pytorch.core.module.LightningModule'>, <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'os.system':
        Importing 'os.system' is not allowed, denied by the 'os' entry of the import path denylist. Add the import \
path to import_path_allowlist in set_parsing_settings to allow it.
    - Expected a <class 'NoneType'>
  Given value type: <class 'str'>
  Given value: os.system"""


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("", ""),
        ("one\ntwo  three", "one two three"),
        (UNION, "model os.system: system: Importing 'os.system' is not allowed in a config"),
        ('Parser key "a.b":\n  wrong', "a.b: wrong"),
        ('Parser key "a": gone', "a: gone"),
        ("Parser key \"a\":\n  - Expected a <class 'int'>\n  Given value: x", "a x: expected int"),
        ('Parser key "a":\n  - wrong\n  - wrong\n  - other', "a: wrong; other"),
        ('Parser key "a":\n  - a long\n    reason', "a: a long reason"),
        ("  - Expected a <class 'NoneType'>\n  - Expected a path but that\n  - the reason", "the reason"),
        (f'Parser key "a":\n  - bad\nGiven value: {"x" * 61}', "a: bad"),
        (f'Parser key "a":\n  - bad\nGiven value: {"x" * 60}', f"a {'x' * 60}: bad"),
        ('Parser key "a":\n  - bad\nGiven value: NestedArg(x)', "a: bad"),
    ],
)
def test_a_message_of_the_parser_becomes_one_line(message: str, line: str) -> None:
    assert one_line(message) == line


@pytest.mark.parametrize(
    ("command", "config"),
    [
        ("fit", "gallery.yaml"),
        ("fit", "clip.yaml"),
        ("fit", "sam.yaml"),
        ("validate", "gallery.yaml"),
        ("validate", "clip.yaml"),
        ("test", "scenes.yaml"),
        ("predict", "scenes.yaml"),
    ],
)
def test_the_parser_knows_the_options_of_the_static_help(command: str, config: str, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "names.txt").write_text("a.png\n")
    kind = config.removesuffix(".yaml")
    groups = [own for title, own in VERBS[command].groups if kind in re.split(r"\W+", title)]
    assert groups or not VERBS[command].groups
    words = {"--trainer.accelerator": "cpu", "--trainer.precision": "32-true", "--precision": "auto"}
    words |= {"--config": config, "--ckpt_path": "last", "--decision": "top1", "--list": str(tmp_path / "names.txt")}
    words |= {"--mask-precision": "float32", "--mask-compile": "none", "--allow-imports": "torch.nn"}
    words |= {"--data.train": "SyntheticMasks", "--runtime": "onnx"}
    options = [
        f"{o.flag}={words.get(o.flag, '7')}" if o.value else o.flag
        for group in (VERBS[command].options, *groups)
        for o in group
        if (kind, o.flag) not in {("sam", "--data.root"), ("sam", "--encoder")}
    ]
    assert parsed_config(command, ["--config", config, *options]).seed_everything == 7
    defaults = parsed_config(command, ["--config", config])
    assert (defaults.seed_everything, defaults.trainer.devices, defaults.trainer.accelerator) == (
        7 if kind == "sam" else 42,
        1,
        "auto",
    )


@pytest.mark.parametrize("command", ["fit", "predict"])
def test_help_all_is_the_parsers_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help-all" if command == "fit" else "--help_all"]) == 0
    shown = capsys.readouterr().out
    for option in set(re.findall(r"--[\w.]+", shown)):
        check_typed(command, ["--config=a.yaml", f"{option}=1"])  # none is taken for a misspelt one
    assert shown.startswith(f"usage: naruto-vision {command} ")
    assert all(option in shown for option in ("--trainer.max_epochs", "--model.help", "--out", "--ckpt_path"))
    assert "--weights_only" not in shown


def test_help_of_a_class_is_the_parsers_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--model.help", "SceneRetriever"]) == 0
    assert "[--model.gallery GALLERY]" in capsys.readouterr().out


def test_a_config_is_printed_with_its_defaults(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", config, "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["trainer"]["max_epochs"] == 1
    assert printed["seed_everything"] == 42


class _UnderstoodError(Exception):
    """Stops a command once its options are parsed."""


def parsed_config(command: str, options: list[str]) -> Any:
    """Return what the real parser makes of a command, without building anything."""
    found: list[Any] = []

    def stop(cli: NarutoCLI) -> None:
        found.append(cli.config)
        raise _UnderstoodError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NarutoCLI, "before_instantiate_classes", stop)
        patch.setattr("naruto_vision.cli.trainer_args.check_gallery", Path)
        with pytest.raises(_UnderstoodError):
            run_cli(expand_argv(command, options))
    return found[0]


def test_the_parser_knows_what_every_short_option_stands_for(tmp_path: Path) -> None:
    write_image(tmp_path / "scenes" / "a.png", torch.zeros(8, 8, 3, dtype=torch.uint8).numpy())
    values = {
        "--gallery": "g",
        "--threshold": "0.5",
        "--decision": "top1",
        "--mask-precision": "bfloat16",
        "--mask-compile": "all",
        "--runtime": "onnx",
    }
    options = [f"{o.flag}={values.get(o.flag, '3')}" if o.value else o.flag for o in SHORT_OPTIONS]
    config = parsed_config("predict", [str(tmp_path / "scenes"), *options])
    model = config.model.init_args
    assert (model.gallery, model.decision, config.fail_fast) == ("g", "top1", True)
    assert (model.overlay.min_score, model.overlay.top_k, model.overlay.prefer_different_label) == (0.5, 3, True)
    keep, sam = model.segmenter.init_args.keep, model.segmenter.init_args.model.init_args
    assert (keep.min_area, keep.max_masks, sam.precision, sam.compile) == (3, 3, "bfloat16", "all")


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


@pytest.mark.parametrize("damage", ["state_dict", "loops", "callbacks", "pytorch-lightning_version", "weights"])
def test_a_checkpoint_that_does_not_fit_is_refused_in_one_line(
    config: str, damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", config]) == 0
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    change = {"state_dict": {"other": torch.zeros(1)}} if damage == "weights" else {damage: "x"}
    torch.save(content | change, tmp_path / "other.ckpt")
    capsys.readouterr()
    words = ["--trainer.max_epochs=2", "--ckpt_path", str(tmp_path / "other.ckpt")]
    assert main(["fit", "--config", config, *words]) == 2
    assert "other.ckpt: expected a checkpoint of this model and its settings, found" in _error(capsys)


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


@pytest.mark.parametrize(
    ("accelerator", "gpu", "gpu_bf16", "cpu_bf16", "expected"),
    [
        ("auto", True, True, False, "bf16-mixed"),
        ("gpu", True, False, True, "16-mixed"),  # Lightning scales the gradients of float16
        ("auto", False, False, True, "bf16-mixed"),
        ("auto", False, False, False, None),
        ("cpu", True, True, True, "bf16-mixed"),
        ("cpu", True, True, False, None),
    ],
)
def test_half_precision_only_where_it_is_faster(
    accelerator: str, gpu: bool, gpu_bf16: bool, cpu_bf16: bool, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: gpu_bf16 and not including_emulation
    )
    monkeypatch.setattr(trainer, "has_fast_bf16", lambda: cpu_bf16)
    assert trainer._fastest_precision(accelerator) == expected


def test_auto_reaches_the_trainer_from_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(trainer, "_fastest_precision", lambda *words: given.extend(words) or "32-true")
    monkeypatch.setattr(NarutoCLI, "instantiate_classes", lambda _: None)
    words = ["fit", "--config", "configs/clip-vitb32.yaml", "--trainer.accelerator", "cpu"]
    trainer.run_cli(words, run=False)
    assert given == ["cpu"]
    trainer.run_cli([*words, "--trainer.precision=32-true"], run=False)
    assert given == ["cpu"]


def test_the_progress_bar_shows_no_version_and_can_be_off() -> None:
    words = ["fit", "--config", "configs/pretrain.yaml", "--trainer.accelerator=cpu", "--trainer.precision=32-true"]
    cli = trainer.run_cli(words, run=False)
    assert cli.trainer.progress_bar_callback.get_metrics(cli.trainer, cli.model) == {}
    assert cli.trainer.loggers
    off = trainer.run_cli([*words, "--trainer.enable_progress_bar=false"], run=False)
    assert off.trainer.progress_bar_callback is None
