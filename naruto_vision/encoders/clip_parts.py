"""The parts of a CLIP encoder and the three places they come from: a bundle, open_clip, or nothing yet."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.model import convert_to_custom_text_state_dict, get_model_preprocess_cfg
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from torch import Tensor, nn

from naruto_vision.drawn.captions import VOCABULARY
from naruto_vision.drawn.phrases import PHRASES
from naruto_vision.encoders.prompts import TEMPLATES
from naruto_vision.encoders.tiny import TINY_CLIP, TINY_PREPROCESS, TinySizes, build_tiny_clip
from naruto_vision.encoders.tokenizer import WordTokenizer, split_words
from naruto_vision.errors import FormatError, InputError
from naruto_vision.files.bundle import INFO, load_bundle
from naruto_vision.files.strict import load_strictly
from naruto_vision.files.trust import load_state_dict

RANDOM = "random"
KIND = "clip"

_LOG = logging.getLogger(__name__)
_WRAPPERS = ("clip.", "model.", "clip_model.", "backbone.")  # what training scripts put in front of every name
_OPENAI_ONLY = ("input_resolution", "context_length", "vocab_size")


@dataclass(frozen=True)
class ClipParts:
    """Everything that a CLIP encoder is made of.

    Args:
        architecture: ``tiny-clip`` or the name of an open_clip architecture.
        model: The open_clip model.
        tokenizer: Texts to token ids (T, context), int64.
        preprocessing: The fields of open_clip's ``PreprocessCfg``.
        dim: Length of the vectors.
        quick_gelu: Whether the activations are QuickGELU, as OpenAI's weights need.
        sizes: The sizes of a tiny CLIP.
        vocabulary: The words of a tiny CLIP.
        info: What a bundle's ``model.json`` says beside all this.
    """

    architecture: str
    model: Any
    tokenizer: Callable[[Sequence[str]], Tensor]
    preprocessing: Mapping[str, Any]
    dim: int
    quick_gelu: bool = False
    sizes: TinySizes | None = None
    vocabulary: tuple[str, ...] = ()
    info: Mapping[str, Any] | None = None


def tiny_parts(sizes: TinySizes, vocabulary: Sequence[str] | None = None) -> ClipParts:
    """Build a tiny CLIP with random weights.

    Args:
        sizes: Its sizes.
        vocabulary: Its words; by default those of the drawn captions and of the templates.
    """
    if vocabulary is None:
        vocabulary = sorted({*VOCABULARY, *(word for text in (*TEMPLATES, *PHRASES) for word in split_words(text))})
    tokenizer = WordTokenizer(vocabulary, buckets=sizes.buckets, context_length=sizes.context_length)
    return ClipParts(
        architecture=TINY_CLIP,
        model=build_tiny_clip(sizes, tokenizer),
        tokenizer=tokenizer,
        preprocessing={**TINY_PREPROCESS, "size": sizes.image_size},
        dim=sizes.embed_dim,
        sizes=sizes,
        vocabulary=tokenizer.vocabulary,
    )


def open_clip_parts(architecture: str, pretrained: str | None, *, trust_pickle: bool = False) -> ClipParts:
    """Build an open_clip architecture with the weights that were asked for.

    Args:
        architecture: One of open_clip's names.
        pretrained: One of open_clip's tags for it (downloaded by open_clip), a local weights file, or ``random``.
        trust_pickle: Also accept NumPy numbers, paths and option lists in a local file.

    Raises:
        InputError: If ``pretrained`` is None: untrained weights are only given when asked for.
        StateDictError: If a weights file does not fit the architecture.
    """
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained is None:
        known = ", ".join([*tags[:4], "…"]) if tags else "none"
        msg = f"{architecture}: give pretrained weights: a local file, 'random', or an open_clip tag ({known})"
        raise InputError(msg)
    if pretrained == RANDOM or pretrained in tags:
        tag = None if pretrained == RANDOM else pretrained
        quick_gelu = bool(tag and (open_clip.get_pretrained_cfg(architecture, tag) or {}).get("quick_gelu"))
        return _published(architecture, tag, quick_gelu=quick_gelu)
    state = _without_wrapper(load_state_dict(pretrained, trust_pickle=trust_pickle))
    parts = _published(architecture, None, quick_gelu=any(name in state for name in _OPENAI_ONLY))
    state = {name: value for name, value in state.items() if name not in _OPENAI_ONLY}
    if "positional_embedding" in state and not hasattr(parts.model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)  # files from before open_clip gave the text tower its own name
    load_strictly(parts.model, state, pretrained, architecture)
    return parts


def _without_wrapper(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop what a script that wraps the model puts in front of every name."""
    prefix = next((word for word in _WRAPPERS if state and all(name.startswith(word) for name in state)), "")
    return {name.removeprefix(prefix): value for name, value in state.items()}


def bundle_parts(folder: Path) -> ClipParts:
    """Open a bundle.

    Args:
        folder: The bundle.

    Raises:
        FormatError: If its record is not that of a CLIP bundle.
        StateDictError: If its weights are not those of its architecture.
    """
    state, info = load_bundle(folder, KIND)
    architecture = str(info.get("architecture"))
    try:
        if architecture == TINY_CLIP:
            parts = tiny_parts(TinySizes(**info["sizes"]), info["vocabulary"])
        elif architecture in open_clip.list_models():
            parts = _published(architecture, None, quick_gelu=bool(info["quick_gelu"]))
        else:
            raise FormatError(folder / INFO, f"{TINY_CLIP} or an open_clip architecture", architecture)
        preprocessing = asdict(PreprocessCfg(**info["preprocessing"]))
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise FormatError(folder / INFO, "the record of a CLIP bundle", f"{type(error).__name__}: {error}") from None
    load_strictly(parts.model, state, folder, architecture)
    return ClipParts(**{**vars(parts), "preprocessing": preprocessing, "info": info})


def _created(architecture: str, tag: str | None, *, quick_gelu: bool) -> nn.Module:
    try:
        model: nn.Module = open_clip.create_model(
            architecture,
            pretrained=tag,
            force_quick_gelu=quick_gelu,
            pretrained_text=False,
            require_pretrained=bool(tag),
        )
    except RuntimeError as error:
        if tag is None or "download" not in str(error).lower():
            raise
        fetch = f"`naruto-vision weights download {architecture}.{tag}` where there is a network"
        msg = f"{architecture}: the weights of {tag} cannot be downloaded here; fetch them ({fetch}) and give the file"
        raise InputError(msg) from None
    return model


def _published(architecture: str, tag: str | None, *, quick_gelu: bool) -> ClipParts:
    config = open_clip.get_model_config(architecture)
    configured = bool(config.get("quick_gelu", False))
    if quick_gelu and not configured:
        _LOG.info("%s: these weights were trained with QuickGELU, so it is switched on", architecture)
    quick_gelu = quick_gelu or configured
    model = _created(architecture, tag, quick_gelu=quick_gelu)
    agreed = {} if tag else _agreed_preprocessing(architecture)
    merged = merge_preprocess_dict(get_model_preprocess_cfg(model), agreed)
    return ClipParts(
        architecture=architecture,
        model=model,
        tokenizer=open_clip.get_tokenizer(architecture),
        preprocessing={**asdict(PreprocessCfg()), **merged},
        dim=int(config["embed_dim"]),
        quick_gelu=quick_gelu,
    )


def _agreed_preprocessing(architecture: str) -> dict[str, Any]:
    """What all published weights of an architecture agree on; nothing where they differ.

    A local file does not say how its pictures were prepared. SigLIP's, for one, all squash to a square
    and normalise by one half, unlike OpenAI's.
    """
    keys = asdict(PreprocessCfg()).keys() - {"size", "mode"}
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    configs = [{key: (open_clip.get_pretrained_cfg(architecture, tag) or {}).get(key) for key in keys} for tag in tags]
    agreed = bool(configs) and all(config == configs[0] for config in configs)
    return {key: value for key, value in configs[0].items() if value is not None} if agreed else {}
