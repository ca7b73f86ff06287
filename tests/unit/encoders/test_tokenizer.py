import pytest
from hypothesis import given
from hypothesis import strategies as st

from naruto_vision.encoders.tiny import PAD, START, WordTokenizer, split_words


def _tokenizer() -> WordTokenizer:
    return WordTokenizer(["hair", "pink", "short"], buckets=8, context_length=7)


def test_known_words_have_ids_of_their_own_whatever_their_case() -> None:
    assert _tokenizer()(["Short, PINK hair!"]).tolist() == [[START, 4, 3, 2, 13, PAD, PAD]]


@given(st.lists(st.text(max_size=40), max_size=4))
def test_the_end_token_is_the_highest_of_every_text(texts: list[str]) -> None:
    tokenizer = _tokenizer()
    tokens = tokenizer(texts)
    assert tokens.shape == (len(texts), 7)
    for row in tokens.tolist():
        assert max(row) == tokenizer.end == tokenizer.size - 1
        assert row.count(tokenizer.end) == 1
        after = row[row.index(tokenizer.end) + 1 :]
        assert set(after) <= {PAD}


def test_unseen_words_are_the_same_learnable_token_on_every_machine() -> None:
    tokenizer = _tokenizer()
    assert [tokenizer.word_id(word) for word in ("senka", "lirien")] == [8, 8]  # by CRC-32, which is fixed
    assert 5 <= tokenizer.word_id("miru") < tokenizer.end


def test_long_texts_are_cut_and_keep_their_end() -> None:
    tokenizer = _tokenizer()
    assert tokenizer(["pink " * 30]).tolist() == [[START, 3, 3, 3, 3, 3, tokenizer.end]]


def test_words_keep_their_apostrophes_and_letters() -> None:
    assert split_words("Koba's  élan_vital, 2nd") == ["koba's", "élan", "vital", "2nd"]


def test_doubles_and_too_little_room_are_refused() -> None:
    with pytest.raises(ValueError, match="duplicates"):
        WordTokenizer(["a", "a"])
    with pytest.raises(ValueError, match="context of 3"):
        WordTokenizer(["a"], context_length=2)
