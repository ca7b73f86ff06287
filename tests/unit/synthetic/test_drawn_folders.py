"""A drawn world on disk, and the draw command."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from naruto_vision.cli.main import main
from naruto_vision.errors import InputError
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import read_image
from naruto_vision.synthetic.attributes import Cast, read_cast
from naruto_vision.synthetic.dataset import (
    SyntheticConfig,
    TableRow,
    add_quirks,
    class_table,
    misspelt,
    seed_of,
    write_dataset,
)
from naruto_vision.synthetic.scene import draw_scene

_PLAN = SyntheticConfig(seed=3, train=3, valid=1, test=2, scenes=6, valid_scenes=2, size=96, picture_size=48)


@pytest.fixture(scope="module")
def cast() -> Cast:
    return read_cast(config_path("cast.yaml"))


@pytest.fixture(scope="module")
def world(cast: Cast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drawn") / "world"
    write_dataset(out, cast, _PLAN)
    return out


def _files(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def _table(path: Path) -> list[list[str]]:
    return list(csv.reader(path.open(encoding="utf-8"), skipinitialspace=True))


def test_class_folders_hold_what_their_tables_say(world: Path, cast: Cast) -> None:
    for split, count in (("train", 3), ("valid", 1), ("test", 2)):
        header, *rows = _table(world / split / "_classes.csv")
        assert header == ["filename", *sorted(cast.names)]
        assert len(rows) == 8 * count
        assert all(row[1:].count("1") == 1 for row in rows)
        assert [sum(row[k] == "1" for row in rows) for k in range(1, 9)] == [count] * 8
        assert {row[0] for row in rows} == {file.name for file in (world / split).glob("*.jpg")}
        assert read_image(world / split / rows[0][0]).shape == (48, 48, 3)


def test_file_names_and_order_say_nothing_about_the_class(world: Path, cast: Cast) -> None:
    _, *rows = _table(world / "train" / "_classes.csv")
    assert not any(name.lower() in row[0].lower() for row in rows for name in cast.names)
    order = [row[1:].index("1") for row in rows]
    assert sum(a != b for a, b in itertools.pairwise(order)) > 12  # mixed, not class after class
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def test_scene_truth_agrees_with_the_drawing(world: Path, cast: Cast) -> None:
    folder = world / "scenes" / "test"
    gt = json.loads((folder / "gt.json").read_text())
    truth = json.loads((folder / "coco.json").read_text())
    names = {category["id"]: category["name"] for category in truth["categories"]}
    assert list(names.values()) == [*cast.names, "unknown"]
    assert (
        set(gt) == {image["file_name"] for image in truth["images"]} == {p.name for p in (folder / "images").iterdir()}
    )
    difficulties = json.loads((folder / "difficulty.json").read_text())
    for k, image in enumerate(truth["images"]):
        assert image["difficulty"] == difficulties[image["file_name"]] == ("easy", "medium", "hard")[k % 3]
        scene = draw_scene(seed_of(3, "scenes", "test", k), cast, size=96, difficulty=image["difficulty"])
        found = [one for one in truth["annotations"] if one["image_id"] == image["id"]]
        assert [names[one["category_id"]] for one in found] == [drawn.label or "unknown" for drawn in scene.objects]
        for one, drawn in zip(found, scene.objects, strict=True):
            assert np.array_equal(coco.decode(one["segmentation"]).astype(bool), drawn.mask)
            assert set(one["parts"]) == set(drawn.parts)
            x1, y1, x2, y2 = drawn.box
            assert one["bbox"] == [x1, y1, x2 - x1 + 1, y2 - y1 + 1]
            assert one["area"] == drawn.mask.sum()
        known = [{"bbox": list(d.box), "label": d.label} for d in scene.objects if d.label is not None]
        assert gt[image["file_name"]] == known
        image = read_image(folder / "images" / image["file_name"]).astype(int)
        assert np.abs(image - scene.image).mean() < 12  # JPEG


def test_a_scene_with_nobody_known_is_in_the_truth(cast: Cast, tmp_path: Path) -> None:
    write_dataset(tmp_path / "w", cast, SyntheticConfig(train=0, valid=0, test=0, scenes=40, valid_scenes=0, size=64))
    gt = json.loads((tmp_path / "w" / "scenes" / "test" / "gt.json").read_text())
    assert len(gt) == 40
    assert [] in gt.values()


def test_a_world_is_reproducible_and_says_how_it_was_made(world: Path, cast: Cast, tmp_path: Path) -> None:
    write_dataset(tmp_path / "again", cast, _PLAN)
    assert _files(tmp_path / "again") == _files(world)
    record = json.loads((world / "world.json").read_text())
    assert (record["format"], record["seed"], record["train"]) == (1, 3, 3)
    assert set(record["cast"]) == set(cast.names)
    texts = json.loads((world / "aliases.json").read_text())
    assert set(texts) == set(cast.names)
    assert all(len(some) >= 3 for some in texts.values())


def test_more_images_leave_the_others_as_they_were(world: Path, cast: Cast, tmp_path: Path) -> None:
    plan = SyntheticConfig(seed=3, train=4, valid=0, test=0, scenes=0, valid_scenes=0, picture_size=48)
    write_dataset(tmp_path / "more", cast, plan)
    old, new = _files(world / "train"), _files(tmp_path / "more" / "train")
    assert all(new[name] == data for name, data in old.items() if name.endswith(".jpg"))
    assert len(new) == len(old) + 8


def test_an_occupied_folder_is_refused_and_only_a_world_replaced(cast: Cast, tmp_path: Path) -> None:
    small = SyntheticConfig(train=1, valid=0, test=0, scenes=0, valid_scenes=0, picture_size=32)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "diary.txt").write_text("dear diary")
    with pytest.raises(InputError, match=r"mine: the folder is not empty; .*--force"):
        write_dataset(mine, cast, small)
    with pytest.raises(InputError, match=r"holds no world\.json"):
        write_dataset(mine, cast, small, force=True)
    assert (mine / "diary.txt").read_text() == "dear diary"
    with pytest.raises(InputError, match="found a file"):
        write_dataset(mine / "diary.txt", cast, small)
    write_dataset(tmp_path / "w", cast, small)
    write_dataset(tmp_path / "w", cast, SyntheticConfig(train=0, valid=1, test=0, scenes=0, valid_scenes=0), force=True)
    assert not list((tmp_path / "w" / "train").glob("*.jpg"))


def test_a_failure_leaves_nothing_behind(cast: Cast, tmp_path: Path) -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "w", cast, _PLAN, advance=fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("field", "value"), [("train", -1), ("size", 8), ("picture_size", 5000)])
def test_plans_that_cannot_be_drawn_are_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        SyntheticConfig(**{field: value})  # type: ignore[arg-type]  # one field of each type


def test_quirks_are_all_there() -> None:
    classes = ["Anna", "Bea", "Cleo"]
    rows = [TableRow(f"{k}.jpg", (classes[k % 3],)) for k in range(40)]
    text = class_table(add_quirks(rows, classes), classes, quirks=True)
    assert not text.endswith("\n")
    header, *lines = text.split("\n")
    assert header == "filename, Anna, Unlabeled, Bea, Ceo"
    cells = [line.split(", ") for line in lines]
    assert sum(row.count("1") == 2 for row in cells) == 2
    assert sum(row[0].startswith("absent") for row in cells) == 3
    assert all(row[2] == "0" for row in cells)
    assert len(cells) == 43
    assert misspelt("Al") == "Al"


def test_tidy_tables_are_tidy() -> None:
    assert class_table([TableRow("a.jpg", ("B",))], ["A", "B"]) == "filename,A,B\na.jpg,0,1\n"


def test_the_command_draws_the_packaged_cast(tmp_path: Path) -> None:
    sizes = ["--train", "1", "--valid", "0", "--test", "1", "--scenes", "1", "--valid-scenes", "0", "--size", "64"]
    out = tmp_path / "w"
    assert main(["draw", "--out", str(out), *sizes, "--picture-size", "32", "--quirks"]) == 0
    assert "Unlabeled" in (out / "train" / "_classes.csv").read_text()
    assert len(list((out / "scenes" / "test" / "images").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "7"], "32 to 2048 pixels, found 7"),
        (["--cast", "none.yaml"], "no such cast file"),
        (["--train", "-3"], "argument --train: expected a whole number of 0 or more, found '-3'"),
    ],
)
def test_the_command_refuses_what_it_cannot_draw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["draw", "--out", str(tmp_path / "w"), *options]) == 2
    assert message in capsys.readouterr().err
