"""What keeps runs apart and leads from one to the next: locks, keywords of checkpoints, the line at the end."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from naruto_vision.cli.main import main
from naruto_vision.cli.next_steps import next_step
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.io.images import write_image
from naruto_vision.io.locks import folder_lock, lock_beside

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)
QUIET = ["--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.enable_progress_bar=false"]
ENCODER = "--model.encoder.init_args.model=small"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "valid"):
        for number, label in enumerate(("Koba", "Miru")):
            for seed in range(2):
                image = np.full((16, 16, 3), 90 * number + 20 * seed, np.uint8)
                write_image(tmp_path / "data" / split / label / f"{seed}.png", image)
    torch.manual_seed(0)
    ClipEncoder("tiny-clip", "random", sizes=SIZES).save(tmp_path / "small")
    return tmp_path


def fit(name: str, *more: str) -> int:
    return main(["fit", f"--config={name}.yaml", ENCODER, *QUIET, *more])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


def test_each_step_ends_with_the_next_command(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    no_curves = "--trainer.callbacks=[]"
    assert fit("clip", "--trainer.max_epochs=1", no_curves) == 0
    assert said(capsys).startswith("next: `naruto-vision fit --config gallery.yaml` builds a gallery")
    assert fit("gallery", "--model.gallery=g") == 0
    assert said(capsys).startswith(
        "next: `naruto-vision predict DIR --gallery g --model.encoder.init_args.model=small` names"
    )
    assert fit("clip", "--trainer.fast_dev_run=true", no_curves) == 0
    assert said(capsys).endswith("a trial run writes nothing; the same command without it does")
    assert hidden(world) == []


@pytest.mark.parametrize(
    ("module", "data", "command"),
    [
        (SimpleNamespace(bundle_dir="my run"), SimpleNamespace(root="d"), "gallery.yaml --data.root d"),
        (SimpleNamespace(bundle_dir="my run"), SimpleNamespace(words=()), "clip.yaml --data.root DIR"),
    ],
)
def test_paths_are_quoted_and_captions_lead_to_labels(module: object, data: object, command: str) -> None:
    named = type("ContrastiveTuner", (), vars(module))()
    (line,) = next_step(named, data)
    assert command in line
    assert "--model.encoder.init_args.model 'my run'" in line
    assert next_step(module, data) == ()  # a module of somebody else


@pytest.mark.parametrize("keyword", ["best", "newest", "nowhere.ckpt"])
def test_a_checkpoint_that_is_not_there_is_answered_with_those_that_are(
    keyword: str, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("clip", f"--ckpt_path={keyword}") == 2
    assert f"--ckpt_path {keyword}: no such checkpoint; there is none yet" in said(capsys)
    folder = world / "runs" / "clip" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "last.ckpt").touch()
    assert fit("clip", f"--ckpt_path={keyword}") == 2
    assert "there are runs/clip/checkpoints/last.ckpt; last is the newest" in said(capsys)


@pytest.mark.parametrize("folder", ["runs/clip", "runs/clip/checkpoints", "runs/clip/bundle"])
@pytest.mark.usefixtures("world")
def test_a_second_fit_into_the_same_folder_is_refused(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    with folder_lock(folder, file=lock_beside(folder) if folder.endswith("bundle") else None):
        assert fit("clip") == 2
    assert f"{folder}: process" in said(capsys)
    assert not Path(folder).exists()


@pytest.mark.usefixtures("world")
def test_other_commands_respect_the_lock_of_their_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with folder_lock("out"), folder_lock("out", file=lock_beside("out")):
        for words in (
            ["data", "prepare", "--root", "data"],
            ["data", "shard", "data"],
            ["draw", "--train", "1", "--scenes", "1"],
            ["demo", "--force"],
        ):
            assert main([*words, "--out", "out"]) == 2
            assert "naruto-vision: error: out: process" in said(capsys)
    assert not Path("out").exists()
    assert main(["data", "prepare", "--root", "data", "--out", "out"]) == 0
    assert hidden(Path()) == []


@pytest.mark.usefixtures("world")
def test_a_file_in_place_of_the_folder_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").write_text("mine")
    assert fit("clip") == 2
    assert "runs" in said(capsys)
    assert "expected a folder, found a file" in capsys.readouterr().err or Path("runs").read_text() == "mine"
