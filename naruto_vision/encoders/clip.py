"""CLIP through open_clip: one of our own bundles, any of its architectures, or a local weights file."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.class_token import clip_class_token
from naruto_vision.encoders.clip_parts import KIND, RANDOM, ClipParts, bundle_parts, open_clip_parts, tiny_parts
from naruto_vision.encoders.lora import plain_state
from naruto_vision.encoders.preparation import Preparation
from naruto_vision.encoders.tiny import TINY_CLIP, TinySizes
from naruto_vision.errors import InputError
from naruto_vision.files.bundle import save_bundle
from naruto_vision.files.share import bundle_path
from naruto_vision.records import Picture


class ClipEncoder(Encoder):
    """A CLIP model with its own tokenizer and preprocessing.

    Args:
        model: ``tiny-clip``, a bundle folder, or an open_clip architecture such as ``ViT-B-32``.
        pretrained: For an architecture: a local weights file, an open_clip tag (downloaded by open_clip), or
            ``random`` for untrained weights. For ``tiny-clip``: None for the packaged weights, or ``random``.
            For a bundle folder: None, or an empty text.
        sizes: Sizes of a tiny CLIP that starts from random weights.
        trust_pickle: Also read a local weights file whose pickle names NumPy numbers, paths and option lists.

    Attributes:
        clip: The open_clip model.
        info: What the bundle's ``model.json`` says (classes, templates, figures); empty without a bundle.

    Example:
        >>> encoder = ClipEncoder("tiny-clip", pretrained="random")
        >>> encoder.encode_texts(["short pink hair"]).shape
        torch.Size([1, 192])

    Raises:
        InputError: If the name is unknown, or an architecture is given without weights.
        StateDictError: If a weights file does not fit the architecture.
    """

    has_text = True

    def __init__(
        self,
        model: str = TINY_CLIP,
        pretrained: str | None = None,
        *,
        sizes: TinySizes | None = None,
        trust_pickle: bool = False,
    ) -> None:
        super().__init__()
        pretrained = pretrained or None  # an option on the command line can be emptied, but not always be made null
        parts = _find_parts(model, pretrained, sizes or TinySizes(), trust_pickle=trust_pickle)
        self.clip: Any = parts.model
        self.dim = parts.dim
        self.info: Mapping[str, Any] = parts.info or {}
        self.tokenizer = parts.tokenizer
        self._record: Mapping[str, Any] = {
            "architecture": parts.architecture,
            "quick_gelu": parts.quick_gelu,
            "sizes": parts.sizes.as_json() if parts.sizes else None,
            "vocabulary": list(parts.vocabulary),
            "preprocessing": {
                key: list(value) if isinstance(value, tuple) else value for key, value in parts.preprocessing.items()
            },
        }
        self._recipe = {"kind": KIND, "model": model, "pretrained": pretrained}
        self._transform = image_transform_v2(PreprocessCfg(**parts.preprocessing), is_train=False)

    @property
    def logit_scale(self) -> nn.Parameter:
        """Shape (), float32: the natural log of the factor in front of the cosines."""
        scale: nn.Parameter = self.clip.logit_scale
        return scale

    def text_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the text tower."""
        own = (value for name, value in self.clip.named_parameters() if not name.startswith("visual."))
        yield from (value for value in own if value.ndim > 0)  # the logit scale belongs to no tower

    @property
    def trains_text(self) -> bool:
        """Whether any parameter of the text tower is trained."""
        return any(value.requires_grad for value in self.text_parameters())

    @property
    def image_size(self) -> int:
        """Side S of the square input in pixels."""
        size = self._record["preprocessing"]["size"]
        return int(size if isinstance(size, int) else size[0])

    def preprocess(self, picture: Picture) -> Tensor:
        """Prepare one picture exactly as the weights were trained.

        Args:
            picture: Shape (H, W, 3), uint8, RGB.

        Returns:
            Shape (3, S, S), float32, normalised.
        """
        pixels: Tensor = self._transform(Image.fromarray(np.ascontiguousarray(picture)))
        return pixels

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Embed a batch of prepared pictures; gradients flow.

        Args:
            pixels: Shape (B, 3, S, S), float32, from ``preprocess``.

        Returns:
            Shape (B, D), float32, unit rows.
        """
        token = None if self.stock else clip_class_token(self.clip.visual, pixels)
        pooled = self.clip.encode_image(pixels) if token is None else token
        return normalize(pooled.float(), dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts; gradients flow.

        Args:
            texts: T texts.

        Returns:
            Shape (T, D), float32, unit rows.
        """
        if not texts:
            return self.logit_scale.new_zeros(0, self.dim)
        tokens = self.tokenizer(list(texts)).to(self.logit_scale.device)
        return normalize(self._encode_tokens(tokens).float(), dim=-1)

    def _encode_tokens(self, tokens: Tensor) -> Tensor:
        """Embed tokens (T, L); for the tiny CLIP without the padding that all texts share.

        Its text tower is causal and read at the end token, so what follows changes nothing, but costs most of the time.
        """
        if self._record["sizes"] is None:
            embedded: Tensor = self.clip.encode_text(tokens)
            return embedded
        ends = tokens.argmax(dim=-1)  # the end token has the highest id
        length = int(ends.max()) + 1
        hidden = self.clip.token_embedding(tokens[:, :length]) + self.clip.positional_embedding[:length]
        hidden = self.clip.transformer(hidden, attn_mask=self.clip.attn_mask[:length, :length])  # (T, length, width)
        pooled = self.clip.ln_final(hidden[torch.arange(len(tokens), device=tokens.device), ends])
        projected: Tensor = pooled @ self.clip.text_projection
        return projected

    @property
    def preparation(self) -> Preparation | None:
        """The same steps as ``preprocess``, for many pictures at once; None where the input is not square."""
        told = PreprocessCfg(**self._record["preprocessing"])
        sides = {told.size} if isinstance(told.size, int) else set(told.size)
        if len(sides) != 1:
            return None
        return Preparation(
            size=self.image_size,
            fit=told.resize_mode,
            resize_to=self.image_size,
            mean=tuple(told.mean),
            std=tuple(told.std),
            filter="bilinear" if told.interpolation == "bilinear" else "bicubic",
            fill=told.fill_color,
        )

    @property
    def image_tower(self) -> nn.Module:
        """The vision transformer."""
        tower: nn.Module = self.clip.visual
        return tower

    @property
    def recipe(self) -> Mapping[str, Any]:
        """JSON values that ``open_recipe`` opens this encoder from again; empty for random weights."""
        return {} if self._recipe["pretrained"] == RANDOM else dict(self._recipe)

    def describe(self) -> Mapping[str, Any]:
        """Return the JSON values that decide the vectors beside the weights."""
        return dict(self._record)

    def save(
        self, folder: str | Path, extra: Mapping[str, Any] | None = None, *, dtype: torch.dtype = torch.float32
    ) -> None:
        """Write the model as a bundle; low-rank updates are added to the weights, so that it is a plain CLIP.

        Args:
            folder: Where the bundle goes; an older one is replaced as a whole.
            extra: JSON values to keep beside the architecture (classes, templates, licence, figures).
            dtype: How the weights are stored; ``torch.float16`` halves the file and rounds the weights.
        """
        state = {name: value.to(dtype) for name, value in plain_state(self.clip).items()}
        save_bundle(folder, state, {"kind": KIND, **self.describe(), **(extra or {})})


def _find_parts(model: str, pretrained: str | None, sizes: TinySizes, *, trust_pickle: bool) -> ClipParts:
    if _is_published(model):
        return open_clip_parts(model, pretrained, trust_pickle=trust_pickle)
    if model == TINY_CLIP and pretrained == RANDOM:
        return tiny_parts(sizes)
    known = [] if model == TINY_CLIP or Path(model).exists() else [TINY_CLIP, *open_clip.list_models()]
    if close := get_close_matches(model, known, n=3, cutoff=0.6):
        msg = f"{model}: no such model bundle or open_clip architecture; did you mean {', '.join(close)}?"
        raise InputError(msg)
    folder = bundle_path(model)
    if pretrained is not None:
        msg = f"{folder}: a bundle has weights of its own; leave out pretrained={pretrained!r}"
        raise InputError(msg)
    return bundle_parts(folder)


def _is_published(model: str) -> bool:
    """Tell whether this is open_clip's name of an architecture; a path is none, and open_clip need not be asked."""
    return model != TINY_CLIP and Path(model).name == model and model in open_clip.list_models()
