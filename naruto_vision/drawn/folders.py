"""A drawn world on disk: class folders as Roboflow exports them, scenes with their truth, and texts for the cast.

::

    OUT/world.json                             format version, seed, counts, the cast's attributes
    OUT/aliases.json                           name to texts that describe it
    OUT/{train,valid,test}/_classes.csv        and the pictures beside it
    OUT/scenes/{valid,test}/images/*.jpg       and gt.json, coco.json, difficulty.json
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from naruto_vision.drawn.captions import aliases
from naruto_vision.drawn.cast import Cast
from naruto_vision.drawn.pictures import draw_picture
from naruto_vision.drawn.scenes import Difficulty, draw_scene
from naruto_vision.drawn.tables import TableRow, add_quirks, class_table
from naruto_vision.drawn.truth import SceneTruth
from naruto_vision.errors import InputError
from naruto_vision.files.atomic import atomic_folder, write_json, write_text
from naruto_vision.files.images import write_image

FORMAT = 1
WORLD = "world.json"
Split = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class WorldPlan:
    """How much is drawn.

    Args:
        seed: Decides every pixel.
        train: Training pictures a class.
        valid: Validation pictures a class.
        test: Test pictures a class.
        scenes: Test scenes; a third of each difficulty.
        valid_scenes: Validation scenes, for thresholds.
        size: Side of a scene in pixels.
        picture_size: Side of a class picture in pixels.
        quirks: Whether the class tables have what real exports have: blanks after commas, an ``Unlabeled`` column, a
            misspelt class, rows of absent files or of two classes, no final newline.

    Raises:
        ValueError: If a count is negative or a side is not between 32 and 2048.
    """

    seed: int = 7
    train: int = 40
    valid: int = 10
    test: int = 25
    scenes: int = 200
    valid_scenes: int = 40
    size: int = 384
    picture_size: int = 192
    quirks: bool = False

    def __post_init__(self) -> None:
        counts = (self.train, self.valid, self.test, self.scenes, self.valid_scenes)
        if min(counts) < 0:
            msg = f"counts of pictures and scenes: expected none below 0, found {min(counts)}"
            raise ValueError(msg)
        for side in (self.size, self.picture_size):
            if not _SIDES[0] <= side <= _SIDES[1]:
                msg = f"side of a picture: expected {_SIDES[0]} to {_SIDES[1]} pixels, found {side}"
                raise ValueError(msg)

    def steps(self, members: int) -> int:
        """How many pictures and scenes there will be.

        Args:
            members: How many characters the cast has.
        """
        return members * (self.train + self.valid + self.test) + self.scenes + self.valid_scenes


_SIDES = (32, 2048)


def seed_of(*what: object) -> int:
    """Turn what a drawing is for into its seed, so that no drawing depends on how many others there are.

    Args:
        what: The world's seed, the split, the class, the number.

    Returns:
        A whole number from 0 to 2**63 - 1.
    """
    digest = hashlib.sha256("/".join(str(one) for one in what).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _write_split(folder: Path, cast: Cast, plan: WorldPlan, split: Split, advance: Callable[[], None]) -> None:
    rows = []
    for name, attributes in cast.members.items():
        for k in range(getattr(plan, split)):
            seed = seed_of(plan.seed, split, name, k)
            filename = f"{seed:016x}.jpg"  # says nothing about the class
            write_image(folder / filename, draw_picture(attributes, seed, plan.picture_size).picture)
            rows.append(TableRow(filename, (name,)))
            advance()
    classes = sorted(cast.names)
    rows.sort(key=lambda row: row.filename)
    rows = add_quirks(rows, classes) if plan.quirks else rows
    write_text(folder / "_classes.csv", class_table(rows, classes, quirks=plan.quirks))


def _write_scenes(
    folder: Path, cast: Cast, plan: WorldPlan, split: Literal["valid", "test"], advance: Callable[[], None]
) -> None:
    truth = SceneTruth(cast.names)
    difficulties: tuple[Difficulty, ...] = get_args(Difficulty)
    for k in range(plan.scenes if split == "test" else plan.valid_scenes):
        seed = seed_of(plan.seed, "scenes", split, k)
        scene = draw_scene(seed, cast, size=plan.size, difficulty=difficulties[k % len(difficulties)])
        filename = f"scene_{k:05d}.jpg"
        write_image(folder / "images" / filename, scene.picture)
        truth.add(filename, scene)
        advance()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    write_json(folder / "gt.json", truth.gt)
    write_json(folder / "coco.json", truth.coco(), indent=None)
    write_json(folder / "difficulty.json", truth.difficulties)


def check_place(out: Path, *, force: bool) -> None:
    """Refuse a folder that is not free to draw into.

    Args:
        out: The folder.
        force: Whether an older drawn world may be replaced.

    Raises:
        InputError: If it is a file, is not empty and not to be replaced, or is no drawn world.
    """
    if out.exists() and not out.is_dir():
        msg = f"{out}: expected a folder to draw into, found a file; choose another place"
        raise InputError(msg)
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not force:
        msg = f"{out}: the folder is not empty; choose another, or draw it anew with --force"
        raise InputError(msg)
    if not (out / WORLD).is_file():  # never replace a folder that is somebody's own
        msg = f"{out}: the folder is not empty and holds no {WORLD}, so it is not a drawn world; choose another"
        raise InputError(msg)


def _record(cast: Cast, plan: WorldPlan) -> dict[str, Any]:
    return {
        "format": FORMAT,
        **asdict(plan),
        "classes": sorted(cast.names),
        "cast": {name: asdict(attributes) for name, attributes in cast.members.items()},
    }


def write_world(
    out: str | Path,
    cast: Cast,
    plan: WorldPlan | None = None,
    *,
    force: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Draw a world into a folder, which is either whole afterwards or as it was before.

    Args:
        out: The folder.
        cast: Who is drawn.
        plan: How much; None draws the default.
        force: Whether to replace an older drawn world.
        advance: Called after every picture and scene.

    Raises:
        InputError: If the folder is not empty and not to be replaced, or is no drawn world.
    """
    plan = plan or WorldPlan()
    out = Path(out)
    check_place(out, force=force)
    with atomic_folder(out) as folder:
        for split in get_args(Split):
            _write_split(folder / split, cast, plan, split, advance)
        _write_scenes(folder / "scenes" / "valid", cast, plan, "valid", advance)
        _write_scenes(folder / "scenes" / "test", cast, plan, "test", advance)
        write_json(folder / "aliases.json", {name: list(aliases(who)) for name, who in cast.members.items()})
        write_json(folder / WORLD, _record(cast, plan))
