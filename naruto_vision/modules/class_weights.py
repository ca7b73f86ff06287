"""How much each class counts while a CLIP is tuned."""

import logging
from typing import Literal, TypeAlias

from torch import Tensor

from naruto_vision.errors import InputError
from naruto_vision.losses.classes import inverse_frequency

ClassWeights: TypeAlias = Literal["none", "inverse_frequency"]

_LOG = logging.getLogger(__name__)


def read_class_weights(kind: ClassWeights, data: object) -> Tensor | None:
    """Work out how much each class counts.

    Args:
        kind: "none", or "inverse_frequency".
        data: The data module, with ``class_counts`` and ``balanced``.

    Returns:
        Shape (C,), float32; None where all classes count the same.

    Raises:
        InputError: If the data have no classes to count.
    """
    if kind == "none":
        return None
    counts = getattr(data, "class_counts", None)
    if counts is None:
        msg = "class_weights=inverse_frequency needs class data, whose pictures can be counted; use class_weights=none"
        raise InputError(msg)
    if getattr(data, "balanced", False):
        _LOG.warning("class_weights=inverse_frequency and data.balanced favour rare classes twice; choose one of them")
    return inverse_frequency(counts)
