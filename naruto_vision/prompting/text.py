"""Text prompts: where a CLIP finds a phrase in an image, and boxes of transformers' open-vocabulary detectors."""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dense import dense_map, window_map
from naruto_vision.encoders.ensemble import EnsembleEncoder
from naruto_vision.encoders.prompts import text_prototypes
from naruto_vision.encoders.tiny import TINY_CLIP
from naruto_vision.errors import InputError
from naruto_vision.prompting.exemplar import Fusion, PrototypePrompter
from naruto_vision.prompting.saliency import PromptType, SaliencyPrompter
from naruto_vision.records import ImageArray

TextMap: TypeAlias = Literal["windows", "patches"]
"""What is compared with texts: the vectors of overlapping windows, or the projected patch tokens of one pass."""

BACKGROUND = ("a picture", "a drawing", "background", "sky", "grass", "trees", "a wall", "the floor", "a house")
"""Phrases that texts are ranked against."""

_WINDOW = 0.5


class TextPrompter(PrototypePrompter):
    """Prompts where a phrase fits an image better than the background phrases.

    Args:
        texts: One phrase for each class; it is also the name of the class.
        encoder: A CLIP; None takes the packaged tiny-clip.
        background: Phrases for everything else.
        map: ``windows`` embeds overlapping windows of half the image's longer side, ``patches`` the patches of one
            pass (MaskCLIP), which is faster and finer; with tiny-clip it is much worse.
        similarity: Least similarity, in [0, 1]; at 0.5 a text fits as well as the best background phrase.
        min_area: Least size of an object in pixels of the image.
        num_objects: Most objects of an image.
        prompt_type: Whether the box or the centre of each object is the prompt.
        saliency: Finds what is salient, to fuse its map with the similarity; None takes the similarity alone.
        fusion: ``multiply`` takes the product of the two maps, ``max`` the larger, ``weighted`` 0.6 and 0.4 of them.
        detection: Least saliency, in [0, 1]. A pixel is kept if its fused value reaches that of the two least values.

    Raises:
        InputError: If there is no text, the encoder has no text tower, or a number is out of its range.

    Example:
        >>> import naruto_vision as nv
        >>> prompter = nv.TextPrompter(["a girl with pink hair"])
        >>> segmenter = nv.Segmenter(prompter, nv.SamModel(weights="tiny-sam"))
    """

    def __init__(
        self,
        texts: Sequence[str],
        encoder: Encoder | None = None,
        background: Sequence[str] = BACKGROUND,
        *,
        map: TextMap = "windows",
        similarity: float = 0.5,
        min_area: int = 100,
        num_objects: int = 12,
        prompt_type: PromptType = "box",
        saliency: SaliencyPrompter | None = None,
        fusion: Fusion = "weighted",
        detection: float = 0.3,
    ) -> None:
        reading = _clip_of(encoder or ClipEncoder(TINY_CLIP))
        named = tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
        if not named or not background:
            msg = f"text prompts: expected at least one text and one background phrase, found {texts!r}, {background!r}"
            raise InputError(msg)
        with torch.inference_mode():
            vectors = text_prototypes(reading, [(text,) for text in named]).float().cpu()
            around = reading.encode_texts(list(background)).float().cpu()
        super().__init__(
            reading,
            dict(zip(named, vectors.split(1), strict=True)),
            around,
            temperature=math.exp(-reading.logit_scale.item()),
            similarity=similarity,
            min_area=min_area,
            num_objects=num_objects,
            prompt_type=prompt_type,
            saliency=saliency,
            fusion=fusion,
            detection=detection,
        )
        self.map: TextMap = map

    @property
    def fingerprint(self) -> str:
        """Text that changes with the encoder, any text or any setting."""
        return f"{super().fingerprint} {self.map}"

    def features(self, image: ImageArray) -> Tensor:
        """Embed the windows or the patches of an image (H, W, 3): (h, w, D), float32, unit vectors."""
        return dense_map(self.encoder, image) if self.map == "patches" else window_map(self.encoder, image, _WINDOW)


def _clip_of(encoder: Encoder) -> ClipEncoder:
    members = encoder.own_members if isinstance(encoder, EnsembleEncoder) else [encoder]
    found = next((each for each in members if isinstance(each, ClipEncoder)), None)
    if found is None:
        msg = f"text prompts: expected a CLIP (ClipEncoder), found {encoder.short_name}, which reads no texts"
        raise InputError(msg)
    return found.eval()
