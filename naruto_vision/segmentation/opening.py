"""Open promptable models by the name of their weights."""

from pathlib import Path

from naruto_vision.errors import InputError
from naruto_vision.segmentation.sam import SIZES, SamModel
from naruto_vision.segmentation.sam2 import Sam2Model


def open_promptable_model(weights: str | Path = "tiny-sam") -> "SamModel | Sam2Model":
    """Open a SAM of any version by the name of its weights, in evaluation mode.

    Args:
        weights: ``tiny-sam``; an official name (``sam_vit_b``, ``sam2.1_hiera_tiny``); an official file, whose name has
            the model in it (``sam_vit_b_01ec64.pth``, ``sam2.1_hiera_tiny.pt``); or the folder of a SAM bundle.

    Raises:
        MissingPathError: If the weights do not exist.
        MissingPackageError: If they are of SAM 2, and transformers is not installed.
        FormatError: If the file cannot be read, or is of an unknown size of SAM 2.
        StateDictError: If the file is of another model than its name says.
        InputError: If a file's name does not identify the model.

    Examples:
        >>> import naruto_vision as nv
        >>> segmenter = nv.Segmenter(nv.GridPrompter(4), nv.open_promptable_model("tiny-sam"))
    """
    path = Path(weights)
    if "sam2" in path.name.lower():
        return Sam2Model(weights).eval()
    named = any(size in path.name for size in SIZES)
    if path.is_file() and not named:
        msg = f"{weights}: cannot tell the model from the name: expected sam2, or one of {', '.join(SIZES)}, in it"
        raise InputError(f"{msg}; rename the file, such as sam_vit_b_01ec64.pth or sam2.1_hiera_tiny.pt")
    return SamModel(weights=weights).eval()
