"""A synthetic data set on disk: class tables, ground truth of scenes, seeds, counts, and the draw command."""

import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from naruto_vision.cli.main import main
from naruto_vision.errors import InputError
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import read_image
from naruto_vision.records import Box, Mask
from naruto_vision.synthetic.attributes import Cast, random_attributes, read_cast
from naruto_vision.synthetic.dataset import (
    SceneTruth,
    SyntheticConfig,
    TableRow,
    add_quirks,
    class_table,
    misspelt,
    seed_of,
    write_dataset,
)
from naruto_vision.synthetic.scene import Difficulty, SyntheticObject, SyntheticScene, draw_scene

_PLAN = SyntheticConfig(seed=3, train=3, valid=1, test=2, scenes=6, valid_scenes=2, size=96, image_size=48)
_QUICK = settings(max_examples=30, deadline=None, derandomize=True)
_HEIGHT, _WIDTH = 12, 20
_NAMES = ("Änne", "Bo", "Cy")


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
    write_dataset(tmp_path / "w", cast, SyntheticConfig(train=0, valid=0, test=0, scenes=20, valid_scenes=0, size=48))
    gt = json.loads((tmp_path / "w" / "scenes" / "test" / "gt.json").read_text())
    assert len(gt) == 20
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
    plan = SyntheticConfig(seed=3, train=4, valid=0, test=0, scenes=0, valid_scenes=0, image_size=48)
    write_dataset(tmp_path / "more", cast, plan)
    old, new = _files(world / "train"), _files(tmp_path / "more" / "train")
    assert all(new[name] == data for name, data in old.items() if name.endswith(".jpg"))
    assert len(new) == len(old) + 8


def test_an_occupied_folder_is_refused_and_only_a_world_replaced(cast: Cast, tmp_path: Path) -> None:
    small = SyntheticConfig(train=1, valid=0, test=0, scenes=0, valid_scenes=0, image_size=32)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "diary.txt").write_text("dear diary")
    with pytest.raises(InputError, match=r"mine: the folder is not empty; .*--force"):
        write_dataset(mine, cast, small)
    with pytest.raises(InputError, match=r"has no world\.json"):
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


def test_the_command_draws_the_packaged_cast(tmp_path: Path) -> None:
    sizes = ["--train", "1", "--valid", "0", "--test", "1", "--scenes", "1", "--valid-scenes", "0", "--size", "64"]
    out = tmp_path / "w"
    assert main(["draw", "--out", str(out), *sizes, "--image-size", "32", "--quirks"]) == 0
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


def _mask(box: Box) -> Mask:
    mask = np.zeros((_HEIGHT, _WIDTH), dtype=np.bool_)
    mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
    return mask


def _object(label: str | None, box: Box, parts: Sequence[str] = ()) -> SyntheticObject:
    who = random_attributes(np.random.Generator(np.random.PCG64(0)))
    return SyntheticObject(label, who, _mask(box), {part: _mask(box) for part in parts}, box)


def _scene(*objects: SyntheticObject, difficulty: Difficulty = "easy") -> SyntheticScene:
    return SyntheticScene(np.zeros((_HEIGHT, _WIDTH, 3), np.uint8), difficulty, objects)


def test_ids_count_from_one_over_all_scenes() -> None:
    truth = SceneTruth(_NAMES)
    truth.add("a.jpg", _scene(_object("Bo", (0, 0, 3, 3)), _object("Cy", (5, 5, 6, 6))))
    truth.add("b.jpg", _scene())
    truth.add("c.jpg", _scene(_object("Änne", (1, 1, 2, 2))))
    record = truth.coco()
    assert [image["id"] for image in record["images"]] == [1, 2, 3]
    assert [(one["id"], one["image_id"]) for one in record["annotations"]] == [(1, 1), (2, 1), (3, 3)]
    assert all(one["iscrowd"] == 0 for one in record["annotations"])


def test_categories_are_the_cast_in_order_and_unknowns_last() -> None:
    truth = SceneTruth(_NAMES)
    truth.add("a.jpg", _scene(_object(None, (0, 0, 1, 1)), _object("Cy", (3, 3, 4, 4)), _object("Änne", (6, 6, 7, 7))))
    record = truth.coco()
    assert record["categories"] == [
        {"id": 1, "name": "Änne"},
        {"id": 2, "name": "Bo"},
        {"id": 3, "name": "Cy"},
        {"id": 4, "name": "unknown"},
    ]
    assert [one["category_id"] for one in record["annotations"]] == [4, 3, 1]


def test_unknowns_are_in_the_masks_but_not_in_the_ground_truth() -> None:
    truth = SceneTruth(_NAMES)
    truth.add("a.jpg", _scene(_object(None, (0, 0, 1, 1)), _object("Bo", (3, 2, 9, 11))))
    truth.add("b.jpg", _scene(_object(None, (0, 0, 1, 1))))
    assert truth.gt == {"a.jpg": [{"bbox": [3, 2, 9, 11], "label": "Bo"}], "b.jpg": []}
    assert len(truth.annotations) == 3


def test_images_say_their_size_and_difficulty() -> None:
    truth = SceneTruth(_NAMES)
    truth.add("größe.jpg", _scene(difficulty="hard"))
    assert truth.images == [{"id": 1, "file_name": "größe.jpg", "width": 20, "height": 12, "difficulty": "hard"}]
    assert truth.difficulties == {"größe.jpg": "hard"}


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (0, 0, 19, 11), (19, 11, 19, 11), (4, 1, 9, 10)])
def test_boxes_masks_and_parts_agree(box: Box) -> None:
    truth = SceneTruth(_NAMES)
    truth.add("a.jpg", _scene(_object("Bo", box, ("head", "legs"))))
    [one] = truth.annotations
    x1, y1, x2, y2 = box
    width, height = x2 - x1 + 1, y2 - y1 + 1
    assert one["bbox"] == [x1, y1, width, height]
    assert one["area"] == width * height
    assert one["segmentation"]["size"] == [_HEIGHT, _WIDTH]
    assert list(one["parts"]) == ["head", "legs"]
    for run_lengths in (one["segmentation"], *one["parts"].values()):
        assert isinstance(run_lengths["counts"], str)  # JSON has no bytes
        assert np.array_equal(coco.decode(run_lengths).astype(bool), _mask(box))


def test_two_collectors_share_nothing() -> None:
    one, other = SceneTruth(_NAMES), SceneTruth(_NAMES)
    one.add("a.jpg", _scene(_object("Bo", (0, 0, 1, 1))))
    assert other.coco()["images"] == other.coco()["annotations"] == []
    assert other.gt == {}


@pytest.mark.parametrize(("name", "typed"), [("", ""), ("A", "A"), ("Al", "Al"), ("Ann", "An"), ("Änne", "Äne")])
def test_names_are_misspelt_by_their_second_letter(name: str, typed: str) -> None:
    assert misspelt(name) == typed


def _rows(count: int, classes: Sequence[str]) -> list[TableRow]:
    return [TableRow(f"{k:03d}.jpg", (classes[k % len(classes)],)) for k in range(count)]


@_QUICK
@given(count=st.integers(0, 70), classes=st.integers(1, 5))
def test_quirks_add_rows_and_second_classes_and_keep_the_rest(count: int, classes: int) -> None:
    names = [f"c{k}" for k in range(classes)]
    rows = _rows(count, names)
    quirky = add_quirks(rows, names)
    assert len(quirky) == count + 1 + count // 20
    for k, (before, after) in enumerate(zip(rows, quirky, strict=False)):
        assert after.filename == before.filename
        assert after.labels[0] == before.labels[0]
        assert len(after.labels) == (2 if k % 17 == 16 else 1)
    for k, row in enumerate(quirky[count:]):
        assert row == TableRow(f"absent-{k:03d}.jpg", (names[k % classes],))


def test_the_second_class_is_the_next_and_the_last_wraps_round() -> None:
    rows = [TableRow(f"{k}.jpg", ("c",)) for k in range(17)]
    assert add_quirks(rows, ["a", "b", "c"])[16].labels == ("c", "a")
    rows = [TableRow(f"{k}.jpg", ("a",)) for k in range(17)]
    assert add_quirks(rows, ["a", "b", "c"])[16].labels == ("a", "b")


@_QUICK
@given(count=st.integers(0, 8), classes=st.integers(1, 4))
def test_a_tidy_table_reads_back(count: int, classes: int) -> None:
    names = [f"c{k}" for k in range(classes)]
    rows = _rows(count, names)
    text = class_table(rows, names)
    assert text.endswith("\n")
    header, *cells = list(csv.reader(text.splitlines()))
    assert header == ["filename", *names]
    found = [
        TableRow(row[0], tuple(name for name, one in zip(names, row[1:], strict=True) if one == "1")) for row in cells
    ]
    assert found == rows


def test_a_quirky_table_has_a_placeholder_in_the_middle_of_every_row() -> None:
    text = class_table(
        [TableRow("a.jpg", ("Dana",)), TableRow("b.jpg", ("Abe", "Bea"))], ["Abe", "Bea", "Cy", "Dana"], quirks=True
    )
    assert text.split("\n") == [
        "filename, Abe, Bea, Unlabeled, Cy, Dna",
        "a.jpg, 0, 0, 0, 0, 1",
        "b.jpg, 1, 1, 0, 0, 0",
    ]


def test_a_table_does_not_change_the_list_of_classes() -> None:
    classes = ["a", "b"]
    class_table([], classes, quirks=True)
    assert classes == ["a", "b"]


@_QUICK
@given(what=st.lists(st.one_of(st.integers(), st.text(max_size=5)), min_size=1, max_size=4))
def test_seeds_are_whole_numbers_that_fit_sixteen_hex_digits(what: list[object]) -> None:
    seed = seed_of(*what)
    assert 0 <= seed < 2**63
    assert seed == seed_of(*what)


def test_seeds_tell_their_purposes_apart() -> None:
    purposes = [
        (seed, split, name, k) for seed in (1, 2) for split in ("train", "test") for name in "ab" for k in range(50)
    ]
    assert len({seed_of(*what) for what in purposes}) == len(purposes)
    assert seed_of(1, 2) != seed_of(2, 1)


@pytest.mark.parametrize(
    ("plan", "members", "steps"),
    [
        (SyntheticConfig(train=3, valid=2, test=1, scenes=5, valid_scenes=7), 4, 36),
        (SyntheticConfig(train=0, valid=0, test=0, scenes=0, valid_scenes=0), 8, 0),
        (SyntheticConfig(train=1, valid=0, test=0, scenes=2, valid_scenes=0), 0, 2),
        (SyntheticConfig(), 8, 840),
    ],
)
def test_a_plan_counts_its_steps(plan: SyntheticConfig, members: int, steps: int) -> None:
    assert plan.steps(members) == steps


@pytest.mark.parametrize("field", ["train", "valid", "test", "scenes", "valid_scenes"])
def test_no_count_may_be_negative(field: str) -> None:
    with pytest.raises(ValueError, match=r"none below 0, found -2"):
        SyntheticConfig(**{field: -2})  # type: ignore[arg-type]  # one field of each type
    SyntheticConfig(**{field: 0})  # type: ignore[arg-type]  # one field of each type


@pytest.mark.parametrize("field", ["size", "image_size"])
@pytest.mark.parametrize(("side", "good"), [(31, False), (32, True), (2048, True), (2049, False)])
def test_sides_have_bounds(field: str, side: int, good: bool) -> None:
    if good:
        SyntheticConfig(**{field: side})  # type: ignore[arg-type]  # one field of each type
    else:
        with pytest.raises(ValueError, match=rf"32 to 2048 pixels, found {side}"):
            SyntheticConfig(**{field: side})  # type: ignore[arg-type]  # one field of each type
