"""Attributes: phrases of a vocabulary, ranked by the encoder's own text tower, joined to one description."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import naruto_vision as nv
from naruto_vision.captioning.attributes import Vocabulary, read_vocabulary
from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.bundles import bundle_path, config_path, read_bundle_info
from naruto_vision.io.machine import cpu_features
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


class Eye(Encoder):
    """Sees the mean colour of what is not grey, and reads colour words: an encoder whose answers are known."""

    dim = 3
    has_text = True

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))
        self.texts: list[str] = []

    def preprocess(self, image: np.ndarray) -> Tensor:
        seen = image.reshape(-1, 3)[(image.reshape(-1, 3) != 128).any(axis=1)].astype(np.float32)
        return torch.from_numpy(seen.mean(axis=0))[:, None, None]

    def encode_images(self, pixels: Tensor) -> Tensor:
        return torch.nn.functional.normalize(pixels[:, :, 0, 0], dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        self.texts += texts
        rows = [next((c for name, c in COLOURS.items() if name in text), (0.577, 0.577, 0.577)) for text in texts]
        return torch.tensor(rows)

    def describe(self) -> dict[str, str]:
        return {"kind": "eye"}


def drawn(*colours: tuple[int, int, int]) -> tuple[np.ndarray, list[nv.Region]]:
    image = np.full((20, 20 * len(colours), 3), 128, np.uint8)
    regions = []
    for number, colour in enumerate(colours):
        image[5:15, 20 * number + 5 : 20 * number + 15] = colour
        box = (20 * number + 5, 5, 20 * number + 14, 14)
        regions.append(nv.Region(box, np.ones((10, 10), bool)))
    return image, regions


def vocabulary(folder: Path, text: str) -> Path:
    path = folder / "words.yaml"
    path.write_text(text, encoding="utf-8")
    return path


WORDS = """
subject: a thing
margin: 0.2
groups:
  hair: {phrases: [red hair, green hair, blue hair]}
  style: {phrases: [long hair, short hair]}
  clothes: {lead: wearing, margin: 0.9, phrases: [a red coat, a green coat]}
"""


def test_each_region_gets_the_phrases_that_are_far_enough_ahead(tmp_path: Path) -> None:
    image, regions = drawn((250, 0, 0), (0, 0, 250), (90, 100, 80))
    with nv.AttributeDescriber(Eye(), vocabulary(tmp_path, WORDS)) as describer:
        red, blue, grey = describer.describe([(image, region) for region in regions])
    assert red.text == "a thing with red hair, wearing a red coat"
    assert red.parts.keys() == {"hair", "clothes"}  # no style is ahead of the other
    assert red.score == pytest.approx(1.0)
    assert blue.text == "a thing with blue hair"  # both coats are as far away
    assert grey.parts.keys() <= {"hair", "clothes"}


def test_the_margin_is_of_probabilities(tmp_path: Path) -> None:
    image, [region] = drawn((200, 190, 0))  # cosines .725 and .689 with red and green, times 100
    chance = float(torch.sigmoid(torch.tensor(100 * (200 - 190) / np.hypot(200, 190))))
    for margin, said in ((2 * chance - 1 - 0.01, True), (2 * chance - 1 + 0.01, False)):
        words = f"margin: {margin}\ngroups:\n  hair: {{phrases: [red hair, green hair]}}\n"
        [found] = nv.AttributeDescriber(Eye(), vocabulary(tmp_path, words)).describe([(image, region)])
        assert bool(found.text) == said
        assert (found.score is None) == (not said)
        if said:
            assert found.parts["hair"][1] == pytest.approx(chance, abs=1e-3)


def test_regions_of_several_images_keep_their_order(tmp_path: Path) -> None:
    first, [a, b] = drawn((250, 0, 0), (0, 250, 0))
    second, [c] = drawn((0, 0, 250))
    describer = nv.AttributeDescriber(Eye(), vocabulary(tmp_path, WORDS))
    found = describer.describe([(first, a), (second, c), (first, b)])
    assert [each.parts["hair"][0] for each in found] == ["red hair", "blue hair", "green hair"]
    assert describer.describe([]) == []


def test_phrases_become_a_sentence() -> None:
    words = read_vocabulary()
    said = {
        "person": "a girl",
        "hair colour": "pink hair",
        "hair style": "hair in a bun",
        "eyes": "green eyes",
        "clothes colour": "red clothes",
        "pattern": "striped clothes",
        "clothes": "a dress",
        "held thing": "a sword",
    }
    assert words.sentence(said) == (
        "a girl with pink hair in a bun and green eyes, wearing striped red clothes and a dress, holding a sword"
    )
    assert words.sentence({"skin": "tan skin"}) == "a figure with tan skin"
    assert words.sentence({"person": "a boy"}) == "a boy"
    assert words.sentence({}) == ""


def test_the_packaged_phrases_are_words_that_tiny_clip_has_learnt() -> None:
    known = set(read_bundle_info(bundle_path("tiny-clip"), "clip")["vocabulary"])
    phrases = [phrase for group in read_vocabulary().groups.values() for phrase in group.phrases]
    assert [phrase for phrase in phrases if not set(phrase.split()) <= known] == []


def test_the_phrases_are_embedded_once_and_freed(tmp_path: Path) -> None:
    eye = Eye()
    describer = nv.AttributeDescriber(eye, vocabulary(tmp_path, WORDS))
    image, [region] = drawn((250, 0, 0))
    for _ in range(2):
        describer.describe([(image, region)])
    assert len(eye.texts) == 7
    describer.unload()
    describer.describe([(image, region)])
    assert len(eye.texts) == 14


def test_a_named_encoder_is_freed() -> None:
    import gc
    import weakref

    def encoders() -> list[ClipEncoder]:
        return [each for each in gc.get_objects() if isinstance(each, ClipEncoder)]

    before = {id(each) for each in encoders()}
    with nv.AttributeDescriber("tiny-clip") as describer:
        assert describer.name == "attributes of tiny-clip"
        [own] = [weakref.ref(each) for each in encoders() if id(each) not in before]
    gc.collect()
    assert own() is None


def test_the_identity_changes_with_the_vocabulary(tmp_path: Path) -> None:
    first = nv.AttributeDescriber(Eye(), vocabulary(tmp_path, WORDS)).identity
    second = nv.AttributeDescriber(Eye(), vocabulary(tmp_path, WORDS.replace("0.2", "0.3"))).identity
    assert first["vocabulary"] != second["vocabulary"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("groups: {}", "at least one group"),
        ("groups: {hair: {phrases: [red hair]}}", "two or more different phrases in group 'hair'"),
        ("groups: {hair: {phrases: [red hair, red hair]}}", "two or more different phrases"),
        ("groups: {hair: {phrases: [red hair, '']}}", "two or more different phrases"),
        ("groups: {hair: {phrase: [red, blue]}}", "words.yaml: expected"),
        ("margin: 0.3", "an object with 'groups'"),
        ("groups: [", "not YAML"),
    ],
)
def test_a_wrong_vocabulary_is_refused_with_its_name(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(FormatError, match=found) as caught:
        nv.AttributeDescriber(Eye(), vocabulary(tmp_path, text))
    assert "words.yaml" in str(caught.value)


def test_a_missing_vocabulary_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match=r"naruto-vision configs attributes\.yaml --out FILE"):
        nv.AttributeDescriber(vocabulary=tmp_path / "none.yaml")


def test_an_encoder_without_texts_is_refused() -> None:
    eye = Eye()
    eye.has_text = False
    with pytest.raises(InputError, match="has no text tower to rank phrases with"):
        nv.AttributeDescriber(eye).load()


def figures(count: int) -> list[tuple[np.ndarray, nv.Region]]:
    cast, items = read_cast(config_path("cast.yaml")), []
    for seed in range(count):
        scene = draw_scene(seed, cast, size=160)
        for each in scene.objects:
            x1, y1, x2, y2 = each.box
            items.append((scene.image, nv.Region(each.box, each.mask[y1 : y2 + 1, x1 : x2 + 1])))
    return items


@pytest.mark.skipif(not cpu_features()["VNNI"], reason="int8 needs VNNI")
def test_an_encoder_in_8_bit_integers_says_the_same() -> None:
    items, encoder = figures(6), nv.ClipEncoder("tiny-clip").eval()
    plain = nv.AttributeDescriber(encoder).describe(items)
    small = nv.AttributeDescriber(nv.Int8Encoder(encoder)).describe(items)
    said = [
        (one.parts.get(group), other.parts.get(group))
        for one, other in zip(plain, small, strict=True)
        for group in one.parts
    ]
    same = sum(other is not None and one is not None and one[0] == other[0] for one, other in said)
    assert same >= 0.9 * len(said) > 0


def test_a_vocabulary_has_a_margin_for_each_group() -> None:
    words = Vocabulary(read_vocabulary().groups, margin=0.1)
    assert (words.margin_of("skin"), words.margin_of("held thing")) == (0.1, 0.6)
