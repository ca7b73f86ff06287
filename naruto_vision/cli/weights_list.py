"""What ``weights list`` shows: the weights that travel with the package, and the official ones, one line each."""

import argparse
from collections.abc import Iterator, Mapping, Sequence

from naruto_vision.io.bundles import bundle_path, packaged_bundles
from naruto_vision.io.downloads import OFFICIAL, HashSource, OfficialWeights

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Args:
        parser: The parser of ``weights list``.
    """
    parser.add_argument("--long", action="store_true", help="addresses, whole hashes and what reads them too")


def weights_table(*, long: bool = False) -> str:
    """Lay out every packaged and every official weights file.

    Args:
        long: Tell all of each one, on lines of its own.

    Returns:
        Plain text of at most 80 columns; addresses and hashes of the long form have no bound.
    """
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
