"""``naruto-vision weights``: list, download and verify the official weights, and import one's own."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.bundles import bundle_path, packaged_bundles
from naruto_vision.io.downloads import (
    OFFICIAL,
    HashSource,
    OfficialWeights,
    Verdict,
    check_weights,
    download_weights,
    find_weights,
)

HASH_NOTES: Mapping[HashSource, str] = {
    "url": "sha256 in its address",
    "copies": "sha256 of public copies that agree",
    "hub": "sha256 on the official page",
    "none": "none published; recorded at the first download",
}
"""Where a hash comes from, in words."""

_SHORT: Mapping[HashSource, str] = {
    "url": "in its address",
    "copies": "public copies",
    "hub": "official page",
    "none": "first download",
}
_FAMILIES = {
    "SamModel": "SAM: --model.segmenter.init_args.model.init_args.weights FILE",
    "ClipEncoder": "CLIP: --model.encoder.init_args.pretrained FILE",
    "DinoEncoder": "DINOv2: DinoEncoder, --model.encoder.init_args.weights FILE",
}
"""Constructor → what stands over its weights."""


def weights_table(*, long: bool = False) -> str:
    """Lay out every packaged and every official weights file."""
    lines = ["packaged, by name (nothing to download)", *map(_packaged_line, packaged_bundles())]
    for constructor, title in _FAMILIES.items():
        rows = [row for row in OFFICIAL if row.used_for.startswith(f"{constructor}(")]
        lines += ["", title, *_official_lines(rows, long=long)]
    return "\n".join([*lines, "", *_closing(long=long)])


def _packaged_line(name: str) -> str:
    size = (bundle_path(name) / "model.safetensors").stat().st_size / 1e6
    use = "segmenter's model" if name.endswith("-sam") else "encoder's model"
    return f"  {name:<32}{size:>6.0f} MB  Apache-2.0  {use}"


def _official_lines(rows: Sequence[OfficialWeights], *, long: bool) -> Iterator[str]:
    if rows and not long:
        yield f"  {'NAME':<32}{'SIZE':>9}  {'LICENCE':<12}SHA256 FROM"
    for row in rows:
        head = f"  {row.name:<32}{row.megabytes:>6} MB  {row.licence:<12}"
        yield head.rstrip() if long else head + _SHORT[row.hash_source]
        if long:
            yield from _details(row)


def _details(row: OfficialWeights) -> Iterator[str]:
    yield f"      {row.used_for}"
    yield f"      {row.url}"
    yield f"      sha256 {row.sha256 or '-'}"
    yield f"      hash: {HASH_NOTES[row.hash_source]}" + (f", MD5 {row.md5_prefix}… in its name" * bool(row.md5_prefix))


def _closing(*, long: bool) -> Iterator[str]:
    yield "`naruto-vision weights download NAME` fetches one into ./weights"
    if not long:
        yield "`naruto-vision weights list --long` adds addresses, hashes and what reads each"


DEFAULT_FOLDER = Path("weights")
"""In the current folder, so that nothing large lands in a home folder unasked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|download|verify|import")
    listing = actions.add_parser("list", help="show every name with its size and licence")
    listing.add_argument("--long", action="store_true", help="addresses, whole hashes and what reads them too")
    download = actions.add_parser("download", help="download one file; an unfinished one is continued")
    download.add_argument("name", help="a name that `weights list` shows")
    download.add_argument("--url", default="", help="folder of a mirror that serves the same file names")
    verify = actions.add_parser("verify", help="check files against their hashes")
    verify.add_argument("name", nargs="?", default="", help="a name or a file (default: all that are in the folder)")
    imported = actions.add_parser("import", help="make a bundle of a training checkpoint of CLIP")
    imported.add_argument("file", type=Path, help="the checkpoint: best.pt, with the weights under `model`")
    imported.add_argument("--model", default="ViT-B-32", help="its open_clip architecture (default: ViT-B-32)")
    imported.add_argument("--out", type=Path, required=True, help="where the bundle goes; must not exist yet")
    imported.add_argument(
        "--trust-pickle",
        action="store_true",
        help="where the file is refused: also accept NumPy numbers, paths and option lists in it; never code",
    )
    for action in (download, verify):
        action.add_argument("--out", type=Path, default=DEFAULT_FOLDER, help="the weights folder (default: ./weights)")


def run(arguments: argparse.Namespace) -> int:
    """List, download, verify or import."""
    match arguments.action:
        case "list":
            _write(weights_table(long=arguments.long))
            return 0
        case "download":
            _write(_tell(find_weights(arguments.name), _download(arguments)))
            return 0
        case "import":
            return _import(arguments)
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
            how = f"matches the published hash ({HASH_NOTES[row.hash_source]})"
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


def _import(arguments: argparse.Namespace) -> int:
    """Read the checkpoint's tensors, hold them against the architecture, write the bundle."""
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
