"""Help, short options and early checks of the Trainer commands, before torch is imported."""

import json
import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml

from naruto_vision.cli.main import TRAINER_COMMANDS, main
from naruto_vision.cli.trainer_args import (
    BOXES_READ,
    GALLERY,
    REGIONS,
    SCENES_CONFIG,
    SHORT_OPTIONS,
    TUNED,
    VERBS,
    added_notes,
    expand_argv,
    find_config,
    read_config,
)
from naruto_vision.cli.trainer_checks import check_typed
from naruto_vision.encoders import ensemble
from naruto_vision.encoders.clip import KIND as CLIP
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import KIND as DINO
from naruto_vision.encoders.ensemble import AUTO
from naruto_vision.errors import FingerprintError, FormatError, InputError, MissingPathError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.info import encoder_options
from naruto_vision.io.bundles import config_path, packaged_configs
from naruto_vision.io.images import write_image
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.recognition.decision import Decision
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.runtime import Compile, Precision
from naruto_vision.segmentation.sam import SamModel


@pytest.fixture
def scenes(tmp_path: Path) -> str:
    write_image(tmp_path / "scenes" / "a.png", np.zeros((8, 8, 3), np.uint8))
    return str(tmp_path / "scenes")


@pytest.mark.parametrize("command", VERBS)
@pytest.mark.parametrize("columns", ["60", "120"])
def test_help_shows_the_most_used_options_and_where_to_see_all(
    command: str, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main([command, "--config", "no-such.yaml", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: naruto-vision {command} ")
    options = [
        option for group in (VERBS[command].options, *(own for _, own in VERBS[command].groups)) for option in group
    ]
    assert [option.flag for option in options if f"\n  {option.flag}" not in shown] == []
    assert f"naruto-vision {command} --help-all\n" in shown
    assert "--print_config" in shown
    assert columns == "60" or len(shown.splitlines()) <= 60
    packaged = [(name, text) for name, text in packaged_configs().items() if name.startswith(VERBS[command].configs)]
    assert all(f"\n  {name:<24}{text}\n" in shown for name, text in packaged)
    assert all(f"\n  naruto-vision {example}\n" in shown for example in VERBS[command].examples)


def test_every_trainer_command_has_help() -> None:
    assert VERBS.keys() == TRAINER_COMMANDS.keys()
    assert set(SHORT_OPTIONS) <= set(VERBS["predict"].options)


@pytest.mark.parametrize("command", VERBS)
def test_a_command_alone_says_what_is_missing(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command]) == 2
    assert f"--config FILE; see `naruto-vision {command} --help`" in capsys.readouterr().err


def test_configs_are_found_by_bare_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("scenes.yaml").is_absolute()
    (tmp_path / "scenes.yaml").write_text("{}")
    assert find_config("scenes.yaml") == Path("scenes.yaml")
    with pytest.raises(MissingPathError, match=r"elsewhere/scenes\.yaml: no such config; did you mean scenes\.yaml\?"):
        find_config("elsewhere/scenes.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(FormatError, match=r"pipe\.yaml: expected a file, found a pipe or a device"):
        read_config(find_config("pipe.yaml"))


@pytest.mark.parametrize("name", ["clip.yaml", "clip.yml", "clip", "configs/clip.yaml", "./clip.yaml", "configs/clip"])
def test_a_packaged_config_is_found_by_what_people_call_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == config_path("clip.yaml")


def test_choices_of_short_options_are_those_of_the_classes() -> None:
    for flag, choices in (("--decision", Decision), ("--mask-precision", Precision), ("--mask-compile", Compile)):
        for choice in get_args(choices):
            check_typed("predict", ["scenes", flag, choice])
        with pytest.raises(InputError, match=f"{flag}: expected one of {', '.join(get_args(choices))}, found 'other'"):
            check_typed("predict", ["scenes", flag, "other"])


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("runs/clip/bundle", ["ClipEncoder", "runs/clip/bundle", "pretrained="]),
        ("ViT-B-32", ["ClipEncoder", "ViT-B-32", "pretrained="]),
        ("runs/dino/bundle", ["ClipEncoder", "runs/dino/bundle", "pretrained="]),
        ("dinov2_vits14", ["DinoEncoder", "dinov2_vits14", "weights=dinov2_vits14"]),
        ("vit_small_patch14_dinov2.lvd142m", ["DinoEncoder", "vit_small_patch14_dinov2.lvd142m", "weights=null"]),
    ],
)
def test_an_encoder_is_its_class_its_model_and_its_weights(model: str, options: list[str]) -> None:
    kind, name, weights = options
    expected = [
        f"--model.encoder={kind}",
        f"--model.encoder.init_args.model={name}",
        f"--model.encoder.init_args.{weights}",
    ]
    for words in (["--encoder", model], [f"--encoder={model}"]):
        assert expand_argv("fit", ["--config=gallery.yaml", *words])[3:] == expected


def test_names_are_the_same_in_every_command() -> None:
    words = ["--config=gallery.yaml", "--root", "data", "--gallery=g"]
    assert expand_argv("fit", words)[3:] == ["--data.root", "data", "--model.gallery=g"]
    assert expand_argv("test", ["--config=scenes.yaml", "--top-k", "2"])[3:] == ["--model.overlay.top_k", "2"]
    assert expand_argv("fit", ["--config=clip.yaml", "--top-k", "2"])[3:] == ["--top-k", "2"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("model: [unclosed\n", "own.yaml: not YAML (line 2, column 1: did not find expected ',' or ']'"),
        ("a: b: c\n", "own.yaml: not YAML (line 1, column 5: mapping values are not allowed in this context)"),
        ("- 1\n", "own.yaml: expected keys such as model, data and trainer, found list"),
        ("", "own.yaml: expected keys such as model, data and trainer, found NoneType"),
        ("hello\n", "own.yaml: expected keys such as model, data and trainer, found str"),
        ("model:\n  clas_path: x\n", "own.yaml: model: no such key clas_path; did you mean class_path?"),
        ("clas_path: x\n", "own.yaml: top level: no such key clas_path; did you mean class_path?"),
        (
            "trainer:\n  callbacks:\n    - class_path: x\n      initargs: {}\n",
            "own.yaml: trainer.callbacks.0: no such key initargs; did you mean init_args?",
        ),
        ("a: \x01\n", "own.yaml: not YAML ("),
    ],
)
def test_a_file_that_is_no_config_is_refused_with_the_position(
    text: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(text, encoding="utf-8")
    assert main(["fit", "--config", "own.yaml"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.startswith(f"naruto-vision: error: {error}")


def test_predict_folder_becomes_the_packaged_config(scenes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    monkeypatch.setattr("naruto_vision.cli.trainer_args.check_gallery", checked.append)
    argv = expand_argv("predict", [scenes, "--out", "results"])
    assert argv[:2] == ["predict", "--config"]
    assert argv[2].endswith("scenes.yaml")
    assert argv[3:] == ["--out", "results", f'--data.predict=["{scenes}"]']
    own = expand_argv("predict", [scenes, "--config=scenes.yaml"])
    assert own.count("--config") == 1
    assert checked == ["runs/gallery"]  # another config may name another gallery


def test_a_default_gallery_that_is_missing_is_told_before_torch(
    scenes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingPathError, match=r"runs/gallery: no such gallery; enrol first"):
        expand_argv("predict", [scenes])


def test_predict_takes_short_options_for_what_is_set_most_often(scenes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naruto_vision.cli.trainer_args.check_gallery", Path)
    short = ["--gallery", "g", "--threshold=0.8", "--top-k", "2", "--prefer-different-label", "--fail-fast"]
    long = [
        "--model.gallery", "g", "--model.overlay.min_score=0.8", "--model.overlay.top_k", "2",
        "--model.overlay.prefer_different_label=true", "--fail_fast=true",
    ]  # fmt: skip
    assert expand_argv("predict", [scenes, *short])[3:-1] == long
    assert expand_argv("predict", ["--config", "scenes.yaml", *short])[3:] == long
    assert expand_argv("predict", [scenes, "--model.decision=x"])[3:-1] == ["--model.decision=x"]


def test_short_options_are_distinct() -> None:
    flags, long = ({getattr(option, name) for option in SHORT_OPTIONS} for name in ("flag", "long"))
    assert len(flags) == len(long) == len(SHORT_OPTIONS)


@pytest.mark.parametrize("flag", [option.flag for option in SHORT_OPTIONS if not option.value])
def test_a_switch_takes_no_value(flag: str, scenes: str) -> None:
    with pytest.raises(InputError, match=f"{flag}=false: {flag} takes no value; omit it to disable"):
        expand_argv("predict", [scenes, f"{flag}=false"])


@pytest.mark.parametrize("form", ["--gallery={}", "--gallery {}", "--model.gallery={}", "--model.init_args.gallery {}"])
def test_a_gallery_that_is_not_there_is_told_at_once(form: str, scenes: str, tmp_path: Path) -> None:
    words = form.format(tmp_path / "gallery").split()
    with pytest.raises(MissingPathError, match="gallery: no such gallery"):
        expand_argv("predict", [scenes, *words])
    rows = [GalleryRow("a.png", "a")]
    Gallery.build(np.eye(1, 4, dtype=np.float32), rows, fingerprint="0" * 64).save(tmp_path / "gallery")
    assert expand_argv("predict", [scenes, *words])[0] == "predict"


def _gallery(folder: Path, note: dict[str, object]) -> str:
    rows = [GalleryRow("a.png", "a")]
    Gallery.build(np.eye(1, 4, dtype=np.float32), rows, fingerprint="0" * 64, note=note).save(folder)
    return str(folder)


def test_a_gallery_brings_its_encoder(scenes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = {"kind": "clip", "model": "tiny-clip", "pretrained": None}
    _gallery(tmp_path / GALLERY, {"encoder": recipe})
    option = "--model.encoder.init_args.model=tiny-clip"
    assert option in expand_argv("predict", [scenes])
    other = _gallery(tmp_path / "other", {"encoder": {**recipe, "model": "ViT-B-32", "pretrained": "w.bin"}})
    words = expand_argv("predict", [scenes, "--gallery", other])
    assert "--model.encoder.init_args.model=ViT-B-32" in words
    assert "--model.encoder.init_args.pretrained=w.bin" in words
    silent = _gallery(tmp_path / "silent", {})
    assert not any("encoder" in word for word in expand_argv("predict", [scenes, "--gallery", silent]))
    own = expand_argv("predict", [scenes, "--model.encoder.init_args.model=mine"])
    assert option not in own
    assert option not in own
    for command in ("predict", "test", "validate"):
        assert option in expand_argv(command, ["--config", "scenes.yaml"])
        assert option not in expand_argv(command, ["--config", "scenes.yaml", "--model.encoder=DinoEncoder"])
    assert option not in expand_argv("fit", ["--config", "gallery.yaml"])  # makes a new gallery
    (tmp_path / "own.yaml").write_text("model: {}\n", encoding="utf-8")
    assert option not in expand_argv("test", ["--config", "own.yaml"])
    (tmp_path / TUNED).mkdir(parents=True)
    assert f"{TUNED} is not used: enrol again" in "".join(added_notes([scenes], expand_argv("predict", [scenes])))
    assert not list(added_notes(["--encoder", "tiny-clip"], own))


def test_labelled_boxes_are_enrolled_beside_learnt_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--config", "gallery.yaml", "--data.root", "own"]
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "ayame"}, {"id": 2, "name": "kenta"}]}
    (tmp_path / "own/train").mkdir(parents=True)
    (tmp_path / "own/train/_annotations.coco.json").write_text(json.dumps(coco), encoding="utf-8")
    assert BOXES_READ not in expand_argv("fit", words)  # regions of figures are like whole images
    (tmp_path / REGIONS).mkdir(parents=True)
    (tmp_path / REGIONS / "model.json").write_text("{}", encoding="utf-8")
    assert BOXES_READ in expand_argv("fit", words)
    assert any("labelled boxes are enrolled" in note for note in added_notes(words, expand_argv("fit", words)))
    assert BOXES_READ not in expand_argv("fit", [*words, "--data.reader", "auto"])
    coco["categories"] = coco["categories"][:1]  # boxes that name nobody
    (tmp_path / "own/train/_annotations.coco.json").write_text(json.dumps(coco), encoding="utf-8")
    assert BOXES_READ not in expand_argv("fit", words)


def test_the_config_names_the_gallery_and_the_encoder_that_are_looked_for() -> None:
    model = yaml.safe_load(config_path(SCENES_CONFIG).read_text(encoding="utf-8"))["model"]["init_args"]
    assert (model["gallery"], model["encoder"]["init_args"]["model"]) == (GALLERY, AUTO)
    assert TUNED == ensemble.TUNED


def test_kinds_of_encoder_are_those_that_open() -> None:
    assert (CLIP, DINO) == ("clip", "dino")
    assert encoder_options({"encoder": {"kind": "dino", "model": "dinov2_vits14", "weights": None}}) == [
        "--model.encoder=naruto_vision.DinoEncoder",
        "--model.encoder.init_args.model=dinov2_vits14",
    ]
    assert encoder_options({"encoder": {"kind": "other", "model": "x"}}) == []
    assert encoder_options({"encoder": None}) == []


def test_another_encoder_is_told_with_the_option_that_opens_the_right_one(tmp_path: Path) -> None:
    folder = _gallery(tmp_path / "g", {"encoder": {"kind": "clip", "model": "tiny-clip", "pretrained": None}})
    segmenter = Segmenter(GridPrompter(2), SamModel(weights="tiny-sam"))
    with pytest.raises(
        FingerprintError,
        match=r"built it \(--model\.encoder=\S+ --model\.encoder\.init_args\.model=tiny-clip\), or enrol",
    ):
        SceneAnalyzer(segmenter, ClipEncoder("tiny-clip"), Gallery.open(folder))
