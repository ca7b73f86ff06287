"""Texts as prompts: through a CLIP's map, and through tiny detectors of transformers from local folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaged_models import tiny_sam

import naruto_vision as nv
from naruto_vision.cli.main import main
from naruto_vision.errors import FormatError, InputError, MissingPackageError, MissingPathError, StateDictError
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import write_image
from naruto_vision.prompting.text import DetectorMode
from naruto_vision.records import ImageArray
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.captions import aliases
from naruto_vision.synthetic.scene import draw_scene

SAM = tiny_sam()
CLIP = nv.ClipEncoder("tiny-clip").eval()
TEXTS = ["a red cat", "a dog"]


def noise() -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_figures_of_drawn_scenes_are_found_by_their_descriptions() -> None:
    cast, found = read_cast(config_path("cast.yaml")), list[bool]()
    for seed in (2, 3, 4):
        drawn = draw_scene(seed, cast, size=160, difficulty="easy")
        for figure in drawn.objects:
            fused = nv.TextPrompter([aliases(figure.attributes)[0]], CLIP).compare(drawn.image).fused
            others = ~np.logical_or.reduce([each.mask for each in drawn.objects])
            found.append(bool(fused[figure.mask].mean() > fused[others].mean() + 0.05))
    assert sum(found) >= len(found) - 1


def test_texts_name_the_masks_and_compete() -> None:
    drawn = draw_scene(2, read_cast(config_path("cast.yaml")), size=160, difficulty="easy")
    texts = [aliases(figure.attributes)[0] for figure in drawn.objects]
    mode = nv.ExemplarMode(nv.TextPrompter(texts, CLIP), SAM)
    found = mode(drawn.image)
    assert found.regions
    assert {facts["label"] for facts in found.region_facts} <= set(texts)
    assert mode.identity != nv.ExemplarMode(nv.TextPrompter(texts[:1], CLIP), SAM).identity


def test_patches_are_a_finer_map_than_windows() -> None:
    windows, patches = (nv.TextPrompter(TEXTS, CLIP, map=how).features(noise()) for how in ("windows", "patches"))
    assert windows.shape == (4, 6, 192)
    assert patches.shape[:2] == (14, 18)


def test_what_cannot_be_a_text_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="at least one text"):
        nv.TextPrompter(["  "], CLIP)
    with pytest.raises(InputError, match=r"expected a CLIP .* reads no texts"):
        nv.TextPrompter(["a cat"], nv.TimmEncoder("test_vit.r160_in1k", "random"))
    ensemble = nv.EnsembleEncoder([nv.TimmEncoder("test_vit.r160_in1k", "random", image_size=64), CLIP])
    assert nv.TextPrompter(["a cat"], ensemble).encoder is CLIP


def owl(folder: Path) -> None:
    """Save an OWLv2 with random weights, which knows letters."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    letters = [chr(97 + index) for index in range(26)]
    words = ["!", "<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    text = {"vocab_size": 64, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = transformers.Owlv2Config(
        text_config=sizes | text, vision_config=sizes | {"image_size": 32, "patch_size": 16}, projection_dim=16
    )
    transformers.Owlv2ForObjectDetection(config).save_pretrained(folder)
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16, pad_token="!")  # noqa: S106 - no password
    images = transformers.Owlv2ImageProcessor(size={"height": 32, "width": 32})
    transformers.Owlv2Processor(images, tokenizer).save_pretrained(folder)


def grounding_dino(folder: Path) -> None:
    """Save a Grounding DINO with random weights, which knows a few words."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    swin = {"image_size": 64, "embed_dim": 8, "depths": [1] * 4, "num_heads": [1] * 4, "window_size": 2}
    bert = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    small = {
        f"{part}_{name}": value
        for part in ("encoder", "decoder")
        for name, value in {"layers": 2, "ffn_dim": 16, "attention_heads": 2}.items()
    }
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(**swin, out_features=["stage2", "stage3", "stage4"]),
        text_config=transformers.BertConfig(**bert, intermediate_size=16, max_position_embeddings=64),
        d_model=32,
        num_queries=8,
        max_text_len=32,
        **small,
    )
    transformers.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "red", "cat", "dog", "?"]
    tokenizer = transformers.BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    images = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    transformers.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("owl")
    owl(folder)
    return folder


def check_prompts(prompter: nv.OpenVocabularyPrompter) -> None:
    prompts = prompter(noise())
    assert prompts.boxes is not None
    assert prompts.scores is not None
    assert 0 < len(prompts.boxes) <= prompter.num_objects
    assert (prompts.boxes >= 0).all()
    assert (prompts.boxes[:, 2:] <= (63, 47)).all()
    assert (prompts.boxes[:, 2:] > prompts.boxes[:, :2]).all()
    assert set(prompts.names) <= set(TEXTS)
    assert (np.diff(prompts.scores) <= 0).all()


def test_an_owl_prompts_with_its_boxes(detector: Path) -> None:
    prompter = nv.OpenVocabularyPrompter(TEXTS, str(detector), threshold=0.0, num_objects=3)
    check_prompts(prompter)
    found = DetectorMode(prompter, SAM)(noise())
    assert {facts["label"] for facts in found.region_facts} <= set(TEXTS)
    prompter.threshold = 1.0
    assert "lower --threshold" in DetectorMode(prompter, SAM)(noise()).note


@pytest.mark.slow  # its modules take seconds to import
def test_a_grounding_dino_prompts_with_its_boxes(tmp_path: Path) -> None:
    grounding_dino(tmp_path)
    check_prompts(nv.OpenVocabularyPrompter(TEXTS, str(tmp_path), threshold=0.0, num_objects=5))


def test_a_part_of_a_text_names_the_text(detector: Path) -> None:
    prompter = nv.OpenVocabularyPrompter(TEXTS, str(detector))
    assert [prompter.text_of(phrase) for phrase in ("red", "dog", "a dog", "a", "", "a red cat. a dog.")] == [
        *("a red cat", "a dog", "a dog", "", "", "a red cat"),
    ]
    prompter.texts = ("a dog",)
    assert prompter.text_of("") == "a dog"


def test_what_is_no_detector_is_refused(detector: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="no such detector folder"):
        nv.OpenVocabularyPrompter(TEXTS, str(tmp_path / "none"))
    with pytest.raises(FormatError, match=r"expected config\.json .* found no config\.json"):
        nv.OpenVocabularyPrompter(TEXTS, str(tmp_path))
    config: dict[str, Any] = json.loads((detector / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(FormatError, match="found model_type 'bert'"):
        nv.OpenVocabularyPrompter(TEXTS, str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(FormatError, match=r"found no \*\.safetensors"):
        nv.OpenVocabularyPrompter(TEXTS, str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(FormatError, match="expected a model of transformers that detects objects by texts"):
        nv.OpenVocabularyPrompter(TEXTS, str(tmp_path))
    for file in detector.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer.json").write_bytes(b"{}")  # for which tokenizers raises no error of its own
    with pytest.raises(FormatError, match="expected a model of transformers that detects objects by texts"):
        nv.OpenVocabularyPrompter(TEXTS, str(tmp_path))
    with pytest.raises(InputError, match="expected threshold in"):
        nv.OpenVocabularyPrompter(TEXTS, str(detector), threshold=2)


def test_weights_of_another_detector_are_refused(detector: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in detector.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    state.pop(next(name for name in state if name.startswith("class_head")))
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(StateDictError, match="1 missing"):
        nv.OpenVocabularyPrompter(TEXTS, str(tmp_path))


def test_code_in_a_folder_is_not_run(detector: Path, tmp_path: Path) -> None:
    for file in detector.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModelForZeroShotObjectDetection": "evil.Model", "AutoConfig": "evil.Config"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    nv.OpenVocabularyPrompter(TEXTS, str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_without_transformers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingPackageError, match=r"naruto-vision\[sam2\]"):
        nv.OpenVocabularyPrompter(TEXTS, str(tmp_path))


def test_the_command_takes_phrases_or_a_detector(
    detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    drawn = draw_scene(2, read_cast(config_path("cast.yaml")), size=128, difficulty="easy")
    write_image("a.png", drawn.image)
    text = aliases(drawn.objects[0].attributes)[0]
    assert main(["segment", "text", "a.png", "--text", text, "--out", "one"]) == 0
    (line,) = Path("one/predictions.jsonl").read_text().splitlines()
    assert {region["label"] for region in json.loads(line)["regions"]} == {text}
    words = ["--detector", str(detector), "--threshold", "0", "--out", "two"]
    assert main(["segment", "text", "a.png", "--text", *TEXTS, *words]) == 0
    (line,) = Path("two/predictions.jsonl").read_text().splitlines()
    assert {region["label"] for region in json.loads(line)["regions"]} <= set(TEXTS)
    capsys.readouterr()
    assert main(["segment", "text", "a.png", "--text", "a cat", "--detector", "nowhere", "--out", "three"]) == 2
    assert "nowhere: no such detector folder" in capsys.readouterr().err
    map_options = ["--similarity", "0.6", "--merge", "--background", "a dog"]
    words = ["a.png", "--text", "a cat", "--detector", str(detector), "--out", "four"]
    assert main(["segment", "text", *words, *map_options]) == 2
    assert "--background, --similarity, --merge: for the map of a CLIP" in capsys.readouterr().err
    for option, fits in {"--threshold": "--detector DIR", "--detection": "--fusion KIND"}.items():
        assert main(["segment", "text", "a.png", "--text", "a cat", option, "0.5", "--out", "four"]) == 2
        assert f"{option}: is for {fits}; without it give --similarity" in capsys.readouterr().err
