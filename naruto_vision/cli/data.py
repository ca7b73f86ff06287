"""The options of every command that reads class data: one place, so that they mean the same everywhere."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from naruto_vision.errors import FormatError, InputError, JsonError, MissingPathError

if TYPE_CHECKING:
    from naruto_vision.data.tables import ReadRules
    from naruto_vision.records import LabelledBox


def read_label_map(text: str) -> dict[str, str]:
    """Read the spellings that are to be mended.

    Args:
        text: Such as ``Mira:Myra;Bo:Boh``; blanks around names do not count.

    Returns:
        Label as found, to the label that it should be.

    Raises:
        InputError: If a part is not ``found:right``, or a name is mended twice in different ways.
    """
    names: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        found, colon, right = (word.strip() for word in part.partition(":"))
        if not (found and colon and right):
            msg = f"--label-map: expected pairs like 'Mira:Myra;Bo:Boh', found {part!r}"
            raise InputError(msg)
        if names.setdefault(found, right) != right:
            msg = f"--label-map: {found!r} is to become both {names[found]!r} and {right!r}"
            raise InputError(msg)
    return names


def tell_idle_names(names: Mapping[str, str], sides: "Sequence[Mapping[str, Sequence[LabelledBox]]]") -> None:
    """Name the labels to mend that nothing carries: often a spelling mistake in themselves.

    Args:
        names: What ``read_label_map`` returns.
        sides: Scenes with their boxes: the truth, and each run.
    """
    carried = {box.label for side in sides for boxes in side.values() for box in boxes}
    idle = [name for name, right in names.items() if name not in carried and name != right]
    if idle:
        sys.stderr.write(f"--label-map: no object and no prediction is called {', '.join(idle)}\n")


_TEXTS_HINT = "lists of texts for each class belong to --model.texts.aliases_json of `fit`"


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
        help='the same as a JSON file: {"Mira": "Myra"}; not the texts that `fit` takes (--model.texts.aliases_json)',
    )
    parser.add_argument(
        "--policy",
        choices=("single_only", "first", "all"),
        default="single_only",
        help="what becomes of images with several classes: left out, only the first class, or a row for each "
        "(default: single_only)",
    )
    parser.add_argument(
        "--include-unlabeled",
        action="store_true",
        help='keep images without any class, under the placeholder "Unlabeled", the last class (default: left out)',
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
    from naruto_vision.data.tables import ReadRules

    return ReadRules(
        aliases={**read_aliases(arguments.aliases), **read_renames(arguments.rename)},
        policy=arguments.policy,
        labels=tuple(arguments.labels) if arguments.labels else None,
        include_unlabeled=arguments.include_unlabeled,
        need_files=need_files,
    )
