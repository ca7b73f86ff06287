"""Texts of classes, words and tokens, encoders opened by name, and images embedded in batches."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from naruto_vision.encoders import backbone, dino, opening
from naruto_vision.encoders.base import Encoder, embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import HUB_NAMES, DinoEncoder
from naruto_vision.encoders.lora import LoraConfig
from naruto_vision.encoders.prompts import TEMPLATES, checked_templates, class_texts, read_aliases, text_prototypes
from naruto_vision.encoders.tiny import PAD, START, TinySizes, WordTokenizer, split_words
from naruto_vision.errors import InputError
from naruto_vision.records import ImageArray

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)


class _Mean(Encoder):
    """Embeds an image as its mean colour and the colour of its left half: a mirror image gives another vector."""

    dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.batches: list[int] = []

    def preprocess(self, image: ImageArray) -> Tensor:
        return torch.from_numpy(image[:8, :8].copy()).permute(2, 0, 1).float() / 255.0

    def encode_images(self, pixels: Tensor) -> Tensor:
        self.batches.append(len(pixels))
        parts = [pixels.mean(dim=(2, 3)), pixels[..., :4].mean(dim=(2, 3))]
        return normalize(torch.cat(parts, dim=1), dim=1) * self.scale

    def describe(self) -> dict[str, Any]:
        return {"architecture": "mean"}


def _images(count: int) -> list[ImageArray]:
    return list(np.random.default_rng(0).integers(1, 255, (count, 8, 8, 3), dtype=np.uint8))


@pytest.mark.parametrize("template", ["", "a portrait", "{} and {}", "{0}", "{name}", "{{}} {}"])
def test_a_template_has_one_place_for_the_name(template: str) -> None:
    with pytest.raises(InputError, match=r"expected one \{\} for the name") as caught:
        checked_templates(["{}", template, "{}"])
    assert str(caught.value).startswith(f"template {template!r}:")


@pytest.mark.parametrize("templates", [[], ["{}"], ["{}", "art of {}", "{}'s face"], list(TEMPLATES)])
def test_good_templates_come_back_in_their_order(templates: list[str]) -> None:
    assert checked_templates(templates) == tuple(templates)


NAMES = st.text("abc d'", min_size=1, max_size=5)


@settings(max_examples=50, deadline=None)
@given(st.lists(NAMES, max_size=4), st.dictionaries(NAMES, st.lists(NAMES, max_size=3), max_size=3))
def test_texts_of_a_class_are_every_template_around_every_name_once(
    classes: list[str], aliases: dict[str, list[str]]
) -> None:
    templates = ("{}", "art of {}")
    found = class_texts(classes, aliases, templates)
    assert len(found) == len(classes)
    for name, texts in zip(classes, found, strict=True):
        everything = [own for text in (name, *aliases.get(name, [])) for own in (text, f"art of {text}")]
        assert texts[0] == name
        assert set(texts) == set(everything)
        assert len(texts) == len(set(texts))


def test_a_description_with_braces_stays_as_it_is() -> None:
    assert class_texts(["a"], {"a": ["{hair}"]}, ["{}"]) == (("a", "{hair}"),)


def test_prototypes_are_unit_rows_and_take_the_class_order() -> None:
    encoder = ClipEncoder("tiny-clip", "random", sizes=SIZES)
    texts = (("red hair", "blue hair"), ("a hat",), ("a hat", "a hat"))
    found = text_prototypes(encoder, texts)
    assert found.shape == (3, 16)
    assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(found[1], found[2], atol=1e-5)
    turned = text_prototypes(encoder, texts[::-1])
    assert torch.allclose(turned, found.flip(0), atol=1e-5)


def test_prototypes_teach_the_text_tower() -> None:
    encoder = ClipEncoder("tiny-clip", "random", sizes=SIZES)
    text_prototypes(encoder, [("red hair",), ("a hat", "a cap")])[:, 0].sum().backward()
    gradients = [value.grad for value in encoder.text_parameters()]
    assert all(gradient is not None for gradient in gradients)
    assert any(bool(gradient.any()) for gradient in gradients if gradient is not None)


def test_an_encoder_without_texts_says_so_and_quotes_the_first() -> None:
    with pytest.raises(InputError, match=r"_Mean has no text tower, so it cannot read \['a hat'\]; use a CLIP"):
        text_prototypes(_Mean(), [("a hat", "a cap"), ("b",)])


@pytest.mark.parametrize("value", [None, 3, "text", [["a"]], {"a": "b"}, {"a": [1]}, {"a": None}, {"a": ["b"], "c": 1}])
def test_other_json_is_no_list_of_aliases(tmp_path: Path, value: object) -> None:
    (tmp_path / "aliases.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"aliases\.json: expected .*; write a JSON object: class to a list of texts"):
        read_aliases(tmp_path / "aliases.json")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b'{"a": }'])
def test_what_is_no_json_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "aliases.json").write_bytes(data)
    with pytest.raises(InputError, match=r"aliases\.json: not JSON \("):
        read_aliases(tmp_path / "aliases.json")


def test_aliases_keep_their_order_and_odd_names(tmp_path: Path) -> None:
    value = {"ナルト": ["b", "a", "b"], "": [], "x y": [""]}
    (tmp_path / "aliases.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    assert read_aliases(tmp_path / "aliases.json") == {"ナルト": ("b", "a", "b"), "": (), "x y": ("",)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("...", []),
        ("A,b;C", ["a", "b", "c"]),
        ("it's 'so'", ["it's", "so"]),
        ("under_score", ["under", "score"]),
        ("ナルト 2", ["ナルト", "2"]),
        ("a'b'c", ["a'b", "c"]),
        ("line\nbreak\ttab", ["line", "break", "tab"]),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_words_are_split_no_further(text: str) -> None:
    words = split_words(text)
    assert split_words(" ".join(words)) == words
    assert all(word == word.lower() or word.lower() == word.lower().lower() for word in words)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["pink", "hair", "odd", "koba", "x"]), max_size=12), st.integers(3, 9))
def test_tokens_are_start_words_end_and_padding(words: list[str], length: int) -> None:
    tokenizer = WordTokenizer(["pink", "hair"], buckets=5, context_length=length)
    known = {"pink": 2, "hair": 3}
    ids = [known.get(word, 4 + zlib.crc32(word.encode()) % 5) for word in words][: length - 2]
    expected = [START, *ids, 9] + [PAD] * (length - 2 - len(ids))
    found = tokenizer([" ".join(words)])
    assert found.dtype == torch.int64
    assert found.tolist() == [expected]


@pytest.mark.parametrize(("buckets", "length"), [(0, 5), (-1, 5), (1, 2), (1, 0)])
def test_a_tokenizer_needs_a_bucket_and_room_for_a_word(buckets: int, length: int) -> None:
    with pytest.raises(ValueError, match=f"found {length} and {buckets}"):
        WordTokenizer(["a"], buckets=buckets, context_length=length)


def test_the_smallest_tokenizer_there_can_be() -> None:
    tokenizer = WordTokenizer([], buckets=1, context_length=3)
    assert (tokenizer.end, tokenizer.size) == (3, 4)
    assert tokenizer(["any word", ""]).tolist() == [[START, 2, 3], [START, 3, PAD]]
    assert tokenizer([]).shape == (0, 3)


def test_a_tokenizer_of_its_own_accord_takes_40_tokens_and_512_buckets() -> None:
    tokenizer = WordTokenizer(["a"])
    assert (tokenizer.context_length, tokenizer.buckets, tokenizer.end) == (40, 512, 2 + 1 + 512)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5])
@pytest.mark.parametrize("mirror", [False, True])
def test_batches_change_no_vector(count: int, mirror: bool) -> None:
    encoder, images = _Mean(), _images(count)
    found = embed_images(encoder, images, batch_size=2, mirror=mirror)
    assert found.shape == (count, 6)
    assert found.dtype == torch.float32
    passes = [min(2, count - start) for start in range(0, count, 2)]
    assert encoder.batches == [size for size in passes for _ in range(1 + mirror)]
    for number, image in enumerate(images):
        pixels = encoder.preprocess(image)[None]
        vector = encoder.encode_images(pixels)
        if mirror:
            vector = normalize(vector + encoder.encode_images(pixels.flip(-1)), dim=1)
        assert torch.allclose(found[number], vector[0], atol=1e-6)


def test_a_mirrored_image_has_the_same_vector_only_where_it_is_asked_for() -> None:
    encoder, image = _Mean(), _images(1)[0]
    pair = [image, np.ascontiguousarray(image[:, ::-1])]
    plain, mirrored = (embed_images(encoder, pair, mirror=mirror) for mirror in (False, True))
    assert not torch.allclose(plain[0], plain[1], atol=1e-4)
    assert torch.allclose(mirrored[0], mirrored[1], atol=1e-6)
    assert torch.allclose(mirrored.norm(dim=1), torch.ones(2), atol=1e-6)


def test_embedding_keeps_no_gradients() -> None:
    assert not embed_images(_Mean(), _images(2)).requires_grad


def test_an_encoder_by_itself_promises_little() -> None:
    encoder = _Mean()
    assert (encoder.has_text, encoder.arithmetic, encoder.mixes) == (False, "float32", False)
    assert encoder.preparation is None
    assert encoder.image_tower is encoder
    assert encoder.recipe == {}


def test_a_fingerprint_changes_with_a_weight() -> None:
    encoder = _Mean()
    before = encoder.fingerprint
    assert encoder.fingerprint == before == _Mean().fingerprint
    with torch.no_grad():
        encoder.scale.add_(1e-6)
    assert encoder.fingerprint != before


class _Opened(_Mean):
    """Remembers how it was opened."""

    def __init__(self, kind: str, *given: object, **options: object) -> None:
        super().__init__()
        self.told = (kind, given, options)


@pytest.fixture
def doors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for both kinds of encoder, whose weights are not here."""

    def door(kind: str) -> Any:
        return lambda *given, **options: _Opened(kind, *given, **options)

    monkeypatch.setattr(opening, "ClipEncoder", door("clip"))
    monkeypatch.setattr(dino, "DinoEncoder", door("dino"))
    monkeypatch.setattr(backbone, "TimmEncoder", door("timm"))


def _told(encoder: Encoder) -> tuple[str, Sequence[object], dict[str, object]]:
    assert isinstance(encoder, _Opened)
    assert not encoder.training
    return encoder.told


@pytest.mark.usefixtures("doors")
@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("tiny-clip", "clip"),
        ("ViT-B-32", "clip"),
        ("runs/dino-like-folder", "clip"),
        ("vit_base_patch16_224", "timm"),
        ("efficientnet-lite0", "timm"),
        ("convnext_tiny", "clip"),  # open_clip has one too
        ("vit_small_patch14_dinov2.lvd142m", "dino"),
        *((name, "dino") for name in HUB_NAMES),
    ],
)
def test_a_name_tells_the_kind_of_encoder(model: str, kind: str) -> None:
    assert _told(opening.open_encoder(model, "file.pt")) == (kind, (model, "file.pt"), {})
    assert _told(opening.open_encoder(model)) == (kind, (model, None), {})


@pytest.mark.usefixtures("doors")
def test_a_recipe_is_opened_as_it_was() -> None:
    clip = {"kind": "clip", "model": "bundle", "pretrained": None}
    assert _told(opening.open_recipe(clip)) == ("clip", ("bundle", None), {})
    assert _told(opening.open_recipe({**clip, "pretrained": "a.pt"})) == ("clip", ("bundle", "a.pt"), {})
    told = {"kind": "dino", "model": "dinov2_vits14", "weights": "w.pth", "image_size": 98, "pooling": "mean"}
    options = {"image_size": 98, "pooling": "mean"}
    assert _told(opening.open_recipe(told)) == ("dino", ("dinov2_vits14", "w.pth"), options)
    assert _told(opening.open_recipe({**told, "weights": None}))[1] == ("dinov2_vits14", None)


@pytest.mark.usefixtures("doors")
@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"kind": "sam", "model": "x", "pretrained": None},
        {"kind": "clip", "model": 3, "pretrained": None},
        {"kind": "clip", "model": "x"},
        {"kind": "clip", "model": "x", "pretrained": 1},
        {"kind": "dino", "model": "x", "weights": None, "image_size": "98", "pooling": "cls"},
        {"kind": "dino", "model": "x", "weights": None, "image_size": 98, "pooling": "max"},
        {"kind": "dino", "model": "x", "weights": None, "image_size": 98},
        {"kind": "timm", "model": "x", "weights": None, "image_size": "98", "pooling": "model"},
        {"kind": "ensemble", "members": "x", "weights": [1.0]},
    ],
)
def test_another_recipe_is_refused_and_shown(recipe: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected the recipe of an encoder, found ") as caught:
        opening.open_recipe(recipe)
    assert str(caught.value).endswith(repr(recipe))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_dino_describes_what_decides_its_vectors(pooling: Any) -> None:
    encoder = DinoEncoder("vit_tiny_patch16_224", weights="random", image_size=32, pooling=pooling)
    assert encoder.describe() == {"architecture": "vit_tiny_patch16_224", "image_size": 32, "pooling": pooling}
    assert encoder.recipe == {}
    assert encoder.image_tower is encoder.tower
    assert (encoder.preparation.size, encoder.preparation.resize_to) == (32, 37)


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [
        ("vit_tiny_patch16_224", 40, r"_224: expected an image size that is a multiple of its patch of 16, found 40$"),
        ("resnet18", 32, r"^resnet18: pooling 'cls' expected a vision transformer, found ResNet"),
        ("vit_none", 32, r"vit_none: timm has no such model; it has .*vit_"),
    ],
)
def test_a_tower_that_cannot_be_is_refused_in_one_line(model: str, size: int, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        DinoEncoder(model, weights="random", image_size=size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"rank": 0}, {"rank": -2}, {"alpha": 0.0}, {"alpha": -1.0}])
def test_low_rank_options_out_of_range_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"lora: rank .* and alpha .*: both have to be above 0"):
        LoraConfig(**options)
