"""The bridge from an encoder's own preprocessing to a DataModule."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

from naruto_vision.encoders.base import Encoder
from naruto_vision.errors import InputError
from naruto_vision.records import Picture

if TYPE_CHECKING:  # `data shard` needs no Lightning, which takes longer to import than all else that it needs
    import lightning.pytorch as pl

Preprocess: TypeAlias = Callable[[Picture], Tensor]
"""From a picture (H, W, 3) uint8 RGB to pixels (3, S, S) float32, as an encoder wants them."""


def module_preprocess(trainer: "pl.Trainer | None") -> Preprocess:
    """Return the preprocessing of the encoder that is being trained or used.

    Args:
        trainer: Its LightningModule has an ``encoder``.

    Raises:
        InputError: If there is no trainer, or its module has no encoder.
    """
    encoder = getattr(getattr(trainer, "lightning_module", None), "encoder", None)
    if not isinstance(encoder, Encoder):
        msg = "data: expected a module with an `encoder` to prepare pictures for; give `preprocess` where there is none"
        raise InputError(msg)
    return encoder.preprocess
