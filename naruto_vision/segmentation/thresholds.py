"""Which of a model's answers count as masks. The numbers belong to the weights, so they travel in their bundle."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from naruto_vision.errors import InputError


@dataclass(frozen=True)
class MaskThresholds:
    """What an answer has to reach. The defaults are those that the official weights were published with.

    Args:
        predicted_iou: The model's own estimate has to be above this.
        stability: The stability score has to reach this, in [0, 1].
        stability_offset: How far the stability score moves the threshold, in logits.
        box_nms: Of two boxes whose IoU is above this, the one with the lower estimate goes.

    Raises:
        InputError: If a number is out of its range.

    Example:
        >>> MaskThresholds().override(stability=0.7).stability
        0.7
    """

    predicted_iou: float = 0.88
    stability: float = 0.95
    stability_offset: float = 1.0
    box_nms: float = 0.7

    def __post_init__(self) -> None:
        if not (0 <= self.stability <= 1 and 0 <= self.box_nms <= 1 and self.stability_offset >= 0):
            msg = f"mask thresholds: expected stability and box_nms in [0, 1], stability_offset >= 0, found {self}"
            raise InputError(msg)

    def override(self, **values: float | None) -> "MaskThresholds":
        """Return a copy in which every value that is not None replaces its namesake.

        Args:
            values: New values by field name.
        """
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def as_json(self) -> dict[str, float]:
        """Return the numbers by name, for a bundle's ``model.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, object], where: str) -> "MaskThresholds":
        """Read the numbers of a bundle.

        Args:
            record: Numbers by name; those that are absent take their defaults.
            where: The file, for the error message.

        Raises:
            InputError: If a name is none of ours or a value is not a number.
        """
        names = {field.name for field in fields(cls)}
        numbers = {name: float(value) for name, value in record.items() if isinstance(value, int | float)}
        if len(numbers) != len(record) or not set(numbers) <= names:
            msg = f"{where}: expected thresholds {', '.join(sorted(names))} as numbers, found {dict(record)}"
            raise InputError(msg)
        return cls(**numbers)
