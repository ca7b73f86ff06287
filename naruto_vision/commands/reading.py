"""The options of every command that reads class data: one place, so that they mean the same everywhere."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.errors import FormatError, InputError, JsonError, MissingPathError

if TYPE_CHECKING:
    from naruto_vision.data.rows import ReadRules

_TEXTS_HINT = "lists of texts for each class belong to --model.aliases_json of `fit`"


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Declare how class data are read.

    Args:
        parser: The parser to add to.
    """
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="keep these classes only, in this order")
    parser.add_argument(
        "--rename", nargs="+", metavar="OLD=NEW", help="class names to mend, as found = as they should be: Mira=Myra"
    )
    parser.add_argument(
        "--aliases",
        type=Path,
        metavar="FILE",
        help='the same as a JSON file: {"Mira": "Myra"}; not the texts that `fit` takes (--model.aliases_json)',
    )
    parser.add_argument(
        "--policy",
        choices=("single_only", "first", "all"),
        default="single_only",
        help="what becomes of pictures with several classes: left out, only the first class, or a row for each "
        "(default: single_only)",
    )
    parser.add_argument(
        "--include-unlabeled",
        action="store_true",
        help='keep pictures without any class, under the placeholder "Unlabeled", the last class (default: left out)',
    )
    parser.add_argument(
        "--reader",
        choices=("auto", "shards", "roboflow", "manifest", "folders"),
        default="auto",
        help="how the folder is laid out (default: auto looks)",
    )


def read_aliases(path: Path | None) -> dict[str, str]:
    """Read a file of class names to mend.

    Args:
        path: JSON object: name as found, to the name that it should have. None is an empty one.

    Raises:
        MissingPathError: If there is no such file.
        FormatError: If it is not such an object.
    """
    if path is None:
        return {}
    if not path.is_file():
        raise MissingPathError(path, "alias file")
    try:
        aliases = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise JsonError(path, error) from None
    if not isinstance(aliases, dict) or not all(isinstance(name, str) and name for name in aliases.values()):
        raise FormatError(path, 'an object of names like {"Mira": "Myra"}', repr(aliases)[:60], _TEXTS_HINT)
    return {str(name): str(mended) for name, mended in aliases.items()}


def read_renames(words: list[str] | None) -> dict[str, str]:
    """Read class names to mend from the command line.

    Args:
        words: Each ``OLD=NEW``; None is none.

    Raises:
        InputError: If a word has another form.
    """
    renames = {}
    for word in words or []:
        old, _, new = word.partition("=")
        if not old or not new:
            msg = f"--rename {word}: expected OLD=NEW, the class as found and as it should be"
            raise InputError(msg)
        renames[old] = new
    return renames


def rules_of(arguments: argparse.Namespace, *, need_files: bool = True) -> "ReadRules":
    """Make the reading rules that a command's options ask for.

    Args:
        arguments: What ``add_reading_options`` declared.
        need_files: Leave out rows whose file is absent.

    Raises:
        InputError: If the classes to mend cannot be read.
    """
    from naruto_vision.data.rows import ReadRules

    return ReadRules(
        aliases={**read_aliases(arguments.aliases), **read_renames(arguments.rename)},
        policy=arguments.policy,
        labels=tuple(arguments.labels) if arguments.labels else None,
        include_unlabeled=arguments.include_unlabeled,
        need_files=need_files,
    )
