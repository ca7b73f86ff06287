"""A word tokenizer for small text towers: known words have ids of their own, others share hashed buckets."""

import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")

PAD = 0
START = 1
_FIRST_WORD = 2


def split_words(text: str) -> list[str]:
    """Split a text into its lower-case words; punctuation falls away.

    Args:
        text: Any text.
    """
    return _WORD.findall(text.lower())


class WordTokenizer:
    """Texts to token ids: start, words, end, then padding.

    A word outside the vocabulary gets one of ``buckets`` ids by a hash that is the same on every machine,
    so that a name never seen before is still a token that tuning can teach. The end token has the highest
    id, because open_clip pools a text where its token id is highest.

    Args:
        vocabulary: The known words, lower case, in the order that gives them their ids.
        buckets: How many ids the other words share.
        context_length: Tokens a text, start and end included; longer texts are cut.

    Example:
        >>> tokenizer = WordTokenizer(["pink", "hair"], buckets=4, context_length=6)
        >>> tokenizer(["Pink hair!"]).tolist()
        [[1, 2, 3, 8, 0, 0]]

    Raises:
        ValueError: If the vocabulary has doubles, or there is no room for one word.
    """

    def __init__(self, vocabulary: Sequence[str], *, buckets: int = 512, context_length: int = 40) -> None:
        self.vocabulary = tuple(vocabulary)
        if len(set(self.vocabulary)) != len(self.vocabulary):
            msg = f"vocabulary of {len(self.vocabulary)} words: expected no doubles"
            raise ValueError(msg)
        if context_length < 3 or buckets < 1:
            msg = f"expected a context of 3 or more and 1 or more buckets, found {context_length} and {buckets}"
            raise ValueError(msg)
        self.buckets = buckets
        self.context_length = context_length
        self._ids = {word: index for index, word in enumerate(self.vocabulary, start=_FIRST_WORD)}

    @property
    def end(self) -> int:
        """Id of the end token, the highest of all."""
        return _FIRST_WORD + len(self.vocabulary) + self.buckets

    @property
    def size(self) -> int:
        """How many ids there are."""
        return self.end + 1

    def word_id(self, word: str) -> int:
        """Give the id of one lower-case word.

        Args:
            word: A word, known or not.
        """
        known = self._ids.get(word)
        if known is not None:
            return known
        return _FIRST_WORD + len(self.vocabulary) + zlib.crc32(word.encode("utf-8")) % self.buckets

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Tokenize texts; case and punctuation do not matter.

        Args:
            texts: T texts.

        Returns:
            Shape (T, context_length), int64.
        """
        tokens = torch.full((len(texts), self.context_length), PAD, dtype=torch.int64)
        for row, text in enumerate(texts):
            words = [self.word_id(word) for word in split_words(text)[: self.context_length - 2]]
            ids = [START, *words, self.end]
            tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return tokens
