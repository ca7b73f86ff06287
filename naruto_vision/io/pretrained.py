"""Models of transformers in local folders: nothing is downloaded, no code of a folder runs, and no pickle is read."""

from pathlib import Path
from typing import Any

from naruto_vision.errors import FormatError, StateDictError
from naruto_vision.io.machine import require_package
from naruto_vision.io.text import printable


def open_pretrained(folder: Path, auto_class: str, task: str, **options: Any) -> tuple[Any, Any]:
    """Open a folder's model by a class of transformers ("AutoModelForImageTextToText"), and its processor.

    ``task`` says in messages what the model does. It is in evaluation mode.

    Raises:
        MissingPackageError: If transformers is not installed.
        FormatError: If the folder has no such model, or needs code or pickles.
        StateDictError: If weights are missing, which transformers would fill with random numbers.
    """
    transformers: Any = require_package("transformers", "sam2")
    logging: Any = transformers.utils.logging
    safely = {"local_files_only": True, "trust_remote_code": False}
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, report = getattr(transformers, auto_class).from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **safely, **options
        )
        processor = transformers.AutoProcessor.from_pretrained(folder, **safely)
    except Exception as error:  # noqa: BLE001 - tokenizers raises Exception itself, for files of others
        reason = printable(" ".join(str(error).split()))[:300] or type(error).__name__
        expected = f"a model of transformers that {task}, in safetensors and without code"
        raise FormatError(folder, expected, reason) from None
    finally:
        if bars:
            logging.enable_progress_bar()
    if report["missing_keys"] or report["mismatched_keys"]:
        reshaped = [str(one) for one in report["mismatched_keys"]]
        raise StateDictError(folder, type(model).__name__, sorted(report["missing_keys"]), reshaped=reshaped)
    return model.eval(), processor
