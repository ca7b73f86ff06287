"""The pictures that an audit looks at: those of the splits and of a gallery, each decoded once where it is there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from naruto_vision.data.paths import find_inside, refusal
from naruto_vision.data.picture_hash import Looks, look_at
from naruto_vision.data.tables import ClassTable, Split
from naruto_vision.errors import BadImageError, MissingPathError
from naruto_vision.files.images import read_image
from naruto_vision.files.quarantine import Quarantine
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.records import LabelledPicture

GALLERY = "gallery"
"""The name that a gallery's pictures go under, beside "train", "valid" and "test"."""


@dataclass(frozen=True)
class AuditItem:
    """One picture.

    Args:
        part: "train", "valid", "test" or "gallery".
        row: Its path as the table or gallery has it, and its class.
        file: Where it lies; None where it is absent.
    """

    part: str
    row: LabelledPicture
    file: Path | None


@dataclass(frozen=True)
class AuditItems:
    """Every picture of every part.

    Args:
        items: The pictures, part by part.
        classes: Every class name.
    """

    items: tuple[AuditItem, ...]
    classes: tuple[str, ...]

    def rows(self, part: str) -> list[LabelledPicture]:
        """Return the pictures of one part.

        Args:
            part: "train", "valid", "test" or "gallery".
        """
        return [item.row for item in self.items if item.part == part]

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that there are, in order."""
        return tuple(dict.fromkeys(item.part for item in self.items))


@dataclass
class Seen:
    """What the pictures look like.

    Args:
        looks: Place among the items, to what the picture looks like.
        quarantine: The pictures that could not be decoded, with counts.
        absent: How many are listed but not on the disk.
    """

    looks: dict[int, Looks] = field(default_factory=dict)
    quarantine: Quarantine = field(default_factory=lambda: Quarantine("pictures"))
    absent: int = 0


def _file_of(bases: Sequence[Path], name: str) -> Path | None:
    if refusal(name):
        return None
    return next((file for file in (find_inside(base, name) for base in bases) if file is not None), None)


def collect_items(tables: Mapping[Split, ClassTable], gallery: str | Path | None = None) -> AuditItems:
    """List the pictures of the splits and of a gallery; a picture of several classes counts under its first.

    Args:
        tables: Split name to its table.
        gallery: A gallery folder; its pictures are looked for where the splits' are.

    Raises:
        InputError: If the gallery cannot be read.
    """
    items: dict[tuple[str, str], AuditItem] = {}
    for split, table in tables.items():
        bases = [table.root.resolve()]
        for row in table.rows:
            items.setdefault((split, row.path), AuditItem(split, row, _file_of(bases, row.path)))
    roots = list(dict.fromkeys(table.root.resolve() for table in tables.values()))
    for enrolled in () if gallery is None else Gallery.open(gallery, index="exact").rows:
        row = LabelledPicture(enrolled.path, enrolled.label)
        items.setdefault((GALLERY, row.path), AuditItem(GALLERY, row, _file_of(roots, row.path)))
    classes = {name for table in tables.values() for name in table.classes}
    return AuditItems(tuple(items.values()), tuple(sorted(classes)))


def look_at_items(items: Sequence[AuditItem], advance: Callable[[], None] = lambda: None) -> Seen:
    """Decode every picture that is there, once, also where several parts name it.

    Args:
        items: The pictures.
        advance: Called after every picture.
    """
    seen = Seen()
    known: dict[Path, Looks | None] = {}
    for place, item in enumerate(items):
        if item.file is None:
            seen.absent += 1
        else:
            if item.file not in known:
                known[item.file] = _look(item.file, seen.quarantine)
            looks = known[item.file]
            if looks is not None:
                seen.looks[place] = looks
        advance()
    return seen


def _look(file: Path, quarantine: Quarantine) -> Looks | None:
    try:
        looks = look_at(read_image(file))
    except (BadImageError, MissingPathError) as error:
        quarantine.refuse(file, str(error))
        return None
    quarantine.accept()
    return looks
