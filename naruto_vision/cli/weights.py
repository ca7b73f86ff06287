"""``naruto-vision weights``: list, download, verify and import weights."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from naruto_vision.cli.console import download_progress, show
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.atomic import check_empty
from naruto_vision.io.bundles import bundle_path, packaged_bundles
from naruto_vision.io.downloads import (
    FOLDER,
    OFFICIAL,
    HashSource,
    OfficialWeights,
    Verdict,
    check_weights,
    download_weights,
    find_weights,
)

_HASH_NOTES: Mapping[HashSource, str] = {
    "url": "sha256 in its address",
    "copies": "sha256 of public copies that agree",
    "hub": "sha256 on the official page",
    "none": "none published; recorded at the first download",
}
_SHORT: Mapping[HashSource, str] = {
    "url": "in its address",
    "copies": "public copies",
    "hub": "official page",
    "none": "first download",
}
_FAMILIES = {
    "SamModel": "SAM: predict --mask-weights NAME, or SamModel(weights=NAME)",
    "Sam2Model": "SAM 2.1: predict --mask-weights NAME, or Sam2Model(NAME); extra sam2",
    "ClipEncoder": "CLIP: --encoder NAME up to its dot, or ClipEncoder(model, pretrained=NAME)",
    "DinoEncoder": "DINOv2: --encoder NAME, or DinoEncoder(NAME)",
}
"""Constructor → heading of its weights."""


def weights_table(*, long: bool = False) -> str:
    """Lay out every packaged and every official weights file."""
    lines = ["packaged, by name (nothing to download)"]
    for name in packaged_bundles():
        size = (bundle_path(name) / "model.safetensors").stat().st_size / 1e6
        use = "segmenter's model" if name.endswith("-sam") else "encoder's model"
        lines.append(f"  {name:<32}{size:>6.0f} MB  Apache-2.0  {use}")
    for constructor, title in _FAMILIES.items():
        lines += ["", title]
        if not long:
            lines.append(f"  {'NAME':<32}{'SIZE':>9}  {'LICENCE':<12}SHA256 FROM")
        for row in OFFICIAL:
            if row.used_for.startswith(f"{constructor}("):
                lines += _official_lines(row, long=long)
    lines += ["", "`naruto-vision weights download NAME` downloads one into ./weights"]
    if not long:
        lines.append("`naruto-vision weights list --long` adds URLs, hashes and classes")
    return "\n".join(lines)


def _official_lines(row: OfficialWeights, *, long: bool) -> Iterator[str]:
    head = f"  {row.name:<32}{row.megabytes:>6} MB  {row.licence:<12}"
    if not long:
        yield head + _SHORT[row.hash_source]
        return
    yield head.rstrip()
    yield f"      {row.used_for}"
    yield f"      {row.url}"
    yield f"      sha256 {row.sha256 or '-'}"
    yield f"      hash: {_HASH_NOTES[row.hash_source]}" + f", MD5 {row.md5_prefix}… in its name" * bool(row.md5_prefix)


def _list_options(parser: argparse.ArgumentParser) -> None:
    text = "also show URLs, whole hashes and the class that reads each"
    parser.add_argument("--long", action="store_true", help=text)


def _list(arguments: argparse.Namespace) -> int:
    show(weights_table(long=arguments.long))
    return 0


def _folder_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="folder of downloaded weights")


def _download_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a name that `weights list` shows")
    parser.add_argument("--url", default="", help="base URL of a mirror that has the same file names")
    _folder_option(parser)


def _download(arguments: argparse.Namespace) -> int:
    row = find_weights(arguments.name)
    with download_progress(row.file) as progress:
        verdict = download_weights(row, arguments.out, base_url=arguments.url, progress=progress)
    show(_evidence(row, verdict))
    return 0


def _evidence(row: OfficialWeights, verdict: Verdict) -> str:
    match verdict.known:
        case "published":
            how = f"matches the published hash ({_HASH_NOTES[row.hash_source]})"
        case "recorded":
            how = "matches the hash recorded at the first download"
        case _:
            how = "no hash is published; this one is recorded in weights.lock.json and checked from now on"
    return f"{verdict.path}: sha256 {verdict.sha256}: {how}"


def _verify_options(parser: argparse.ArgumentParser) -> None:
    text = "name or file to verify (default: all official weights in the folder)"
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help=text)
    _folder_option(parser)


def _verify(arguments: argparse.Namespace) -> int:
    wrong = 0
    for row, path in _chosen(arguments.name, arguments.out):
        try:
            verdict = check_weights(row, path)
        except FormatError as error:
            wrong += 1
            show(f"WRONG {error}")
        else:
            show(f"ok    {path}: no hash is known" if verdict.known == "new" else f"ok    {_evidence(row, verdict)}")
    return 1 if wrong else 0


def _chosen(name: str, folder: Path) -> list[tuple[OfficialWeights, Path]]:
    if not name:
        found = [(row, folder / row.file) for row in OFFICIAL if (folder / row.file).is_file()]
        if not found:
            raise MissingPathError(folder, "folder with official weights", "give --out DIR, or a file")
        return found
    row = find_weights(Path(name).name)
    path = Path(name) if Path(name).is_file() else folder / row.file
    if not path.is_file():
        raise MissingPathError(path, "weights file", f"run: naruto-vision weights download {row.name}")
    return [(row, path)]


def _import_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="checkpoint (.pt) with the weights under the key model")
    add("--encoder", default="ViT-B-32", metavar="MODEL", help="open_clip architecture of the checkpoint")
    add("--out", type=Path, required=True, metavar="DIR", help="bundle folder; must be empty or new")
    text = "also accept NumPy numbers, paths and argparse options in the checkpoint, never code (default: refuse)"
    add("--trust-pickle", action="store_true", help=text)


def _import(arguments: argparse.Namespace) -> int:
    """Read the checkpoint's tensors, check them against the architecture, write the bundle."""
    out: Path = arguments.out
    check_empty(out)
    if not arguments.file.is_file():
        raise MissingPathError(arguments.file, "checkpoint")
    from naruto_vision.encoders.clip import ClipEncoder

    try:
        encoder = ClipEncoder(arguments.encoder, str(arguments.file), trust_pickle=arguments.trust_pickle)
    except FormatError as error:
        hint = "" if arguments.trust_pickle else "; if your own training script wrote it, try --trust-pickle"
        raise InputError(f"{error}{hint}") from None
    encoder.save(out, {"imported_from": arguments.file.name})
    show(f"{len(encoder.clip.state_dict())} tensors of {arguments.encoder} are in {out}")
    return 0


COMMANDS = {
    "weights list": (_list_options, _list),
    "weights download": (_download_options, _download),
    "weights verify": (_verify_options, _verify),
    "weights import": (_import_options, _import),
}
