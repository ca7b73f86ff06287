"""``naruto-vision weights import``: a training checkpoint of CLIP becomes a bundle."""

import argparse
import sys
from pathlib import Path

from naruto_vision.errors import FormatError, InputError, MissingPathError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Args:
        parser: The parser of ``naruto-vision weights import``.
    """
    parser.add_argument("file", type=Path, help="the checkpoint: best.pt, with the weights under `model`")
    parser.add_argument("--model", default="ViT-B-32", help="its open_clip architecture (default: ViT-B-32)")
    parser.add_argument("--out", type=Path, required=True, help="where the bundle goes; must not exist yet")
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="where the file is refused: also accept NumPy numbers, paths and option lists in it; never code",
    )


def run(arguments: argparse.Namespace) -> int:
    """Read the checkpoint's tensors, hold them against the architecture, write the bundle.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If the file is refused or does not fit the architecture key for key, or ``--out`` is in use.
    """
    out: Path = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        msg = f"{out}: is not empty; give another --out"
        raise InputError(msg)
    from naruto_vision.encoders.clip import ClipEncoder

    if not arguments.file.is_file():
        raise MissingPathError(arguments.file, "checkpoint")
    try:
        encoder = ClipEncoder(arguments.model, str(arguments.file), trust_pickle=arguments.trust_pickle)
    except FormatError as error:
        hint = "" if arguments.trust_pickle else "; if it is a training script's own, try --trust-pickle"
        raise InputError(f"{error}{hint}") from None
    encoder.save(out, {"imported_from": arguments.file.name})
    sys.stdout.write(f"{len(encoder.clip.state_dict())} tensors of {arguments.model} are in {out}\n")
    return 0
