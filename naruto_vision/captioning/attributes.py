"""Describe regions by attributes: an encoder's own text tower ranks the phrases of a vocabulary file."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from naruto_vision.captioning.protocol import Describer, Description, ImageRegion
from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.opening import open_encoder
from naruto_vision.encoders.tiny import TINY_CLIP
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.atomic import utf8
from naruto_vision.io.bundles import config_path
from naruto_vision.io.typed_json import convert_json
from naruto_vision.io.yaml_files import read_yaml
from naruto_vision.segmentation.crops import CropConfig, embed_regions

VOCABULARY = "attributes.yaml"
"""The packaged vocabulary."""

_CROP = CropConfig(background=128)  # the grey that tiny-clip pads with; black added nothing in a trial
_SCALE = 100.0  # that of CLIP, for encoders that record none


class PhraseGroup(msgspec.Struct, forbid_unknown_fields=True):
    """Alternative phrases."""

    phrases: list[str]
    lead: str = "with"
    margin: float | None = None


class Vocabulary(msgspec.Struct, forbid_unknown_fields=True):
    """The phrases that attributes are described with, in groups of alternatives."""

    groups: dict[str, PhraseGroup]
    subject: str = "a figure"
    margin: float = 0.3

    def margin_of(self, group: str) -> float:
        """Return the least margin of a group."""
        own = self.groups[group].margin
        return self.margin if own is None else own

    def sentence(self, said: Mapping[str, str]) -> str:
        """Join the phrases of some groups to one description; empty if there are none."""
        leads: dict[str, list[str]] = {}
        for name, group in self.groups.items():
            if name in said:
                leads.setdefault(group.lead, []).append(said[name])
        subject = " ".join(leads.pop("", [self.subject]))
        clauses = [f"{lead} {_listed(_merged(phrases))}" for lead, phrases in leads.items()]
        return f"{subject} {', '.join(clauses)}".strip() if said else ""


def read_vocabulary(path: str | Path | None = None) -> Vocabulary:
    """Read a vocabulary file (YAML); by default the packaged one.

    FormatError if it has no groups, or a group has less than two phrases, as one alone would always be said.
    """
    path = config_path(VOCABULARY) if path is None else Path(path)
    if not path.is_file():
        raise MissingPathError(path, "vocabulary file", f"`naruto-vision configs {VOCABULARY} --out FILE` writes one")
    vocabulary = convert_json(path, read_yaml(path), Vocabulary)
    if not vocabulary.groups:
        raise FormatError(path, "at least one group of phrases", "none")
    for name, group in vocabulary.groups.items():
        if len(set(filter(str.strip, group.phrases))) != len(group.phrases) or len(group.phrases) < 2:
            raise FormatError(path, f"two or more different phrases in group {name!r}", f"{group.phrases}"[:60])
    return vocabulary


def _merged(phrases: Sequence[str]) -> list[str]:
    """Join neighbours that share a word: pink hair, short hair → short pink hair; pink hair, hair in a bun → ….

    Examples:
        >>> _merged(["pink hair", "short hair", "blue eyes"]), _merged(["pink hair", "hair in a bun"])
        (['short pink hair', 'blue eyes'], ['pink hair in a bun'])
    """
    found: list[str] = []
    for phrase in phrases:
        words, last = phrase.split(), found[-1].split() if found else []
        if last and len(words) > 1 and words[-1] == last[-1] and words[0] not in {"a", "an"}:
            found[-1] = " ".join([*words[:-1], *last])
        elif last and len(words) > 1 and words[0] == last[-1]:
            found[-1] = " ".join([*last, *words[1:]])
        else:
            found.append(phrase)
    return found


def _listed(phrases: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(phrases[:-1]), phrases[-1]]))


class AttributeDescriber(Describer):
    """Describes a region by the phrases of a vocabulary that its crop is nearest to. It needs nothing else.

    Of each group of alternatives (hair colours, hats) it says the best phrase if that is far enough ahead: the
    probabilities are the softmax of the cosines, multiplied by the encoder's own scale. The score is the mean
    probability of the phrases that are said.

    Args:
        encoder: An encoder with a text tower, or the name of one: ``tiny-clip``, a bundle, an open_clip architecture.
        vocabulary: A vocabulary file; None for the packaged one, in the words that ``tiny-clip`` knows.
        weights: Weights of a named architecture, as ``ClipEncoder`` takes them.

    Raises:
        MissingPathError: If there is no such vocabulary file, or the encoder is not there.
        FormatError: If the vocabulary has another form.
        InputError: If the encoder has no text tower.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> region = nv.Region((2, 2, 9, 9), np.ones((8, 8), bool))
        >>> with nv.AttributeDescriber() as describer:
        ...     [found] = describer.describe([(np.zeros((12, 12, 3), np.uint8), region)])
        >>> set(found.parts) <= set(describer.vocabulary.groups)
        True
        >>> describer.vocabulary.sentence({"hair colour": "pink hair", "hair style": "short hair"})
        'a figure with short pink hair'
    """

    batch_size = 32

    def __init__(
        self, encoder: Encoder | str = TINY_CLIP, vocabulary: str | Path | None = None, *, weights: str | None = None
    ) -> None:
        self.vocabulary = read_vocabulary(vocabulary)
        self._source, self._weights = encoder, weights
        self._loaded: tuple[Encoder, Tensor] | None = None

    @property
    def name(self) -> str:
        """The encoder's model and weights."""
        return f"attributes of {self._parts()[0].short_name}"

    @property
    def identity(self) -> Mapping[str, Any]:
        """The encoder's fingerprint and arithmetic, and a hash of the vocabulary."""
        encoder = self._parts()[0]
        words = hashlib.sha256(utf8(repr(self.vocabulary))).hexdigest()
        facts = {"encoder": encoder.fingerprint, "arithmetic": encoder.arithmetic, "vocabulary": words}
        return {"describer": "attributes", **facts}

    def load(self) -> None:
        """Open the encoder, and embed the phrases."""
        self._parts()

    def unload(self) -> None:
        """Drop the encoder, unless it was given, and the vectors of the phrases."""
        self._loaded = None

    def _parts(self) -> tuple[Encoder, Tensor]:
        """Return the encoder and the vectors (P, D) of all phrases, in the order of the groups."""
        if self._loaded is None:
            encoder = self._source
            if not isinstance(encoder, Encoder):
                encoder = open_encoder(encoder, self._weights).to("cuda" if torch.cuda.is_available() else "cpu")
            if not encoder.has_text:
                msg = f"{encoder.short_name}: has no text tower to rank phrases with; use tiny-clip or another CLIP"
                raise InputError(msg)
            phrases = [phrase for group in self.vocabulary.groups.values() for phrase in group.phrases]
            with torch.inference_mode():
                self._loaded = encoder, encoder.encode_texts(phrases).float().cpu()
        return self._loaded

    @torch.inference_mode()
    def describe(self, items: Sequence[ImageRegion], *, again: bool = False) -> list[Description]:  # noqa: ARG002 - there is one way
        """Rank the phrases for each region: images (H, W, 3), uint8, RGB, upright, each with a region of it."""
        encoder, phrases = self._parts()
        scenes = [list(group) for _, group in groupby(items, key=lambda item: id(item[0]))]
        rows = embed_regions(encoder, [(scene[0][0], [region for _, region in scene]) for scene in scenes], [_CROP])
        if not rows:
            return []
        scales = [float(part.logit_scale.exp()) for part in encoder.modules() if isinstance(part, ClipEncoder)]
        logits = torch.cat([row[0] for row in rows]) @ phrases.T * next(iter(scales), _SCALE)
        sizes = [len(group.phrases) for group in self.vocabulary.groups.values()]
        chances = [part.softmax(dim=-1) for part in torch.split(logits, sizes, dim=-1)]
        return [self._describe([part[row] for part in chances]) for row in range(len(items))]

    def _describe(self, chances: Sequence[Tensor]) -> Description:
        parts = dict(self._said(chances))
        score = sum(chance for _, chance in parts.values()) / len(parts) if parts else None
        return Description(self.vocabulary.sentence({name: part[0] for name, part in parts.items()}), score, parts)

    def _said(self, chances: Sequence[Tensor]) -> Iterator[tuple[str, tuple[str, float]]]:
        for (name, group), chance in zip(self.vocabulary.groups.items(), chances, strict=True):
            (first, second), (best, _) = chance.topk(2)
            if first - second >= self.vocabulary.margin_of(name):
                yield name, (group.phrases[int(best)], float(first))
