"""A synthetic data set on disk: class folders as Roboflow exports them, scenes with ground truth, texts for the cast.

::

    OUT/world.json                             format version, seed, counts, the cast's attributes
    OUT/aliases.json                           name to texts that describe it
    OUT/{train,valid,test}/_classes.csv        and the images beside it
    OUT/scenes/{valid,test}/images/*.jpg       and gt.json, coco.json, difficulty.json
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from naruto_vision.errors import InputError
from naruto_vision.geometry import rle_from_mask
from naruto_vision.io.atomic import atomic_folder, write_json, write_text
from naruto_vision.io.images import write_image
from naruto_vision.records import UNKNOWN
from naruto_vision.synthetic.attributes import Cast
from naruto_vision.synthetic.captions import aliases
from naruto_vision.synthetic.scene import Difficulty, SyntheticObject, SyntheticScene, draw_image, draw_scene


class TableRow(NamedTuple):
    """One row: a file and its classes."""

    filename: str
    labels: tuple[str, ...]


def misspelt(name: str) -> str:
    """Drop a name's second letter, to simulate a typo."""
    return name[:1] + name[2:] if len(name) > 2 else name


def add_quirks(rows: Sequence[TableRow], classes: Sequence[str]) -> list[TableRow]:
    """Give every 17th row the next class too, and add rows of absent files, one in 20."""
    following = dict(zip(classes, [*classes[1:], *classes[:1]], strict=True))
    quirky = [
        TableRow(row.filename, (*row.labels, following[row.labels[0]]) if k % 17 == 16 else row.labels)
        for k, row in enumerate(rows)
    ]
    absent = [TableRow(f"absent-{k:03d}.jpg", (classes[k % len(classes)],)) for k in range(1 + len(rows) // 20)]
    return quirky + absent


def class_table(rows: Sequence[TableRow], classes: Sequence[str], *, quirks: bool = False) -> str:
    """Text of a ``_classes.csv``; quirks are blanks, ``Unlabeled``, a misspelt class and no final newline."""
    columns: list[str] = list(classes)
    header = list(columns)
    if quirks:
        header[-1] = misspelt(header[-1])
        columns.insert(len(columns) // 2, "Unlabeled")
        header.insert(len(header) // 2, "Unlabeled")
    lines = [["filename", *header], *([row.filename, *(str(int(c in row.labels)) for c in columns)] for row in rows)]
    text = "\n".join((", " if quirks else ",").join(line) for line in lines)
    return text if quirks else text + "\n"


@dataclass
class SceneTruth:
    """Ground truth, collected scene by scene; category ids count from 1, and unknowns come last."""

    names: Sequence[str]
    gt: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    difficulties: dict[str, str] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, filename: str, scene: SyntheticScene) -> None:
        """Add a scene."""
        number, (height, width) = len(self.images) + 1, scene.image.shape[:2]
        known = [figure for figure in scene.objects if figure.label is not None]
        self.gt[filename] = [{"bbox": list(figure.box), "label": figure.label} for figure in known]
        self.difficulties[filename] = scene.difficulty
        image = {"id": number, "file_name": filename, "width": width, "height": height}
        self.images.append({**image, "difficulty": scene.difficulty})
        before = len(self.annotations)  # counted once: while it is extended, the list grows
        self.annotations.extend(
            self._annotation(number, figure, before + k) for k, figure in enumerate(scene.objects, 1)
        )

    def _annotation(self, image: int, figure: SyntheticObject, number: int) -> dict[str, Any]:
        x1, y1, x2, y2 = figure.box
        return {
            "id": number,
            "image_id": image,
            "category_id": [*self.names, UNKNOWN].index(figure.label or UNKNOWN) + 1,
            "bbox": [x1, y1, x2 - x1 + 1, y2 - y1 + 1],
            "area": int(figure.mask.sum()),
            "iscrowd": 0,
            "segmentation": rle_from_mask(figure.mask),
            "parts": {name: rle_from_mask(mask) for name, mask in figure.parts.items()},
        }

    def coco(self) -> dict[str, Any]:
        """Return the COCO record: images, annotations (with ``parts`` beside ``segmentation``) and categories."""
        categories = [{"id": k, "name": name} for k, name in enumerate([*self.names, UNKNOWN], 1)]
        return {"images": self.images, "annotations": self.annotations, "categories": categories}


FORMAT = 1
WORLD = "world.json"
Split = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class SyntheticConfig:
    """Counts and sizes of the data set; ValueError if a count is negative or a side is not between 32 and 2048."""

    seed: int = 7
    train: int = 40  # images per class
    valid: int = 10
    test: int = 25
    scenes: int = 200  # to test; a third of each difficulty
    valid_scenes: int = 40
    size: int = 384  # side of a scene in pixels
    image_size: int = 192  # side of a class image in pixels
    quirks: bool = False  # whether the class tables have the flaws of real exports

    def __post_init__(self) -> None:
        least = min(self.train, self.valid, self.test, self.scenes, self.valid_scenes)
        if least < 0:
            raise ValueError(f"counts of images and scenes: expected none below 0, found {least}")
        for side in (self.size, self.image_size):
            if not 32 <= side <= 2048:
                raise ValueError(f"side of an image: expected 32 to 2048 pixels, found {side}")

    def steps(self, members: int) -> int:
        """Number of images and scenes."""
        return members * (self.train + self.valid + self.test) + self.scenes + self.valid_scenes


def seed_of(*what: object) -> int:
    """Derive an image's seed from its purpose, so that it does not depend on the number of other images."""
    digest = hashlib.sha256("/".join(str(one) for one in what).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _write_split(folder: Path, cast: Cast, plan: SyntheticConfig, split: Split, advance: Callable[[], None]) -> None:
    rows = []
    for name, attributes in cast.members.items():
        for k in range(getattr(plan, split)):
            seed = seed_of(plan.seed, split, name, k)
            filename = f"{seed:016x}.jpg"  # independent of the class
            write_image(folder / filename, draw_image(attributes, seed, plan.image_size).image)
            rows.append(TableRow(filename, (name,)))
            advance()
    classes = sorted(cast.names)
    rows.sort(key=lambda row: row.filename)
    rows = add_quirks(rows, classes) if plan.quirks else rows
    write_text(folder / "_classes.csv", class_table(rows, classes, quirks=plan.quirks))


def _write_scenes(
    folder: Path, cast: Cast, plan: SyntheticConfig, split: Literal["valid", "test"], advance: Callable[[], None]
) -> None:
    truth = SceneTruth(cast.names)
    difficulties: tuple[Difficulty, ...] = get_args(Difficulty)
    for k in range(plan.scenes if split == "test" else plan.valid_scenes):
        seed = seed_of(plan.seed, "scenes", split, k)
        scene = draw_scene(seed, cast, size=plan.size, difficulty=difficulties[k % len(difficulties)])
        filename = f"scene_{k:05d}.jpg"
        write_image(folder / "images" / filename, scene.image)
        truth.add(filename, scene)
        advance()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    write_json(folder / "gt.json", truth.gt)
    write_json(folder / "coco.json", truth.coco(), indent=None)
    write_json(folder / "difficulty.json", truth.difficulties)


def check_folder(out: Path, *, force: bool) -> None:
    """Refuse an output folder with other content."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder to draw into, found a file; choose another folder")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not force:
        raise InputError(f"{out}: the folder is not empty; choose another, or replace it with --force")
    if not (out / WORLD).is_file():  # never replace a folder of other data
        msg = f"{out}: the folder is not empty and has no {WORLD}, so it is not a synthetic data set; choose another"
        raise InputError(msg)


def write_world(folder: Path, cast: Cast, facts: Mapping[str, Any]) -> None:
    """Write what was drawn, and the attributes of the cast."""
    members = {name: asdict(attributes) for name, attributes in cast.members.items()}
    write_json(folder / WORLD, {"format": FORMAT, **facts, "cast": members})


def write_dataset(
    out: str | Path,
    cast: Cast,
    plan: SyntheticConfig | None = None,
    *,
    force: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Draw a data set into a folder, atomically."""
    plan = plan or SyntheticConfig()
    out = Path(out)
    check_folder(out, force=force)
    with atomic_folder(out) as folder:
        for split in get_args(Split):
            _write_split(folder / split, cast, plan, split, advance)
        _write_scenes(folder / "scenes" / "valid", cast, plan, "valid", advance)
        _write_scenes(folder / "scenes" / "test", cast, plan, "test", advance)
        write_json(folder / "aliases.json", {name: list(aliases(who)) for name, who in cast.members.items()})
        write_world(folder, cast, {**asdict(plan), "classes": sorted(cast.names)})
