"""What validation says about a CLIP: plain torch, from the vectors of one pass."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor
from torch.nn.functional import cross_entropy

from naruto_vision.metrics.confusion import class_figures, confusion_matrix
from naruto_vision.metrics.retrieval import leave_one_out_accuracy, recall_at_1

BestBy: TypeAlias = Literal["macro_accuracy", "accuracy"]


@dataclass(frozen=True)
class PassFigures:
    """The figures of one pass.

    Args:
        score: What decides which weights are best: the figure in [0, 1], then, where that is equal,
            minus the loss or the recall in the other direction.
        named: Name to figure, for logs and bundles.
        confusion: Shape (C, C), int64, rows are true classes; None where the data are captions.
    """

    score: tuple[float, float]
    named: dict[str, float]
    confusion: Tensor | None = None


def caption_figures(pictures: Tensor, captions: Tensor) -> PassFigures:
    """Measure how well captions and pictures find each other, one among all N.

    Args:
        pictures: Shape (N, D), float32, unit rows.
        captions: Shape (N, D), float32, unit rows; row i belongs to picture i.
    """
    recall = recall_at_1(captions, pictures)
    named = {
        "recall_at_1": recall,
        "picture_recall_at_1": recall_at_1(pictures, captions),
        "chance": 1.0 / max(len(pictures), 1),
    }
    return PassFigures((recall, named["picture_recall_at_1"]), named)


def label_figures(
    pictures: Tensor, labels: Tensor, prototypes: Tensor, scale: Tensor, best_by: BestBy = "macro_accuracy"
) -> PassFigures:
    """Measure how well pictures are named by the nearest prototype, and by the nearest other picture.

    Args:
        pictures: Shape (N, D), float32, unit rows.
        labels: Shape (N,), int64, in [0, C).
        prototypes: Shape (C, D), float32, unit rows.
        scale: Shape (), float32, the factor in front of the cosines.
        best_by: Which figure decides which weights are best; where it is equal, the smaller loss does.
    """
    cosines = pictures @ prototypes.T  # (N, C)
    confusion = confusion_matrix(cosines.argmax(dim=1), labels, len(prototypes))
    figures = class_figures(confusion)
    named = {
        "loss": float(cross_entropy(scale * cosines, labels)),
        "accuracy": figures.accuracy,
        "macro_accuracy": figures.macro_accuracy,
        "macro_f1": figures.macro_f1,
        "nearest_accuracy": leave_one_out_accuracy(pictures, labels),
    }
    # A mean over classes of other shares may differ in its last bit though it is the same figure.
    return PassFigures((round(named[best_by], 9), -named["loss"]), named, confusion)
