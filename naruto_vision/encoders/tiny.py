"""The tiny CLIP that the project trains itself: an open_clip model small enough to travel in the package."""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor, nn

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


TINY_CLIP = "tiny-clip"

TINY_PREPROCESS: Mapping[str, Any] = {
    "size": 96,
    "mode": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "longest",  # the whole figure stays visible, however tall the crop is
    "fill_color": 128,  # the same grey as the ground of a cut-out, and about zero after normalisation
}


@dataclass(frozen=True)
class TinySizes:
    """The sizes of a tiny CLIP.

    Args:
        embed_dim: Length of the vectors.
        image_size: Side of the square input in pixels.
        patch_size: Side of a patch in pixels.
        vision_width: Width of the image tower.
        vision_layers: Blocks of the image tower.
        text_width: Width of the text tower.
        text_layers: Blocks of the text tower.
        context_length: Tokens a text.
        buckets: Ids that out-of-vocabulary words share.
    """

    embed_dim: int = 192
    image_size: int = 96
    patch_size: int = 12
    vision_width: int = 192
    vision_layers: int = 6
    text_width: int = 128
    text_layers: int = 3
    context_length: int = 40
    buckets: int = 512

    def as_json(self) -> dict[str, int]:
        """Return the sizes as JSON values."""
        return asdict(self)


def build_tiny_clip(sizes: TinySizes, tokenizer: WordTokenizer) -> nn.Module:
    """Build the open_clip model with random weights.

    Args:
        sizes: Its sizes.
        tokenizer: Decides the size of the token table.
    """
    vision = {
        "image_size": sizes.image_size,
        "patch_size": sizes.patch_size,
        "width": sizes.vision_width,
        "layers": sizes.vision_layers,
        "head_width": 32,  # 64 would leave three heads, too few to look at hair, face and clothes apart
    }
    text = {
        "context_length": sizes.context_length,
        "vocab_size": tokenizer.size,
        "width": sizes.text_width,
        "layers": sizes.text_layers,
        "heads": max(1, sizes.text_width // 32),
    }
    model: nn.Module = CLIP(sizes.embed_dim, vision, text)
    return model
