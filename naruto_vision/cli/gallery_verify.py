"""``naruto-vision gallery verify``: look a gallery over and say what is wrong and how to mend it."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from naruto_vision.cli.gallery_options import add_encoder_options, add_gallery_argument
from naruto_vision.cli.trainer_args import GALLERY


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision gallery verify``.
    """
    add_gallery_argument(parser, default=GALLERY)
    add_encoder_options(parser, without="none, so that the gallery is not held against one")
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="look for the rows' images in this folder and its train/, valid/, …"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print what each check found.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        0; 1 if something is wrong.
    """
    from naruto_vision.gallery.verify import verify_gallery, worst

    fingerprint = None
    if arguments.encoder:
        from naruto_vision.encoders.opening import open_encoder

        fingerprint = open_encoder(arguments.encoder, arguments.pretrained).fingerprint
    findings = verify_gallery(arguments.gallery, fingerprint=fingerprint, images=arguments.root)
    verdict = worst(findings)
    if arguments.json:
        found = {"verdict": verdict, "findings": [dataclasses.asdict(finding) for finding in findings]}
        text = json.dumps(found, ensure_ascii=False, indent=2) + "\n"
    else:
        text = "".join(f"{finding.verdict:<8}{finding.check:<12}{finding.text}\n" for finding in findings)
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    return 1 if verdict == "wrong" else 0
