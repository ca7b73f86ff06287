"""One wording for what is said alike of the regions of one image."""

import re
from collections import Counter
from collections.abc import Sequence

_SPELLINGS = {"grey": "gray", "blonde": "blond", "colour": "color", "coloured": "colored", "armour": "armor"}
_UNSAID = {"a", "an", "the", "some"}
_CLAUSES = re.compile(r"[,.;\n]|\b(?:and|with|wearing|in|holding|has)\b")


def same_wording(texts: Sequence[str]) -> list[str]:
    """Give descriptions of one image that differ in form only one wording: the most frequent one, else the first.

    Texts are alike if they have the same clauses in any order, without articles, case, punctuation, spelling
    (grey, gray) and plural endings: "A girl with pink hair." and "the girl, pink hair". "red hat and blue coat" and
    "blue hat and red coat" are not alike, because the words of a clause stay together and in order.

    Examples:
        >>> same_wording(["a gray hat", "The grey hat.", "a hat"])
        ['a gray hat', 'a gray hat', 'a hat']
    """
    keys = [_clauses(text) for text in texts]
    chosen: dict[frozenset[tuple[str, ...]], str] = {}
    for text, _ in Counter(texts).most_common():  # stable: the first of equally frequent ones
        chosen.setdefault(_clauses(text), text)
    return [chosen[key] if key else text for key, text in zip(keys, texts, strict=True)]


def _clauses(text: str) -> frozenset[tuple[str, ...]]:
    clauses = (re.findall(r"[^\W_]+(?:['-][^\W_]+)*", part) for part in _CLAUSES.split(text.casefold()))
    kept = (tuple(_folded(word) for word in words if word not in _UNSAID) for words in clauses)
    return frozenset(filter(None, kept))


def _folded(word: str) -> str:
    word = _SPELLINGS.get(word, word)
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
