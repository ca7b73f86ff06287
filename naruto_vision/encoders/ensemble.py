"""Several encoders as one: unit vectors joined, each with its weight."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from naruto_vision.encoders.backbone import LITE0, TimmEncoder
from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.preprocess import Preparation
from naruto_vision.encoders.tiny import TINY_CLIP
from naruto_vision.errors import InputError
from naruto_vision.records import ImageArray

KIND, PACKAGED_KIND = "ensemble", "clip_ensemble"
AUTO = "auto"
TUNED = "runs/clip/bundle"
"""Where ``fit --config clip.yaml`` writes the fine-tuned CLIP."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class JointPreparation:
    """The preprocessing of several encoders: the pixels of one image in a row, member by member."""

    members: tuple[Preparation, ...]

    def levels(self, images: Sequence[Tensor]) -> Tensor:
        """Prepare images (3, H, W), uint8, of any sizes on one device: (N, P), uint8."""
        return torch.cat([each.levels(images).flatten(1) for each in self.members], dim=1)

    def normalise(self, levels: Tensor) -> Tensor:
        """Normalise the output of ``levels``: (N, P), float32."""
        parts = _apart(levels, [each.size for each in self.members])
        return torch.cat([m.normalise(part).flatten(1) for m, part in zip(self.members, parts, strict=True)], dim=1)


def _apart(pixels: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Take apart the pixels (B, P) of members with these input sizes: (B, 3, S, S) each."""
    parts = torch.split(pixels, [3 * size * size for size in sizes], dim=1)
    return [part.view(-1, 3, size, size) for part, size in zip(parts, sizes, strict=True)]


class EnsembleEncoder(Encoder):
    """Joined unit vectors of several encoders: a cosine is the weighted mean of the members' cosines.

    Texts are embedded by the members with a text tower, and are zero in the parts of the others.

    Args:
        members: The encoders.
        weights: The weight of each member's cosine, above 0, which are divided by their sum; None takes equal ones.

    Raises:
        InputError: If there are no members, or not as many positive weights.

    Examples:
        >>> import naruto_vision as nv
        >>> clip = nv.ClipEncoder("tiny-clip")
        >>> encoder = nv.EnsembleEncoder([clip, nv.TimmEncoder("efficientnet-lite0")], weights=[0.3, 0.7])
        >>> encoder.dim == clip.dim + 1280
        True
    """

    def __init__(self, members: Sequence[Encoder], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        given = [1.0] * len(members) if weights is None else [float(weight) for weight in weights]
        if not members or len(given) != len(members) or not all(0 < weight < math.inf for weight in given):
            msg = f"ensemble: expected a weight above 0 for each of {len(members)} members (1 or more), found {given}"
            raise InputError(msg)
        self.members = nn.ModuleList(members)
        self.weights = tuple(weight / sum(given) for weight in given)
        self.dim = sum(member.dim for member in members)
        self.has_text = any(member.has_text for member in members)
        self.mixes = any(member.mixes for member in members)
        self._sizes = [_image_size(member) for member in members]

    @property
    def own_members(self) -> list[Encoder]:
        """The members, in order."""
        return [member for member in self.members if isinstance(member, Encoder)]

    def preprocess(self, image: ImageArray) -> Tensor:
        """Preprocess one image (H, W, 3), uint8, RGB, for every member: (P,), float32, member by member."""
        return torch.cat([member.preprocess(image).flatten() for member in self.own_members])

    def mirrored(self, pixels: Tensor) -> Tensor:
        """Flip preprocessed images (B, P) from left to right."""
        return torch.cat([part.flip(-1).flatten(1) for part in _apart(pixels, self._sizes)], dim=1)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Embed preprocessed images (B, P), float32: (B, D), float32, unit rows; gradients flow."""
        parts = zip(self.own_members, self.weights, _apart(pixels, self._sizes), strict=True)
        return torch.cat([math.sqrt(weight) * member.encode_images(part) for member, weight, part in parts], dim=1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed T texts: (T, D), float32, unit rows; gradients flow.

        Raises:
            InputError: If no member has a text tower.
        """
        if not self.has_text:
            return super().encode_texts(texts)
        reading = next(member for member in self.own_members if member.has_text).encode_texts(texts)
        parts = [
            math.sqrt(weight) * member.encode_texts(texts)
            if member.has_text
            else reading.new_zeros(len(texts), member.dim)
            for member, weight in zip(self.own_members, self.weights, strict=True)
        ]
        return normalize(torch.cat(parts, dim=1), dim=-1)

    @property
    def preparation(self) -> JointPreparation | None:
        """The steps of ``preprocess`` for batches; None if a member has none."""
        own = [member.preparation for member in self.own_members]
        known = tuple(each for each in own if isinstance(each, Preparation))
        return JointPreparation(known) if len(known) == len(own) else None

    @property
    def image_tower(self) -> nn.Module:
        """The image towers of all members."""
        return nn.ModuleList([member.image_tower for member in self.own_members])

    @property
    def recipe(self) -> Mapping[str, Any]:
        """JSON values from which ``open_recipe`` opens this encoder again; empty if a member cannot be opened."""
        recipes = [dict(member.recipe) for member in self.own_members]
        return {"kind": KIND, "members": recipes, "weights": list(self.weights)} if all(recipes) else {}

    def describe(self) -> Mapping[str, Any]:
        """Return the JSON values that, with the weights, determine the vectors."""
        return {"members": [dict(member.describe()) for member in self.own_members], "weights": list(self.weights)}


def _image_size(member: Encoder) -> int:
    size = getattr(member, "image_size", None)
    if not isinstance(size, int) or isinstance(member, EnsembleEncoder):
        raise InputError(f"ensemble: expected members with a square input of one size, found {type(member).__name__}")
    return size


class ClipEnsemble(EnsembleEncoder):
    """A CLIP and a backbone of timm as one encoder: what the packaged configs use.

    The CLIP reads texts and can be fine-tuned on the user's characters; the backbone, trained on ImageNet, recognises
    real images that tiny-clip has never seen anything like.

    Args:
        model: The CLIP: a bundle or architecture as ``ClipEncoder`` takes it; ``auto`` is ``runs/clip/bundle`` if
            ``fit`` wrote one, and otherwise ``tiny-clip``.
        pretrained: Weights of an architecture, as ``ClipEncoder`` takes them.
        backbone: The backbone, as ``TimmEncoder`` takes it.
        share: Weight of the CLIP, between 0 and 1; the backbone has the rest.

    Examples:
        >>> import naruto_vision as nv
        >>> nv.ClipEnsemble("tiny-clip").encode_texts(["pink hair"]).shape
        torch.Size([1, 1472])
    """

    def __init__(
        self, model: str = AUTO, pretrained: str | None = None, *, backbone: str = LITE0, share: float = 0.5
    ) -> None:
        if model == AUTO:
            model = TUNED if Path(TUNED).is_dir() else TINY_CLIP
            _LOG.info("encoder: %s with %s", model, backbone)
        super().__init__([ClipEncoder(model, pretrained), TimmEncoder(backbone)], [share, 1.0 - share])
        self._recipe = {"model": model, "pretrained": pretrained or None, "backbone": backbone, "share": share}

    @property
    def recipe(self) -> Mapping[str, Any]:
        """JSON values from which ``open_recipe`` opens this encoder again; empty for random weights."""
        return {"kind": PACKAGED_KIND, **self._recipe} if super().recipe else {}
