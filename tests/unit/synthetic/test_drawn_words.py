"""Captions, and the cast file."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml

from naruto_vision.errors import FormatError, MissingPathError
from naruto_vision.io.bundles import config_path
from naruto_vision.synthetic.attributes import Cast, random_attributes, read_cast
from naruto_vision.synthetic.captions import VOCABULARY, aliases, caption, full_caption


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_vocabulary_holds_every_word() -> None:
    rng, used = _rng(), set()
    for _ in range(6000):
        who = random_attributes(rng)
        used |= set(caption(who, rng).split()) | set(full_caption(who).split())
    assert used <= set(VOCABULARY)
    assert set(VOCABULARY) - used <= {"plain", "sleeveless"}  # words of the lists that only queries use
    assert list(VOCABULARY) == sorted(set(VOCABULARY))
    assert len(VOCABULARY) <= 200


def test_captions_are_true_of_the_character() -> None:
    rng = _rng(1)
    for _ in range(300):
        who = random_attributes(rng)
        text = full_caption(who)
        for value in (who.person, who.hair_colour, who.hair_style, who.top, who.top_colour, who.eye_colour, who.skin):
            assert value in text
        words = caption(who, rng).split()
        assert not {"girl", "boy"} & set(words) - {who.person}
        assert "a" not in words or all(words[k + 1][0] not in "aeiou" for k, w in enumerate(words) if w == "a")
        assert text == full_caption(who)


def test_captions_vary() -> None:
    who, rng = random_attributes(_rng()), _rng(5)
    assert len({caption(who, rng) for _ in range(100)}) > 30


def test_aliases_tell_the_cast_apart_without_their_names() -> None:
    cast = read_cast(config_path("cast.yaml"))
    texts = {name: aliases(who) for name, who in cast.members.items()}
    flat = [text for some in texts.values() for text in some]
    assert len(set(flat)) == len(flat)
    assert not any(name.lower() in text for name in cast.names for text in flat)


def test_the_packaged_cast_shares_colours_in_pairs() -> None:
    cast = read_cast(config_path("cast.yaml"))
    assert len(cast) == 8
    for one, other in zip(cast.attributes[::2], cast.attributes[1::2], strict=True):
        assert (one.hair_colour, one.top_colour) == (other.hair_colour, other.top_colour)
        assert not one.resembles(other)


def _write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_a_cast_file_reads_back(tmp_path: Path) -> None:
    who = random_attributes(_rng())
    cast = read_cast(_write(tmp_path / "cast.yaml", {"Anna": asdict(who)}))
    assert cast == Cast({"Anna": who})
    assert cast.names == ("Anna",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hair_colour": "mauve"}, r"attributes of Anna.*hair_colour.*'mauve'"),
        ({"hat": "tall"}, r"every attribute of Anna once, found also hat"),
        ({"bottom": "none", "top": "shirt"}, r"bottom"),
    ],
)
def test_a_wrong_cast_says_what_is_wrong(tmp_path: Path, change: dict[str, str], message: str) -> None:
    content = {"Anna": {**asdict(random_attributes(_rng())), **change}}
    with pytest.raises(FormatError, match=message):
        read_cast(_write(tmp_path / "cast.yaml", content))


@pytest.mark.parametrize("content", ["", "[1, 2]", "Anna: 5", "a: [", "Anna:\n  person: girl\n"])
def test_a_file_that_is_no_cast_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(FormatError, match=r"cast\.yaml"):
        read_cast(_write(tmp_path / "cast.yaml", content))


def test_twins_and_missing_files_are_refused(tmp_path: Path) -> None:
    who = asdict(random_attributes(_rng()))
    with pytest.raises(FormatError, match="equal attributes"):
        read_cast(_write(tmp_path / "cast.yaml", {"Anna": who, "Bea": who}))
    with pytest.raises(MissingPathError, match="no such cast file"):
        read_cast(tmp_path / "none.yaml")
