"""What a new user of ``predict`` meets first: its short options, and mistakes told of before torch is there."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from naruto_vision.cli.main import main
from naruto_vision.cli.short_options import SHORT, check_options, lengthened, short_help
from naruto_vision.cli.trainer import NarutoCLI
from naruto_vision.cli.trainer_args import BUNDLE, GALLERY, SCENES_CONFIG, arrange_words, run
from naruto_vision.encoders.clip import KIND as CLIP
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import KIND as DINO
from naruto_vision.errors import FingerprintError, InputError, MissingPathError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.info import encoder_options
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import write_image
from naruto_vision.recognition.analyzer import SceneAnalyzer
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.sam import SamModel


@pytest.fixture
def scenes(tmp_path: Path) -> str:
    write_image(tmp_path / "scenes" / "a.png", np.zeros((8, 8, 3), np.uint8))
    return str(tmp_path / "scenes")


def test_help_of_predict_begins_with_the_short_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("usage: naruto-vision predict DIR")
    shown = told[: told.index("--trainer.accelerator")]
    assert [option.flag for option in SHORT if option.flag not in shown] == []
    assert main(["fit", "--help"]) == 0
    assert "predict DIR [options]" not in capsys.readouterr().out


def test_help_of_another_release_still_has_the_short_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("naruto_vision.cli.trainer_args.help_of", lambda *_words: None)
    monkeypatch.setattr("naruto_vision.cli.trainer_args.run_trainer", lambda _words, **_options: 0)
    assert run("predict", ["-h"]) == 0
    assert capsys.readouterr().out == short_help()


def test_the_trainer_knows_what_every_short_option_stands_for(scenes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_cli: object) -> None:
        raise InputError("understood")

    monkeypatch.setattr(NarutoCLI, "before_instantiate_classes", stop)
    monkeypatch.setattr("naruto_vision.cli.trainer_args.check_gallery", Path)
    values = {
        "--gallery": "g",
        "--threshold": "0.5",
        "--decision": "top1",
        "--mask-precision": "bfloat16",
        "--mask-compile": "all",
    }
    words = [
        word for option in SHORT for word in (option.flag, values.get(option.flag, "3")) if option.value or word != "3"
    ]
    with pytest.raises(InputError, match=r"^understood$"):
        run("predict", [scenes, *words])


@pytest.mark.parametrize(
    ("command", "word", "hint"),
    [
        ("predict", "--gallary", "did you mean --gallery?"),
        ("predict", "--treshold=0.5", "did you mean --threshold?"),
        ("predict", "--top_k", "did you mean --top-k?"),
        ("predict", "--zzz", "see `naruto-vision predict --help`"),
        ("fit", "--confg", "did you mean --config?"),
        ("fit", "--gallery", "see `naruto-vision fit --help`"),
    ],
)
def test_a_misspelt_option_is_told_with_what_is_near(command: str, word: str, hint: str) -> None:
    with pytest.raises(InputError, match=f"unrecognized arguments: {word.partition('=')[0]}; ") as caught:
        check_options(command, ["--config", "a.yaml", word, "1"])
    assert str(caught.value).endswith(hint)


def test_known_options_keys_and_values_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "--config",
        "a.yaml",
        "--ckpt_path=last",
        "--trainer.max_epochs",
        "-1",
        "--model.no_such",
        "--print_config",
    ]
    check_options("fit", words)
    check_options("predict", ["--fail-fast", "--fail_fast=false", "--out", "x", "--data+=y"])
    monkeypatch.setattr("naruto_vision.cli.short_options.read_help", lambda _command: None)
    check_options("fit", ["--of-another-release"])


def test_short_options_hold_with_a_config_too(scenes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naruto_vision.cli.trainer_args.check_gallery", Path)
    assert arrange_words("predict", ["--config", "scenes.yaml", "--top-k", "2"])[-2:] == [
        "--model.overlay.top_k",
        "2",
    ]
    assert "--model.overlay.top_k=2" in arrange_words("predict", [scenes, "--top-k=2"])


def test_a_switch_takes_no_value() -> None:
    with pytest.raises(InputError, match="--fail-fast takes no value"):
        lengthened(["--fail-fast=false"])


@pytest.mark.parametrize("form", ["--gallery={}", "--gallery {}", "--model.gallery={}", "--model.init_args.gallery {}"])
def test_a_gallery_that_is_not_there_is_told_at_once(form: str, scenes: str, tmp_path: Path) -> None:
    words = form.format(tmp_path / "gallery").split()
    with pytest.raises(MissingPathError, match="gallery: no such gallery"):
        arrange_words("predict", [scenes, *words])
    rows = [GalleryRow("a.png", "a")]
    Gallery.build(np.eye(1, 4, dtype=np.float32), rows, fingerprint="0" * 64).save(tmp_path / "gallery")
    assert arrange_words("predict", [scenes, *words])[0] == "predict"


def _gallery(folder: Path, note: dict[str, object]) -> str:
    rows = [GalleryRow("a.png", "a")]
    Gallery.build(np.eye(1, 4, dtype=np.float32), rows, fingerprint="0" * 64, note=note).save(folder)
    return str(folder)


def test_a_gallery_brings_its_encoder_where_nothing_was_tuned(
    scenes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = {"kind": "clip", "model": "tiny-clip", "pretrained": None}
    _gallery(tmp_path / GALLERY, {"encoder": recipe})
    option = "--model.encoder.init_args.model=tiny-clip"
    assert option in arrange_words("predict", [scenes])
    other = _gallery(tmp_path / "other", {"encoder": {**recipe, "model": "ViT-B-32", "pretrained": "w.bin"}})
    words = arrange_words("predict", [scenes, "--gallery", other])
    assert "--model.encoder.init_args.model=ViT-B-32" in words
    assert "--model.encoder.init_args.pretrained=w.bin" in words
    silent = _gallery(tmp_path / "silent", {})
    assert not any("encoder" in word for word in arrange_words("predict", [scenes, "--gallery", silent]))
    own = arrange_words("predict", [scenes, "--model.encoder.init_args.model=mine"])
    assert option not in own
    assert option not in arrange_words("predict", [scenes, "--config", "scenes.yaml"])
    (tmp_path / BUNDLE).mkdir(parents=True)
    assert option not in arrange_words("predict", [scenes])


def test_the_config_names_the_gallery_and_the_encoder_that_are_looked_for() -> None:
    model = yaml.safe_load(config_path(SCENES_CONFIG).read_text(encoding="utf-8"))["model"]["init_args"]
    assert (model["gallery"], model["encoder"]["init_args"]["model"]) == (GALLERY, BUNDLE)


def test_kinds_of_encoder_are_those_that_open() -> None:
    assert (CLIP, DINO) == ("clip", "dino")
    assert encoder_options({"encoder": {"kind": "dino", "model": "dinov2_vits14", "weights": None}}) == [
        "--model.encoder=naruto_vision.encoders.dino.DinoEncoder",
        "--model.encoder.init_args.model=dinov2_vits14",
    ]
    assert encoder_options({"encoder": {"kind": "other", "model": "x"}}) == []
    assert encoder_options({"encoder": None}) == []


def test_another_encoder_is_told_with_the_option_that_opens_the_right_one(tmp_path: Path) -> None:
    folder = _gallery(tmp_path / "g", {"encoder": {"kind": "clip", "model": "tiny-clip", "pretrained": None}})
    segmenter = Segmenter(GridPrompter(2), SamModel(weights="tiny-sam"))
    with pytest.raises(FingerprintError, match=r"built it \(--model\.encoder\.init_args\.model=tiny-clip\), or enrol"):
        SceneAnalyzer(segmenter, ClipEncoder("tiny-clip"), Gallery.open(folder))
