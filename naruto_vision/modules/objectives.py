"""What one batch costs when a CLIP is tuned: plain torch, without Lightning."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from naruto_vision.drawn.phrases import PHRASE_ATTRIBUTES, PHRASES
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.losses.contrastive import grouped_contrastive, multi_positive_contrastive, supervised_contrastive

_ATTRIBUTES = tuple(dict.fromkeys(PHRASE_ATTRIBUTES))


@dataclass(frozen=True)
class LossWeights:
    """How the parts of the loss are added up.

    Args:
        smoothing: Share of each target that is spread over all columns, in [0, 1).
        same_picture: Weight of pulling pictures of one class (or of one stranger) together.
        phrases: Weight of the attribute phrases of captioned pictures.
        temperature: What the cosines between pictures are divided by, above 0.
    """

    smoothing: float = 0.0
    same_picture: float = 0.0
    phrases: float = 1.0
    temperature: float = 0.1


@contextmanager
def fast_attention(device: torch.device) -> Iterator[None]:
    """Choose the attention that trains fastest where bfloat16 is used on a CPU.

    The fused one's backward pass takes more than half of a step there; on 65 tokens the plain one is 2 times as fast
    over a whole step, forward and backward.

    Args:
        device: Where the model is.
    """
    if device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with sdpa_kernel(SDPBackend.MATH):
            yield
    else:
        yield


def caption_loss(
    encoder: ClipEncoder,
    pixels: Tensor,
    strangers: Tensor,
    captions: Sequence[str],
    truths: Tensor,
    *,
    scale: Tensor,
    weights: LossWeights,
) -> Tensor:
    """Match pictures with their captions and with every phrase that is true of them.

    Args:
        encoder: What is trained.
        pixels: Shape (B, 3, S, S), float32, prepared.
        strangers: Shape (B,), int64; equal numbers share their captions.
        captions: B texts.
        truths: Shape (B, P), bool: which phrases are true.
        scale: Shape (), float32, the factor in front of the cosines.
        weights: How the parts are added up.

    Returns:
        Shape (), float32, 0 or above.
    """
    with fast_attention(pixels.device):
        images = encoder.encode_images(pixels)
        texts = encoder.encode_texts([*captions, *PHRASES])
    owned = strangers.unsqueeze(1) == strangers.unsqueeze(0)  # (B, B)
    loss = multi_positive_contrastive(images, texts[: len(captions)], owned, scale, smoothing=weights.smoothing)
    attributes = torch.tensor([_ATTRIBUTES.index(name) for name in PHRASE_ATTRIBUTES], device=pixels.device)
    pieces = grouped_contrastive(images, texts[len(captions) :], truths, attributes, scale)
    return loss + weights.phrases * pieces + _same_picture(images, strangers, weights)


def class_loss(
    encoder: ClipEncoder,
    pixels: Tensor,
    labels: Tensor,
    prototypes: Tensor,
    *,
    scale: Tensor,
    weights: LossWeights,
) -> Tensor:
    """Match pictures with the texts of their classes.

    Args:
        encoder: What is trained.
        pixels: Shape (B, 3, S, S), float32, prepared.
        labels: Shape (B,), int64, in [0, C).
        prototypes: Shape (C, D), float32, unit rows: a text vector for each class.
        scale: Shape (), float32, the factor in front of the cosines.
        weights: How the parts are added up.

    Returns:
        Shape (), float32, 0 or above.
    """
    with fast_attention(pixels.device):
        images = encoder.encode_images(pixels)
    positives = labels.unsqueeze(1) == torch.arange(len(prototypes), device=labels.device)  # (B, C)
    loss = multi_positive_contrastive(images, prototypes, positives, scale, smoothing=weights.smoothing)
    return loss + _same_picture(images, labels, weights)


def _same_picture(images: Tensor, labels: Tensor, weights: LossWeights) -> Tensor:
    if weights.same_picture == 0.0:
        return images.new_zeros(())
    return weights.same_picture * supervised_contrastive(images, labels, temperature=weights.temperature)
