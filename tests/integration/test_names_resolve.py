"""Official weights by name: the downloaded file in ``weights/``, or the one command that downloads it."""

import dataclasses
from pathlib import Path

import open_clip
import pytest
import torch

from naruto_vision.cli.main import main
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import DinoEncoder
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.io import downloads
from naruto_vision.io.downloads import OFFICIAL, find_weights, official_file
from naruto_vision.segmentation.sam import SamModel


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights").mkdir()


@pytest.mark.parametrize(
    ("name", "constructor", "row"),
    [
        ("sam_vit_b", "SamModel", "sam_vit_b"),
        ("sam_vit_h_4b8939.pth", "SamModel", "sam_vit_h"),
        ("weights/sam_vit_l_0b3195.pth", "SamModel", "sam_vit_l"),
        ("ViT-B-32", "ClipEncoder", "ViT-B-32.openai"),
        ("ViT-B-32.laion2b_s34b_b79k", "ClipEncoder", "ViT-B-32.laion2b_s34b_b79k"),
        ("ViT-H-14", "ClipEncoder", "ViT-H-14.laion2b_s32b_b79k"),
        ("dinov2_vits14", "DinoEncoder", "dinov2_vits14"),
        ("dinov2_vits14_reg", "DinoEncoder", "dinov2_vits14_reg"),
    ],
)
def test_a_name_is_the_downloaded_file_or_the_command_that_downloads_it(name: str, constructor: str, row: str) -> None:
    with pytest.raises(MissingPathError, match=rf"{name}: no such .*; run: naruto-vision weights download {row}$"):
        official_file(name, constructor)
    assert official_file(name, constructor, missing_ok=True) is None
    file = Path("weights") / find_weights(row).file
    file.touch()
    assert official_file(name, constructor) == file


@pytest.mark.parametrize("name", ["tiny-sam", "runs/sam/bundle", "random", "dinov2_vits14", "", "openai"])
def test_other_names_are_left_to_the_constructor(name: str) -> None:
    assert official_file(name, "SamModel") is None


def test_of_two_downloaded_files_the_first_in_the_list_is_taken() -> None:
    rows = [row for row in OFFICIAL if row.name.startswith("ViT-B-32.")]
    for row in reversed(rows):
        (Path("weights") / row.file).touch()
        assert official_file("ViT-B-32", "ClipEncoder") == Path("weights") / row.file


@pytest.mark.parametrize(
    ("name", "constructor", "near"),
    [
        ("sam_vitb", "SamModel", "sam_vit_b"),
        ("sam-vit-h", "SamModel", "sam_vit_h"),
        ("dinov2_vits_14", "DinoEncoder", "dinov2_vits14"),
    ],
)
def test_a_misspelt_name_is_corrected(
    name: str, constructor: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=f"{name}: no such official weights; did you mean {near}"):
        official_file(name, constructor)
    assert main(["weights", "download", name]) == 2
    assert near in capsys.readouterr().err


def _add_row(monkeypatch: pytest.MonkeyPatch, name: str, file: str, use: str) -> Path:
    row = dataclasses.replace(OFFICIAL[0], name=name, file=file, used_for=use)
    monkeypatch.setattr(downloads, "OFFICIAL", (row, *OFFICIAL))
    return Path("weights") / file


def test_the_architecture_of_sam_comes_with_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    file = _add_row(monkeypatch, "sam_small", "sam_tiny-sam_0.pth", "SamModel('tiny-sam')")
    model = SamModel("tiny-sam")
    torch.save(model.sam.state_dict(), file)
    model.save("bundle")
    assert SamModel(weights="sam_small").fingerprint == SamModel(weights="bundle").fingerprint == model.fingerprint
    assert SamModel(weights="bundle").architecture == "tiny-sam"
    Path("bundle/model.json").write_text(Path("bundle/model.json").read_text().replace('"tiny-sam"', '"vit_x"'))
    with pytest.raises(InputError, match=r"model\.json: expected architecture 'tiny-sam', found 'vit_x'"):
        SamModel(weights="bundle")


@pytest.fixture
def architecture(monkeypatch: pytest.MonkeyPatch) -> str:
    towers = {"width": 32, "layers": 1}
    config = {
        "embed_dim": 16,
        "vision_cfg": {**towers, "image_size": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": {**towers, "context_length": 16, "vocab_size": 49408, "heads": 2},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-names-test", config)
    return "ViT-names-test"


def test_clip_by_its_architecture_alone_takes_the_downloaded_file(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _add_row(monkeypatch, f"{architecture}.own", f"{architecture}.own.bin", f"ClipEncoder('{architecture}')")
    with pytest.raises(MissingPathError, match=rf"run: naruto-vision weights download {architecture}\.own"):
        ClipEncoder(architecture)
    model = ClipEncoder(architecture, "random")
    torch.save(model.clip.state_dict(), file)
    by_names = [ClipEncoder(architecture), ClipEncoder(architecture, f"{architecture}.own")]
    assert {encoder.fingerprint for encoder in by_names} == {model.fingerprint}
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda _: ["own"])
    assert ClipEncoder(architecture, "own").fingerprint == model.fingerprint  # the file, not another download
    with pytest.raises(InputError, match=r"onw: no such weights file or tag of .*; did you mean own"):
        ClipEncoder(architecture, "onw")


def test_dinov2_takes_the_downloaded_file(monkeypatch: pytest.MonkeyPatch) -> None:
    file = _add_row(monkeypatch, "vit_tiny_patch16_224", "dino_own.pth", "DinoEncoder('vit_tiny_patch16_224')")
    model = DinoEncoder("vit_tiny_patch16_224", "random", image_size=32)
    torch.save(model.tower.state_dict(), file)
    found = DinoEncoder("vit_tiny_patch16_224", image_size=32)
    assert found.fingerprint == model.fingerprint
    assert found.recipe["weights"] is None  # opens by the name again, on any machine
    with pytest.raises(MissingPathError, match="run: naruto-vision weights download dinov2_vitb14"):
        DinoEncoder("vit_tiny_patch16_224", "dinov2_vitb14", image_size=32)
