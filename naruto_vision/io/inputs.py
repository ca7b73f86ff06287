"""Find the images and videos that a user names: files, folders, patterns, lists of names; without torch."""

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import msgspec

from naruto_vision.errors import BadImageError, BadVideoError, FormatError, InputError, MissingPathError
from naruto_vision.io.images import Listing, is_image_name, read_image, scan_folder
from naruto_vision.io.tars import expand_braces, is_tar, list_tar
from naruto_vision.io.typed_json import read_json
from naruto_vision.io.video import VIDEO_SUFFIXES, is_video_name
from naruto_vision.io.video_process import IsolatedVideoReader

IMAGES = "images"
"""The folder of the images in a scene folder, which may have ``gt.json`` beside it."""
_USED = ("gt.json", "coco.json")  # truth, which other code reads
LIST = "@"
"""Marks the name of a file that lists names."""

ImageNames: TypeAlias = str | Path | Sequence[str | Path]
"""An image, a folder, a tar file of images, a pattern such as ``shots/*.jpg`` or ``scenes-{000..999}.tar``,
``@FILE`` with a name per line, or several of these.

Each may have several names, as ``split_names`` reads them: the parser of configs is slow for long sequences.
"""


@dataclass(frozen=True)
class ImageFiles:
    """Images as sorted POSIX paths below one folder, after absolute ones that do not exist, with the reason of each."""

    root: Path
    names: tuple[str, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None  # the folder that was named alone
    listing: Listing = field(default_factory=Listing)  # what the folders have, and what was passed over

    def require_readable(self) -> None:
        """Decode images until one can be read; InputError with the first reason if none can."""
        reasons = list(self.refused.values())
        for name in self.names[len(reasons) :]:
            try:
                if is_movie(name):
                    IsolatedVideoReader(self.root / name).close()
                else:
                    read_image(self.root / name)
            except (BadImageError, BadVideoError, MissingPathError) as error:
                reasons.append(str(error))
            else:
                return
        raise InputError(_none_readable(reasons))


def is_movie(name: str | Path) -> bool:
    """Return whether scenes of a file are its frames; of a GIF, as of other images, the first frame is the scene."""
    return is_video_name(name) and Path(name).suffix.lower() != ".gif"


class _Shard(msgspec.Struct):
    name: str


class _ShardIndex(msgspec.Struct):
    shards: list[_Shard]


def _shards_in(name: str) -> list[str]:
    """Return the shards in a folder that ``data shard`` wrote, also missing ones; none of another folder."""
    index = os.path.join(name, "index.json")  # noqa: PTH118 - no error for a name that is too long
    if not os.path.isfile(index):  # noqa: PTH113 - as above
        return []
    try:
        shards = read_json(Path(index), _ShardIndex).shards
    except FormatError:
        return []
    return [os.path.join(name, shard.name) for shard in shards if "/" not in shard.name]  # noqa: PTH118 - as above


def _shown(name: str) -> bool:
    return not Path(name).name.startswith(".")


def _scan(folder: Path, *, videos: bool) -> Listing:
    """List a folder's images, and its videos with them if they are wanted."""
    listing = scan_folder(folder, _USED)
    if not videos:
        return listing
    movies = [name for names in listing.passed_over.values() for name in names if is_movie(name) and _shown(name)]
    passed = {reason: tuple(n for n in names if n not in movies) for reason, names in listing.passed_over.items()}
    return Listing((*listing.images, *movies), {reason: names for reason, names in passed.items() if names})


def _scan_tar(tar: Path) -> tuple[Listing, str]:
    """List the images in a tar file, and say what is damaged; files of the same samples are not passed over."""
    found = list_tar(tar)
    images = tuple(sorted(filter(is_image_name, found.files)))
    keys = set(map(_sample_key, images))
    others = tuple(sorted(name for name in found.files if _sample_key(name) not in keys))
    passed = {**found.passed_over, "no image, in a tar file": others}
    damage = f"damaged behind {len(images)} images: {found.damage}" if found.damage else ""
    return Listing(images, {reason: names for reason, names in passed.items() if names}), damage


def _sample_key(name: str) -> str:
    """Return what the files of one sample have in common: the name up to its first dot."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _scan_named(path: Path, *, videos: bool) -> tuple[Path, Listing, str]:
    """List a folder or a tar file; return the folder of the images, the listing, and what is wrong with it."""
    if is_tar(path):
        listing, wrong = _scan_tar(path)
        return path, listing, wrong or "no images in this tar file" * (not listing.images)
    folder = images_folder(path)
    listing = _scan(folder, videos=videos)
    return folder, listing, "no images in this folder" * (not listing.images)


def find_images(sources: ImageNames, *, videos: bool = False) -> ImageFiles:
    """Find the named images, each once.

    A tar file is searched like a folder: ``scenes.tar/key.jpg`` is an image in it. The paths are relative to a folder
    that is named alone (or to ``images/`` in it), otherwise to the common parent of all folders and files. What does
    not exist is listed with its reason, unless there is nothing else. With ``videos`` those in folders are found too.
    """
    names = [each for name in _names_in(sources) for each in _shards_in(name) or [name]]
    if len(names) == 1 and os.path.isdir(names[0]):  # noqa: PTH112 - false for a name that is too long
        root = images_folder(names[0])
        listing = _scan(root, videos=videos)
        listing.refuse_empty(root)
        return ImageFiles(root, tuple(sorted(listing.images)), folder=Path(names[0]), listing=listing)
    found: set[Path] = set()
    parents: set[Path] = set()
    refused: dict[str, str] = {}
    passed: dict[str, tuple[str, ...]] = {}
    for name in _expanded(names):
        path = Path(os.path.abspath(name))  # noqa: PTH100 - without "..", unlike Path.absolute
        if not os.path.lexists(path):
            refused[str(path)] = f"{name}: no such image or folder"
        elif path.is_dir() or is_tar(path):
            folder, inside, wrong = _scan_named(path, videos=videos)
            parents.add(folder)
            if wrong:
                refused[str(path)] = f"{name}: {wrong}"
            found.update(folder / image for image in inside.images)
            for reason, files in inside.passed_over.items():
                passed[reason] = (*passed.get(reason, ()), *(f"{name}/{file}" for file in files))
        else:
            parents.add(path.parent)
            found.add(path)
    if not found:
        raise InputError(_none_readable(list(refused.values())))
    root = Path(os.path.commonpath(parents))
    images = (*sorted(refused), *sorted(path.relative_to(root).as_posix() for path in found))
    return ImageFiles(root, images, refused, listing=Listing(images, passed))


def find_videos(sources: ImageNames) -> list[Path]:
    """Find the named videos, each once: files of any name, and in folders those with the name of a video.

    What does not exist is in the list, so that it can be counted; InputError if a folder has no videos.
    """
    found: dict[Path, None] = {}
    for name in _expanded(_names_in(sources)):
        path = Path(name)
        inside = [path]
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if is_video_name(each) and each.is_file())
            inside = [each for each in inside if not any(part[0] == "." for part in each.relative_to(path).parts)]
        if not inside:
            raise InputError(f"{name}: no videos in this folder ({', '.join(sorted(VIDEO_SUFFIXES))})")
        found.update(dict.fromkeys(inside))
    if not found:
        raise InputError("no videos are named; give videos, a folder or a pattern")
    return list(found)


def _none_readable(reasons: Sequence[str]) -> str:
    if len(reasons) > 1:
        return f"none of {len(reasons)} images can be read; first {reasons[0]}"
    return reasons[0] if reasons else "no images are named; give images, a folder or a pattern"


def images_folder(folder: str | Path) -> Path:
    """Return the folder of a scene folder's images: ``images/`` in it, or the folder itself."""
    root = Path(folder)
    return root / IMAGES if (root / IMAGES).is_dir() else root


def _expanded(names: Sequence[str]) -> Iterator[str]:
    """Replace lists and patterns by what they name; a name that exists as it is written is neither."""
    for name in names:
        if name.startswith(LIST) and not os.path.lexists(name):
            yield from chain.from_iterable(map(_matches, _listed(Path(name.removeprefix(LIST)))))
        else:
            yield from _matches(name)


def _matches(name: str) -> Sequence[str]:
    if os.path.lexists(name):
        return [name]
    names = expand_braces(name)
    if not glob.has_magic(name):
        return names
    return [found for each in names for found in glob.glob(each, recursive=True)] or [name]  # noqa: PTH207 - absolute too


def _listed(path: Path) -> list[str]:
    """Read the names in a file; they are relative to the working directory, or else to the file's folder."""
    if not path.is_file():
        raise MissingPathError(path, "list of images")
    names = split_names(path.read_bytes())
    if not names:
        raise InputError(f"{path}: lists no images; expected a name per line")
    return [name if os.path.lexists(name) else str(path.parent / name) for name in names]


def _names_in(sources: ImageNames) -> list[str]:
    listed = [sources] if isinstance(sources, (str, Path)) else sources
    return [name for each in listed for name in split_names(os.fsencode(each))]


def split_names(data: bytes) -> list[str]:
    """Split a list of file names, separated by NUL or by line feeds."""
    names = data.split(b"\0") if b"\0" in data else data.removeprefix(b"\xef\xbb\xbf").splitlines()
    return [os.fsdecode(name) for name in names if name.strip()]
