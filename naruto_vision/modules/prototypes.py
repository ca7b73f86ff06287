"""The text side of classes while a CLIP is tuned."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.prompts import text_prototypes

TextsPerStep: TypeAlias = Literal["one", "all"]

_TEXT_STREAM = 3  # keeps the choice of texts apart from the data's random numbers


class ClassPrototypes:
    """Text vectors of classes: all texts averaged, or one text a class and step.

    Args:
        encoder: Embeds the texts; kept as it is, so its weights may go on changing.
        texts: For each of the C classes, one or more texts.
        seed: Decides which text a step sees.
        per_step: Whether a step of a trained text tower sees one text a class, or the average of all.

    Attributes:
        texts: What was given.
    """

    def __init__(
        self, encoder: ClipEncoder, texts: Sequence[Sequence[str]], seed: int = 0, per_step: TextsPerStep = "one"
    ) -> None:
        self._encoder = encoder
        self.texts = texts
        self._seed = seed
        self._per_step = per_step
        self._kept: Tensor | None = None
        self._stamp: list[tuple[int, int]] = []

    def forget(self) -> None:
        """Drop the kept average, unless the text tower is frozen: then it is that of the whole run."""
        if self._encoder.trains_text:
            self._kept = None

    def averaged(self) -> Tensor:
        """Average every text of each class, once until ``forget`` or until weights are loaded; no gradient flows.

        Returns:
            Shape (C, D), float32, unit rows.
        """
        stamp = [(value.data_ptr(), value._version) for value in self._encoder.text_parameters()]
        if self._kept is None or stamp != self._stamp:
            # Validation runs in inference mode, and what is made there could not be used by the next training step.
            with torch.inference_mode(False), torch.no_grad():
                self._kept, self._stamp = text_prototypes(self._encoder, self.texts), stamp
        return self._kept

    def for_step(self, step: int) -> Tensor:
        """Embed one text a class, another choice each step, or average all of them; gradients flow.

        Frozen texts are averaged instead, because they cost nothing after the first time.

        Args:
            step: Number of the optimiser step; with the seed it decides the choice.

        Returns:
            Shape (C, D), float32, unit rows.
        """
        if not self._encoder.trains_text:
            return self.averaged()
        if self._per_step == "all":
            return text_prototypes(self._encoder, self.texts)
        return self._encoder.encode_texts(self.chosen(step))

    def chosen(self, step: int) -> list[str]:
        """Choose one text a class.

        Args:
            step: Number of the optimiser step; with the seed it decides the choice.

        Returns:
            C texts.
        """
        rng = np.random.default_rng([_TEXT_STREAM, self._seed, step])
        return [own[int(rng.integers(len(own)))] for own in self.texts]
