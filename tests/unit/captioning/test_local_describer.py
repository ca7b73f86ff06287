"""Local models of transformers: tiny ones with random weights, saved and opened as published ones are."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import naruto_vision as nv
from naruto_vision.errors import FormatError, MissingPackageError, MissingPathError, StateDictError

pytestmark = pytest.mark.slow  # transformers takes seconds to import

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
REGIONS = [nv.Region((x, 4, x + 19, 33), np.ones((30, 20), bool)) for x in (0, 12, 31)]
ITEMS = [(IMAGE, region) for region in REGIONS]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "girl", "with", "pink", "hair", "<image>"]
SMALL: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
EYE: dict[str, Any] = {**SMALL, "image_size": 16, "patch_size": 8}


def tokenizer() -> Any:
    """Return a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "[CLS]", "eos_token": "[SEP]"}
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, names["unk_token"]))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens(["<image>"])
    return transformers().PreTrainedTokenizerFast(tokenizer_object=words, **names)


def transformers() -> Any:
    return importlib.import_module("transformers")


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that captions without a question."""
    hf, folder = transformers(), tmp_path_factory.mktemp("models") / "blip"
    words = {**SMALL, "encoder_hidden_size": 16, "vocab_size": len(WORDS), "max_position_embeddings": 32}
    ends = {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    torch.manual_seed(3)
    config = hf.BlipConfig(text_config={**words, **ends}, vision_config=EYE, projection_dim=8)
    hf.BlipForConditionalGeneration(config).save_pretrained(folder)
    images = hf.BlipImageProcessor(size={"height": 16, "width": 16})
    hf.BlipProcessor(images, tokenizer()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers questions in its own chat form."""
    hf, folder = transformers(), tmp_path_factory.mktemp("models") / "llava"
    eye, mind = hf.CLIPVisionConfig(**EYE, projection_dim=8), hf.LlamaConfig(**SMALL, vocab_size=len(WORDS))
    torch.manual_seed(6)
    config = hf.LlavaConfig(vision_config=eye, text_config=mind, image_token_index=10, vision_feature_layer=-1)
    model = hf.LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 3, 0
    model.save_pretrained(folder)
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{{ '<image> ' if c['type'] == 'image' else c['text'] }}"
    )
    processor = hf.LlavaProcessor(
        hf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template + "{% endfor %}{% endfor %}",
    )
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["blip", "llava"])
def test_a_local_model_describes_in_batches_as_one_by_one(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    with nv.TransformersDescriber(folder, max_tokens=5, batch_size=2, device="cpu") as describer:
        together = describer.describe(ITEMS)
        alone = [describer.describe([item])[0] for item in ITEMS]
        assert describer.name == kind
        assert json.dumps(dict(describer.identity))
    assert [each.text for each in together] == [each.text for each in alone]
    for one, other in zip(together, alone, strict=True):
        assert set(one.text.split()) <= set(WORDS)
        assert (one.score is None) == (one.text == "")
        if one.score is not None and other.score is not None:
            assert one.score == pytest.approx(other.score, rel=1e-3)
            assert 0 < one.score <= 1
    assert any(each.text for each in together)


def test_the_answer_is_greedy_and_its_score_the_mean_probability_of_the_words(llava: Path) -> None:
    with nv.TransformersDescriber(llava, question="a girl", max_tokens=3, device="cpu") as describer:
        [found] = describer.describe(ITEMS[:1])
    model = transformers().LlavaForConditionalGeneration.from_pretrained(llava).eval()
    processor = transformers().LlavaProcessor.from_pretrained(llava)
    crop = np.full((46, 36, 3), 255, np.uint8)  # the cut-out with a border of 8 white pixels
    crop[8:38, 8:28] = IMAGE[4:34, 0:20]
    ids = processor(images=crop, text="<image> a girl", return_tensors="pt")
    chances, words = [], []
    for _ in range(3):  # the plain definition, without a cache
        with torch.no_grad():
            row = model(**ids).logits[0, -1].softmax(-1)
        word = int(row.argmax())
        if word == 3:
            break
        chances.append(float(row[word]))
        words.append(word)
        ids["input_ids"] = torch.cat([ids["input_ids"], torch.tensor([[word]])], dim=1)
        ids["attention_mask"] = torch.ones_like(ids["input_ids"])
        ids.pop("token_type_ids", None)
    assert found.text == processor.decode(words, skip_special_tokens=True)
    assert found.score == pytest.approx(np.exp(np.mean(np.log(chances))), rel=1e-3)


def test_the_model_is_loaded_when_needed_and_freed(blip: Path) -> None:
    import gc
    import weakref

    describer = nv.TransformersDescriber(blip, max_tokens=2, device="cpu")
    describer.describe(ITEMS[:1])
    models = [weakref.ref(each) for each in gc.get_objects() if type(each).__name__ == "BlipForConditionalGeneration"]
    assert len(models) == 1
    describer.unload()
    assert models[0]() is None
    assert len(describer.describe(ITEMS[:1])) == 1  # loaded again


def test_weights_that_are_missing_are_refused_not_made_up(blip: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "half"
    folder.mkdir()
    for path in blip.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    state = load_file(folder / "model.safetensors")
    state.pop("text_decoder.bert.embeddings.word_embeddings.weight", None)
    lost = next(name for name in sorted(state) if "query.weight" in name)
    del state[lost]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StateDictError, match=r"half: not weights of BlipForConditionalGeneration: .*query\.weight"):
        nv.TransformersDescriber(folder).load()


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("model.safetensors", b"\x00" * 40, "expected a model of transformers"),
        ("tokenizer.json", b"{}", "expected a model of transformers"),
        ("config.json", b'{"model_type": "bert"}', "expected a model of transformers"),
        (
            "config.json",
            b'{"model_type": "x", "auto_map": {"AutoModelForImageTextToText": "code.Model"}}',
            "without code",
        ),
    ],
    ids=["weights", "tokenizer", "another kind", "code"],
)
def test_a_folder_of_somebody_else_is_refused_in_one_line(
    blip: Path, tmp_path: Path, name: str, content: bytes, found: str
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for path in blip.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / name).write_bytes(content)
    ran = tmp_path / "ran"
    (folder / "code.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Model: pass\n", encoding="utf-8")
    with pytest.raises(FormatError, match=found) as caught:
        nv.TransformersDescriber(folder).load()
    assert "\n" not in str(caught.value)
    assert not ran.exists()


def test_pickled_weights_are_not_read(blip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    for path in blip.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(FormatError, match="safetensors"):
        nv.TransformersDescriber(folder).load()


def test_a_missing_folder_or_package_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingPathError, match="give the folder of a transformers model"):
        nv.TransformersDescriber(tmp_path / "none")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=r"naruto-vision\[sam2\]"):
        nv.TransformersDescriber(tmp_path)
