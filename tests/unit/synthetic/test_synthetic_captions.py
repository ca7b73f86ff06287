"""Captions and phrases of synthetic characters: plain words, each true of exactly the right characters."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from naruto_vision.io.bundles import config_path
from naruto_vision.synthetic.attributes import CHOICES, WHOLE, Attributes, random_attributes, read_cast
from naruto_vision.synthetic.captions import (
    PHRASE_ATTRIBUTES,
    PHRASES,
    VOCABULARY,
    aliases,
    bottom_words,
    caption,
    full_caption,
    hair_words,
    phrase_truths,
    top_words,
)

_WHO = Attributes(
    person="girl",
    hair_colour="pink",
    hair_style="short",
    eye_colour="green",
    skin="tan",
    face_mark="none",
    head_wear="none",
    top="shirt",
    top_colour="red",
    pattern="plain",
    sleeves="short",
    bottom="pants",
    bottom_colour="blue",
    accent="yellow",
    held="none",
    extra="none",
)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _with(**changes: str) -> Attributes:
    return replace(_WHO, **changes)  # type: ignore[arg-type]  # the constructor checks the values


def _true_phrases(who: Attributes) -> dict[str, str]:
    truths = phrase_truths(who)
    return {PHRASE_ATTRIBUTES[k]: PHRASES[k] for k in np.flatnonzero(truths)}


def test_every_phrase_says_one_thing_of_one_attribute() -> None:
    assert len(PHRASES) == len(PHRASE_ATTRIBUTES)
    assert all(PHRASES)
    places = Counter(zip(PHRASE_ATTRIBUTES, PHRASES, strict=True))
    assert max(places.values()) == 1
    assert set(PHRASE_ATTRIBUTES) == set(CHOICES) - {"accent", "bottom_colour"}


def test_phrases_are_grouped_in_the_order_of_the_attributes() -> None:
    order = [list(CHOICES).index(name) for name in PHRASE_ATTRIBUTES]
    assert order == sorted(order)


@pytest.mark.parametrize("name", sorted(set(CHOICES) - {"accent", "bottom_colour"}))
def test_every_value_that_can_be_said_has_its_phrase(name: str) -> None:
    unsaid = {"sleeves": 0, "pattern": 1, "person": 0}.get(name, "none" in CHOICES[name])
    assert PHRASE_ATTRIBUTES.count(name) == len(CHOICES[name]) - int(unsaid)


@pytest.mark.parametrize(
    ("name", "value", "phrase"),
    [
        ("person", "girl", "a girl"),
        ("hair_colour", "blond", "blond hair"),
        ("hair_style", "spiky", "spiky hair"),
        ("hair_style", "bun", "hair in a bun"),
        ("hair_style", "ponytail", "hair in a ponytail"),
        ("eye_colour", "red", "red eyes"),
        ("skin", "dark", "dark skin"),
        ("face_mark", "whiskers", "whiskers"),
        ("face_mark", "eyepatch", "an eyepatch"),
        ("face_mark", "glasses", "glasses"),
        ("head_wear", "bow", "a bow"),
        ("head_wear", "ears", "cat ears"),
        ("head_wear", "hat", "a witch hat"),
        ("top", "hoodie", "a hoodie"),
        ("top", "armor", "armor"),
        ("top_colour", "orange", "orange clothes"),
        ("pattern", "dotted", "dotted clothes"),
        ("sleeves", "none", "sleeveless"),
        ("sleeves", "long", "long sleeves"),
        ("held", "umbrella", "an umbrella"),
        ("held", "sword", "a sword"),
        ("extra", "cape", "a cape"),
        ("extra", "wings", "wings"),
    ],
)
def test_phrases_are_what_people_would_say(name: str, value: str, phrase: str) -> None:
    assert _true_phrases(_with(**{name: value}))[name] == phrase


def test_what_is_not_there_is_not_said() -> None:
    said = _true_phrases(_WHO)
    assert set(said) == {
        "person", "hair_colour", "hair_style", "eye_colour", "skin", "top", "top_colour", "sleeves", "bottom",
    }  # fmt: skip
    assert _true_phrases(_with(top="dress", bottom="none"))["top"] == "a dress"
    assert "bottom" not in _true_phrases(_with(top="dress", bottom="none"))


def test_changing_one_attribute_changes_its_phrases_only() -> None:
    before, after = phrase_truths(_WHO), phrase_truths(_with(eye_colour="blue"))
    assert {PHRASE_ATTRIBUTES[k] for k in np.flatnonzero(before != after)} == {"eye_colour"}
    assert (phrase_truths(_with(accent="black")) == before).all()
    assert (phrase_truths(_with(bottom_colour="black")) == before).all()


@pytest.mark.parametrize(
    ("style", "words"),
    [
        ("short", "short pink hair"),
        ("spiky", "spiky pink hair"),
        ("long", "long pink hair"),
        ("curly", "curly pink hair"),
        ("bob", "pink bob hair"),
        ("bun", "pink hair in a bun"),
        ("braid", "pink braid hair"),
        ("mohawk", "pink mohawk hair"),
        ("pigtails", "pink hair in pigtails"),
        ("ponytail", "pink hair in a ponytail"),
    ],
)
def test_hair_words(style: str, words: str) -> None:
    assert hair_words(_with(hair_style=style)) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "a red shirt"),
        ({"top_colour": "orange"}, "an orange shirt"),
        ({"pattern": "striped"}, "a red striped shirt"),
        ({"top_colour": "orange", "pattern": "star", "top": "vest"}, "an orange star vest"),
        ({"pattern": "dotted", "top": "robe", "bottom": "none"}, "a red dotted robe"),
    ],
)
def test_top_words(changes: dict[str, str], words: str) -> None:
    assert top_words(_with(**changes)) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "blue pants"),
        ({"bottom": "shorts"}, "blue shorts"),
        ({"bottom": "skirt"}, "a blue skirt"),
        ({"bottom": "skirt", "bottom_colour": "orange"}, "an orange skirt"),
        ({"bottom": "none", "top": "dress"}, ""),
    ],
)
def test_bottom_words(changes: dict[str, str], words: str) -> None:
    assert bottom_words(_with(**changes)) == words


def test_a_full_caption_word_by_word() -> None:
    plain = "a girl with short pink hair in a red shirt and blue pants with green eyes and tan skin and short sleeves"
    assert full_caption(_WHO) == plain
    rich = _with(
        person="boy", face_mark="scar", head_wear="cap", extra="scarf", held="umbrella", accent="orange",
        sleeves="none", top="robe", bottom="none", hair_style="bun",
    )  # fmt: skip
    assert full_caption(rich) == (
        "a boy with pink hair in a bun in a red robe with green eyes and tan skin and a scar and an orange cap "
        "and an orange scarf and an umbrella"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"extra": "tail"}, " and a tail and "),
        ({"extra": "wings"}, " and wings and "),
        ({"extra": "cape"}, " and a yellow cape and "),
        ({"head_wear": "horns"}, " and horns and "),
        ({"head_wear": "ears"}, " and cat ears and "),
        ({"head_wear": "hat"}, " and a yellow witch hat and "),
        ({"head_wear": "headband", "accent": "orange"}, " and an orange headband and "),
        ({"face_mark": "stripes"}, " and face stripes and "),
        ({"held": "balloon"}, " and a balloon and "),
        ({"sleeves": "long"}, " and long sleeves"),
    ],
)
def test_details_are_said_in_plain_words(changes: dict[str, str], words: str) -> None:
    assert words in full_caption(_with(**changes))


def test_sleeves_that_are_not_there_are_not_said_in_captions() -> None:
    assert "sleeve" not in full_caption(_with(sleeves="none"))


def test_captions_are_lower_case_words_of_the_vocabulary_and_of_many_shapes() -> None:
    rng, who = _rng(3), _with(bottom="skirt", held="ball", extra="cape")
    texts = {caption(who, rng) for _ in range(300)}
    assert all(set(text.split()) <= set(VOCABULARY) for text in texts)
    assert all(text == text.strip() and "  " not in text for text in texts)
    for some in ("short pink hair", "a red shirt", full_caption(who)):
        assert some in texts
    assert any(text.startswith("a drawing of a girl") for text in texts)
    assert any(" wearing a red shirt and a blue skirt with " in text for text in texts)


def test_equal_generators_give_equal_captions() -> None:
    assert [caption(_WHO, _rng(9)) for _ in range(2)] == [caption(_WHO, _rng(9))] * 2


@pytest.mark.parametrize("top", ["shirt", *WHOLE])
def test_aliases_go_from_short_to_full_without_repeats(top: str) -> None:
    who = _with(top=top, bottom="none" if top in WHOLE else "pants")
    texts = aliases(who)
    assert len(texts) == len(set(texts)) == (3 if top in WHOLE else 4)
    assert texts[0] == f"a girl with short pink hair in a red {top}"
    assert texts[-1] == full_caption(who)
    assert all("blue pants" in text for text in (texts[1], texts[-1])) == (top == "shirt")
    assert list(map(len, texts))[-1] == max(map(len, texts))
    assert any("green eyes and tan skin" in text and " in a red" not in text for text in texts)


def test_vocabulary_holds_every_word() -> None:
    rng, used = _rng(), set()
    for _ in range(3000):
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


def test_aliases_tell_the_cast_apart_without_their_names() -> None:
    cast = read_cast(config_path("cast.yaml"))
    texts = {name: aliases(who) for name, who in cast.members.items()}
    flat = [text for some in texts.values() for text in some]
    assert len(set(flat)) == len(flat)
    assert not any(name.lower() in text for name in cast.names for text in flat)
