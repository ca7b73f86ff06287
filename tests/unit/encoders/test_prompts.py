from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.prompts import TEMPLATES, class_texts, read_aliases, text_prototypes
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import FormatError, MissingPathError

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)


def test_texts_are_templates_around_name_and_aliases_without_doubles() -> None:
    texts = class_texts(["Koba", "Senka"], {"Koba": ["Koba", "red hair"]}, ["{}", "a portrait of {}"])
    assert texts[0] == ("Koba", "a portrait of Koba", "red hair", "a portrait of red hair")
    assert texts[1] == ("Senka", "a portrait of Senka")
    assert len(TEMPLATES) == 7


def test_a_prototype_is_the_renormalised_mean_of_its_texts() -> None:
    encoder = ClipEncoder("tiny-clip", "random", sizes=SIZES)
    texts = (("pink hair", "a girl"), ("a boy",))
    vectors = encoder.encode_texts(["pink hair", "a girl", "a boy"])
    expected = torch.stack([normalize((vectors[0] + vectors[1]) / 2, dim=0), vectors[2]])
    assert torch.allclose(text_prototypes(encoder, texts), expected, atol=1e-6)


def test_aliases_are_read_or_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "aliases.json"
    with pytest.raises(MissingPathError, match=r"aliases.json: no such aliases file"):
        read_aliases(path)
    path.write_text('{"Koba": ["Koba of the Hill"]}', encoding="utf-8")
    assert read_aliases(path) == {"Koba": ("Koba of the Hill",)}
    for broken in ("{", "[]", '{"Koba": "of the Hill"}', '{"Koba": [1]}'):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(FormatError, match=r"aliases.json"):
            read_aliases(path)
