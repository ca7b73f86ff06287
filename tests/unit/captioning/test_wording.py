"""One wording for what is said alike."""

import pytest

from naruto_vision.captioning.wording import same_wording


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("A girl with pink hair.", "the girl, pink hair"),
        ("a grey hat", "gray hats"),
        ("a boy in a red coat and a blue hat", "a boy with a blue hat and a red coat"),
    ],
)
def test_alike_descriptions_get_the_wording_of_the_first(first: str, second: str) -> None:
    assert same_wording([first, "a dog", second]) == [first, "a dog", first]


def test_the_most_frequent_wording_wins() -> None:
    assert same_wording(["The dog.", "a dog", "a dog"]) == ["a dog"] * 3


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a red hat and a blue coat", "a blue hat and a red coat"),
        ("a boy left of a girl", "a girl left of a boy"),
        ("pink hair", "pink hat"),
        ("a glass", "glasses of milk"),
    ],
)
def test_different_things_keep_their_words(first: str, second: str) -> None:
    assert same_wording([first, second]) == [first, second]


def test_empty_descriptions_stay_empty() -> None:
    assert same_wording(["", "the", "", "."]) == ["", "the", "", "."]
