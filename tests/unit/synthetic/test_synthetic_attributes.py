"""Attributes of synthetic characters, and the cast file."""

import hashlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from naruto_vision.errors import FormatError, MissingPathError
from naruto_vision.io.bundles import config_path
from naruto_vision.synthetic.attributes import CHOICES, WHOLE, Attributes, Cast, random_attributes, read_cast


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


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


def _who(seed: int = 0, **changes: str) -> Attributes:
    return replace(random_attributes(_rng(seed)), **changes)  # type: ignore[arg-type]  # the constructor checks


def test_unknowns_are_drawn_by_the_rules_of_clothes() -> None:
    rng = _rng(2)
    crowd = [random_attributes(rng) for _ in range(500)]
    for who in crowd:
        assert (who.bottom == "none") == (who.top in WHOLE)
        if who.person == "boy":
            assert who.top != "dress"
            assert who.bottom != "skirt"
    for name, values in CHOICES.items():
        assert {getattr(who, name) for who in crowd} == set(values), name
    assert 0.4 < np.mean([who.pattern == "plain" for who in crowd]) < 0.7


@pytest.mark.parametrize(("changed", "alike"), [(0, True), (1, True), (2, False), (3, False), (4, False)])
def test_two_characters_resemble_each_other_by_three_of_four(changed: int, alike: bool) -> None:
    one = _who(8, hair_colour="red", hair_style="long", top="shirt", top_colour="red", bottom="pants")
    new = {"hair_colour": "blue", "hair_style": "bob", "top": "vest", "top_colour": "black"}
    other = replace(one, **dict(list(new.items())[:changed]))  # type: ignore[arg-type]  # the constructor checks
    assert one.resembles(other) == other.resembles(one) == alike


@pytest.fixture(scope="module")
def cast() -> Cast:
    return read_cast(config_path("cast.yaml"))


def test_unknowns_are_the_same_on_every_machine() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    words = repr([random_attributes(rng) for _ in range(20)])
    assert hashlib.sha256(words.encode()).hexdigest()[:16] == "40c6480f6ef75832"


def test_attributes_refuse_what_cannot_be_drawn() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    who = random_attributes(rng)
    with pytest.raises(ValueError, match=r"hair_colour: expected one of .*, found 'mauve'"):
        replace(who, hair_colour="mauve")
    with pytest.raises(ValueError, match="bottom: expected none with a dress or robe"):
        replace(who, top="dress", bottom="pants")
    with pytest.raises(ValueError, match="bottom"):
        replace(who, top="shirt", bottom="none")


def test_unknowns_avoid_the_given_characters() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    model = random_attributes(rng)
    near = replace(model, eye_colour="red" if model.eye_colour != "red" else "blue")
    far = replace(
        model,
        hair_colour="red" if model.hair_colour != "red" else "blue",
        top_colour="gray" if model.top_colour != "gray" else "black",
    )
    assert near.resembles(model)
    assert not far.resembles(model)
    crowd: list[Attributes] = [random_attributes(rng) for _ in range(150)]
    for _ in range(40):
        unknown = random_attributes(rng, avoid=crowd)
        assert not any(unknown.resembles(one) for one in crowd)
