"""Text prototypes of classes: averaged vectors of templates and aliases."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from naruto_vision.encoders.base import Encoder
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.io.names import label_name
from naruto_vision.io.typed_json import read_json

TEMPLATES = (
    "{}",
    "{}, a character of a series",
    "a portrait of {}",
    "official art of {}",
    "a close-up of {}",
    "a screenshot of {}",
    "a manga panel of {}",
)
"""Prompt templates; a name or a description replaces ``{}``."""

_ALIASES = "write a JSON object: class to a list of texts"


def read_aliases(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read other names and descriptions of each class from a JSON object: class to a list of texts."""
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(path, "aliases file", _ALIASES)
    texts = read_json(path, dict[str, tuple[str, ...]], hint=_ALIASES)
    return {label_name(name): own for name, own in texts.items()}


def checked_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Return the templates; InputError if one does not have exactly one ``{}``."""
    for template in templates:
        if template.count("{}") != 1:
            raise InputError(f"template {template!r}: expected one {{}} for the name")
    return tuple(templates)


def class_texts(
    classes: Sequence[str],
    aliases: Mapping[str, Sequence[str]],
    templates: Sequence[str] = TEMPLATES,
) -> tuple[tuple[str, ...], ...]:
    """List the texts of each class: every template with its name and each alias, without duplicates."""
    return tuple(
        tuple(dict.fromkeys(template.format(text) for text in (name, *aliases.get(name, ())) for template in templates))
        for name in classes
    )


def text_prototypes(encoder: Encoder, texts: Sequence[Sequence[str]]) -> Tensor:
    """Average the vectors of each class's texts and renormalise; gradients flow: returns (C, D), float32."""
    vectors = encoder.encode_texts([text for own in texts for text in own])
    lengths = [len(own) for own in texts]
    return torch.stack([normalize(part.mean(dim=0), dim=0) for part in torch.split(vectors, lengths)])
