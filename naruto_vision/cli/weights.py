"""``naruto-vision weights``: list, download and verify the official weights, and import one's own."""

import argparse
import sys
from pathlib import Path

from naruto_vision.cli import weights_import, weights_list
from naruto_vision.errors import FormatError, MissingPathError
from naruto_vision.io.downloads import OFFICIAL, OfficialWeights, Verdict, check_weights, download_weights, find_weights

DEFAULT_FOLDER = Path("weights")
"""In the current folder, so that nothing large lands in a home folder unasked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision weights``.
    """
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|download|verify|import")
    weights_list.add_arguments(actions.add_parser("list", help="show every name with its size and licence"))
    download = actions.add_parser("download", help="download one file; an unfinished one is continued")
    download.add_argument("name", help="a name that `weights list` shows")
    download.add_argument("--url", default="", help="folder of a mirror that serves the same file names")
    verify = actions.add_parser("verify", help="hold files against their hashes")
    verify.add_argument("name", nargs="?", default="", help="a name or a file (default: all that are in the folder)")
    weights_import.add_arguments(actions.add_parser("import", help="make a bundle of a training checkpoint of CLIP"))
    for action in (download, verify):
        action.add_argument("--out", type=Path, default=DEFAULT_FOLDER, help="the weights folder (default: ./weights)")


def run(arguments: argparse.Namespace) -> int:
    """List, download, verify or import.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        0; 1 if a verified file is wrong.

    Raises:
        InputError: If the name is unknown, or the download fails or is refused.
    """
    match arguments.action:
        case "list":
            _write(weights_list.weights_table(long=arguments.long))
            return 0
        case "download":
            _write(_tell(find_weights(arguments.name), _download(arguments)))
            return 0
        case "import":
            return weights_import.run(arguments)
        case _:
            return _verify(arguments.name, arguments.out)


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")


def _download(arguments: argparse.Namespace) -> Verdict:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    row = find_weights(arguments.name)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(row.file, total=None)

        def show(here: int, total: int) -> None:
            bar.update(task, completed=here, total=total or None)

        return download_weights(row, arguments.out, base_url=arguments.url, progress=show)


def _tell(row: OfficialWeights, verdict: Verdict) -> str:
    match verdict.known:
        case "published":
            how = f"matches the published hash ({weights_list.HASH_NOTES[row.hash_source]})"
        case "recorded":
            how = "matches the record of its first download"
        case _:
            how = "no hash is published for it; this one is recorded in weights.lock.json and held from now on"
    return f"{verdict.path}: sha256 {verdict.sha256}: {how}"


def _verify(name: str, folder: Path) -> int:
    wrong = 0
    for row, path in _chosen(name, folder):
        try:
            verdict = check_weights(row, path)
        except FormatError as error:
            wrong += 1
            _write(f"WRONG {error}")
        else:
            found = "nothing is known to hold it against" if verdict.known == "new" else _tell(row, verdict)
            _write(f"ok    {path}: {found}" if verdict.known == "new" else f"ok    {found}")
    return 1 if wrong else 0


def _chosen(name: str, folder: Path) -> list[tuple[OfficialWeights, Path]]:
    if not name:
        found = [(row, folder / row.file) for row in OFFICIAL if (folder / row.file).is_file()]
        if not found:
            raise MissingPathError(folder, "folder with official weights", "give --out, or a file")
        return found
    row = find_weights(Path(name).name)
    path = Path(name) if Path(name).is_file() else folder / row.file
    if not path.is_file():
        raise MissingPathError(path, "weights file", f"run: naruto-vision weights download {row.name}")
    return [(row, path)]
