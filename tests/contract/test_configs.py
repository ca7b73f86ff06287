"""Every YAML says how it is run, and runs: one batch of everything, on tiny drawn data and random weights."""

import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from source import ROOT

from naruto_vision.cli.main import COMMANDS, TRAINER_COMMANDS, main
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import DinoEncoder
from naruto_vision.io.bundles import packaged_configs
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.dataset import SyntheticConfig, write_dataset

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
INPUTS = ("attributes.yaml", "cast.yaml", *(path.name for path in CONFIGS if path.name.startswith("saliency-")))
"""Configs of commands without a Trainer: `describe`, `draw`, `segment saliency`."""
TRAINED = [path for path in CONFIGS if path.name not in INPUTS]

ONE_STEP = ["--trainer.fast_dev_run=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
FOUND = {
    "--model.encoder.init_args.model": "{folder}/tiny-clip",
    "--model.segmenter.init_args.model.init_args.weights": "{folder}/tiny-sam",
    "--model.segmenter.init_args.prompter.init_args.points_per_side": "2",
    "--model.gallery": "{folder}/gallery",
}
OVERRIDES: dict[str, dict[str, str]] = {
    "pretrain.yaml": {
        "--trainer.precision": "32-true",
        "--model.bundle_dir": "{folder}/pretrained",
        "--data.batch_size": "4",
        "--data.valid": "4",
        "--data.num_workers": "0",
    },
    "captions.yaml": {
        "--model.encoder.init_args.model": "{folder}/tiny-clip",
        "--model.bundle_dir": "{folder}/captioned",
        "--data.root": "{folder}/captions",
        "--data.num_workers": "0",
    },
    "regions.yaml": {
        "--model.model.init_args.weights": "random",
        "--model.model.init_args.image_size": "64",
        "--model.bundle_dir": "{folder}/regions",
        "--data.root": "{folder}/boxes",
        "--data.batch_size": "1",
    },
    "sam.yaml": {
        "--model.bundle_dir": "{folder}/segmenter",
        "--data.train.init_args.count": "2",
        "--data.valid.init_args.count": "2",
        "--data.batch_size": "2",
        "--data.num_workers": "0",
    },
    "sam-again.yaml": {
        "--model.model.init_args.weights": "{folder}/tiny-sam",
        "--model.bundle_dir": "{folder}/segmenter-again",
        "--data.train.init_args.count": "2",
        "--data.valid.init_args.count": "2",
        "--data.batch_size": "2",
        "--data.num_workers": "0",
    },
    "sam-refine.yaml": {
        "--model.model.init_args.weights": "{folder}/tiny-sam",
        "--model.bundle_dir": "{folder}/segmenter-refine",
        "--data.train.init_args.count": "2",
        "--data.valid.init_args.count": "2",
        "--data.batch_size": "2",
        "--data.num_workers": "0",
    },
    "clip.yaml": {
        "--model.encoder.init_args.model": "{folder}/tiny-clip",
        "--model.bundle_dir": "{folder}/tuned",
        "--data.root": "{folder}/world",
        "--data.num_workers": "0",
    },
    "clip-reference.yaml": {
        "--model.encoder.init_args.model": "tiny-clip",
        "--model.encoder.init_args.pretrained": "random",
        "--model.bundle_dir": "{folder}/reference",
        "--data.root": "{folder}/world",
        "--data.num_workers": "0",
    },
    "clip-vitb32.yaml": {
        "--model.encoder.init_args.model": "tiny-clip",
        "--model.encoder.init_args.pretrained": "random",
        "--model.bundle_dir": "{folder}/vitb32",
        "--trainer.precision": "32-true",
        "--precision": "null",
        "--data.root": "{folder}/world",
        "--data.num_workers": "0",
    },
    "scenes-vitb.yaml": {
        **FOUND,
        "--model.gallery": "{folder}/vitb-gallery",
        "--model.encoder.init_args.pretrained": "",
        "--out": "{folder}/vitb-results",
        "--data.predict": "{folder}/world/scenes/test/images",
        "--data.num_workers": "0",
    },
    "scenes-dinov2.yaml": {
        **FOUND,
        "--model.gallery": "{folder}/dino-gallery",
        "--model.encoder.init_args.model": "vit_tiny_patch16_224",
        "--model.encoder.init_args.weights": "{folder}/dino.pth",
        "--model.encoder.init_args.image_size": "32",
        "--out": "{folder}/dinov2-results",
        "--data.predict": "{folder}/world/scenes/test/images",
        "--data.num_workers": "0",
    },
    "gallery.yaml": {
        **FOUND,
        "--data.root": "{folder}/world",
        "--data.valid": "{folder}/world/scenes/valid",
        "--data.num_workers": "0",
    },
    "gallery-reference.yaml": {
        "--model.encoder.init_args.model": "{folder}/tiny-clip",
        "--model.encoder.init_args.pretrained": "",
        "--model.gallery": "{folder}/gallery-reference",
        "--data.root": "{folder}/world",
        "--data.num_workers": "0",
    },
    "scenes-reference.yaml": {
        **FOUND,
        "--model.gallery": "{folder}/gallery-reference",
        "--model.encoder.init_args.pretrained": "",
        "--model.segmenter.init_args.model.init_args.architecture": "tiny-sam",
        "--out": "{folder}/reference-results",
        "--data.predict": "{folder}/world/scenes/test/images",
        "--data.num_workers": "0",
    },
    "scenes.yaml": {
        **FOUND,
        "--out": "{folder}/results",
        "--data.predict": "{folder}/world/scenes/test/images",
        "--data.num_workers": "0",
    },
}


def _command(path: Path) -> list[str]:
    """Return the words of the command in a config's first line."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# naruto-vision ")
    return shlex.split(first.removeprefix("# naruto-vision "))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw a tiny world, and save small models with random weights."""
    root = tmp_path_factory.mktemp("configs")
    plan = SyntheticConfig(train=2, valid=1, test=1, scenes=1, valid_scenes=1, size=96, image_size=48)
    write_dataset(root / "world", read_cast(ROOT / "configs" / "cast.yaml"), plan)
    files = [path.name for path in sorted((root / "world" / "train").glob("*.jpg"))]
    (root / "captions").symlink_to(root / "world" / "train")
    (root / "captions" / "captions.csv").write_text("path,text\n" + "".join(f"{name},a face\n" for name in files))
    (root / "boxes").mkdir()
    (root / "boxes" / "train").symlink_to(root / "world" / "scenes" / "test")
    (root / "boxes" / "valid").symlink_to(root / "world" / "scenes" / "valid")
    ClipEncoder("tiny-clip", "random").save(root / "tiny-clip")
    SamModel("tiny-sam").save(root / "tiny-sam")
    dino = DinoEncoder("vit_tiny_patch16_224", "random", image_size=32)
    torch.save(dino.tower.state_dict(), root / "dino.pth")
    return root


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_config_opens_with_the_command_that_runs_it(path: Path) -> None:
    words = _command(path)
    assert {words[0], " ".join(words[:2])} & {*TRAINER_COMMANDS, *COMMANDS}
    options = {"--cast", "--config", "--preset", "--vocabulary"}
    named = [word for option, word in pairwise(words) if option in options]
    assert Path(named[-1]).name == path.name
    assert all((ROOT / "configs" / Path(word).name).is_file() for word in named)


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.name)
def test_a_config_has_its_seed_and_its_overrides_here(path: Path) -> None:
    assert len(packaged_configs()[path.name]) <= 60
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8"))["seed_everything"], int)
    assert path.name in OVERRIDES


@pytest.mark.parametrize("name", ["scenes-vitb.yaml", "scenes-dinov2.yaml"])
def test_a_scene_config_builds_its_gallery_too(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gallery = folder / ("vitb-gallery" if "vitb" in name else "dino-gallery")
    shutil.rmtree(gallery, ignore_errors=True)
    _build_gallery(name, folder)
    assert (gallery / "manifest.json").is_file()


def _build_gallery(name: str, folder: Path) -> None:
    """Run a config's whole enrolment, unless an earlier test has; a fast_dev_run writes no gallery."""
    if Path(OVERRIDES[name]["--model.gallery"].format(folder=folder)).exists():
        return
    changes = [f"{key}={value.format(folder=folder)}" for key, value in OVERRIDES[name].items() if key != "--out"]
    root = [] if "--data.root" in OVERRIDES[name] else [f"--data.root={folder}/world"]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]
    assert main(["fit", f"--config={name}", *root, *quiet, *changes]) == 0


@pytest.mark.parametrize(
    "name",
    [
        "pretrain.yaml",
        "captions.yaml",
        "sam.yaml",
        "sam-again.yaml",
        "sam-refine.yaml",
        "regions.yaml",
        "clip.yaml",
        "clip-reference.yaml",
        "gallery.yaml",
        "gallery-reference.yaml",
        "scenes.yaml",
        "scenes-reference.yaml",
        "clip-vitb32.yaml",
        "scenes-vitb.yaml",
        "scenes-dinov2.yaml",
    ],
)
def test_a_config_runs_for_one_step(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # nothing may be written outside the folders that are named
    changes = [f"{key}={value.format(folder=folder)}" for key, value in OVERRIDES[name].items()]
    words = _command(ROOT / "configs" / name)
    configs = [f"--config={Path(word).name}" for option, word in pairwise(words) if option == "--config"]
    if name.startswith("scenes"):  # tests may run in any order and process
        builders = {"scenes.yaml": "gallery.yaml", "scenes-reference.yaml": "gallery-reference.yaml"}
        _build_gallery(builders.get(name, name), folder)
    assert main([words[0], *(configs or [f"--config={name}"]), *ONE_STEP, *changes]) == 0
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()}
    assert written == set()
