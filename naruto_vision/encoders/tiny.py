"""tiny-clip, this project's small CLIP, and its word tokenizer."""

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor, nn

TINY_CLIP = "tiny-clip"

TINY_PREPROCESS: Mapping[str, Any] = {
    "size": 96,
    "mode": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "longest",  # keeps the whole character for any aspect ratio
    "fill_color": 128,  # the same grey as the background of a cut-out, and about zero after normalisation
}

PAD = 0
START = 1
_FIRST_WORD = 2
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


def split_words(text: str) -> list[str]:
    """Split a text into its lower-case words, without punctuation."""
    return _WORD.findall(text.lower())


def vocabulary_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct words of texts, sorted."""
    return tuple(sorted({word for text in texts for word in split_words(text)}))


class WordTokenizer:
    """Texts to token ids: start, words, end, then padding.

    A word outside the vocabulary gets one of ``buckets`` ids by CRC-32, so that a new name is still a
    token that tuning can train. The end token has the highest id, because open_clip pools a text at its highest id.

    Examples:
        >>> tokenizer = WordTokenizer(["pink", "hair"], buckets=4, context_length=6)
        >>> tokenizer(["Pink hair!"]).tolist()
        [[1, 2, 3, 8, 0, 0]]
    """

    def __init__(self, vocabulary: Sequence[str], *, buckets: int = 512, context_length: int = 40) -> None:
        self.vocabulary = tuple(vocabulary)
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError(f"vocabulary of {len(self.vocabulary)} words: expected no duplicates")
        if context_length < 3 or buckets < 1:
            msg = f"expected a context of 3 or more and 1 or more buckets, found {context_length} and {buckets}"
            raise ValueError(msg)
        self.buckets = buckets
        self.context_length = context_length
        self.end = _FIRST_WORD + len(self.vocabulary) + buckets
        self.size = self.end + 1
        self._ids = {word: number for number, word in enumerate(self.vocabulary, start=_FIRST_WORD)}

    def word_id(self, word: str) -> int:
        """Return the id of one lower-case word, known or not."""
        known = self._ids.get(word)
        return self.end - self.buckets + zlib.crc32(word.encode()) % self.buckets if known is None else known

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Tokenize T texts; case and punctuation do not matter: shape (T, context_length), int64."""
        tokens = torch.full((len(texts), self.context_length), PAD, dtype=torch.int64)
        for row, text in enumerate(texts):
            words = [self.word_id(word) for word in split_words(text)[: self.context_length - 2]]
            ids = [START, *words, self.end]
            tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return tokens


@dataclass(frozen=True)
class TinySizes:
    """The sizes of a tiny CLIP."""

    embed_dim: int = 192
    image_size: int = 96
    patch_size: int = 12
    vision_width: int = 192
    vision_layers: int = 6
    text_width: int = 128
    text_layers: int = 3
    context_length: int = 40
    buckets: int = 512

    def __post_init__(self) -> None:
        """Refuse what no file of a model has, for which even the layers without weights take all memory."""
        for name, most in {**dict.fromkeys(vars(self), 8192), "vision_layers": 128, "text_layers": 128}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"tiny-clip: expected {name} from 1 to {most}, found {getattr(self, name)}")

    def tokenizer(self, vocabulary: Sequence[str]) -> WordTokenizer:
        """Build the tokenizer of these sizes."""
        return WordTokenizer(vocabulary, buckets=self.buckets, context_length=self.context_length)


def build_tiny_clip(sizes: TinySizes, vocabulary_size: int) -> nn.Module:
    """Build the open_clip model with random weights."""
    vision = {
        "image_size": sizes.image_size,
        "patch_size": sizes.patch_size,
        "width": sizes.vision_width,
        "layers": sizes.vision_layers,
        "head_width": 32,  # 64 leaves three heads, too few to separate hair, face and clothes
    }
    text = {
        "context_length": sizes.context_length,
        "vocab_size": vocabulary_size,
        "width": sizes.text_width,
        "layers": sizes.text_layers,
        "heads": max(1, sizes.text_width // 32),
    }
    model: nn.Module = CLIP(sizes.embed_dim, vision, text)
    return model
