"""``naruto-vision data prepare``: manifests, statistics, classes and errors."""

import json
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.data.readers import read_present
from naruto_vision.data.scenes import SceneDataset
from naruto_vision.io.images import write_image

HEADER = "filename, Gara, Naruto, Sakura, Tsunade, Unlabeled"
COLUMNS = {"Gara": 0, "Naruto": 1, "Sakura": 2, "Tsunade": 3, "Unlabeled": 4}
SINGLE = {
    "train": {"Gara": 39, "Naruto": 115, "Sakura": 79, "Tsunade": 53},
    "valid": {"Gara": 16, "Naruto": 19, "Sakura": 23, "Tsunade": 6},
    "test": {"Gara": 4, "Naruto": 11, "Sakura": 6, "Tsunade": 9},
}
UNLABELLED, DOUBLES, ABSENT = 9, 5, 12


def marks(*names: str) -> str:
    return ", ".join("1" if place in {COLUMNS[name] for name in names} else "0" for place in range(5))


def rows_of(split: str) -> list[tuple[str, str]]:
    """Return file name and marks: the class counts of the public export, with its rows that are no use."""
    rows = [f"{split} {name} {k}" for name, count in SINGLE[split].items() for k in range(count)]
    found = [(f"{100 + k}_jpg.rf.{k:032x}.jpg", marks(row.split()[1])) for k, row in enumerate(rows)]
    if split == "train":
        found += [(f"{2000 + k}_jpg.rf.{k:032x}.jpg", marks("Unlabeled")) for k in range(UNLABELLED)]
        found += [(f"{3000 + k}_jpg.rf.{k:032x}.jpg", marks("Naruto", "Sakura")) for k in range(DOUBLES)]
    return found[::-1]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export") / "data"
    write_image(root / "blank.png", np.zeros((4, 4, 3), dtype=np.uint8))
    blank = (root / "blank.png").read_bytes()
    (root / "blank.png").unlink()
    for split in ("train", "valid", "test"):
        rows = rows_of(split)
        (root / split).mkdir()
        (root / split / "_classes.csv").write_text("\n".join([HEADER, *(", ".join(row) for row in rows)]))
        useless = [name for name, _ in rows if int(name.split("_")[0]) >= 2000 and name[:4] not in ("2000", "3000")]
        for name in {name for name, _ in rows} - set(useless):
            (root / split / name).write_bytes(blank)  # told by content, not by extension
    write_image(root / "scenes_real" / "images" / "scene_1.jpg", np.zeros((8, 8, 3), dtype=np.uint8))
    (root / "scenes_real" / "gt.json").write_text('{"scene_1.jpg": [{"bbox": [0, 0, 3, 3], "label": "Gara"}]}')
    return root


@pytest.fixture
def here(export: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(export.parent)
    return export.parent


def prepared(here: Path, *words: str) -> Path:
    assert main(["data", "prepare", *words]) == 0
    return here / "manifests"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_header_names_are_trimmed(here: Path) -> None:
    assert main(["data", "prepare"]) == 0
    assert json.loads((here / "manifests" / "classes.json").read_text()) == ["Gara", "Naruto", "Sakura", "Tsunade"]


@pytest.mark.parametrize("words", [["--rename", "Gara=Gaara"], ["--aliases", "mend.json"]])
def test_a_misspelt_class_is_mended_everywhere(here: Path, words: list[str]) -> None:
    (here / "mend.json").write_text('{"Gara": "Gaara"}')
    out = prepared(here, *words)
    assert json.loads((out / "classes.json").read_text())[0] == "Gaara"
    assert sum(line.endswith(",Gaara") for line in lines(out / "train.csv")) == 39
    stats = json.loads((out / "stats_train.json").read_text())
    assert stats["renamed"] == {"Gara": "Gaara"}
    assert "Gara" not in stats["kept_per_label"]


def test_split_folders_and_scenes_lie_side_by_side(export: Path) -> None:
    assert list(read_present(export)) == ["train", "valid", "test"]
    scenes = SceneDataset(export / "scenes_real", need_truth=True)
    assert scenes.scenes == ("scene_1.jpg",)
    assert [item.label for item in scenes.read(0).truth or ()] == ["Gara"]


def test_rows_of_exactly_one_class_are_kept(here: Path) -> None:
    out = prepared(here)
    assert [len(lines(out / f"{split}.csv")) - 1 for split in ("train", "valid", "test")] == [286, 64, 30]
    assert not any("Unlabeled" in line for line in lines(out / "train.csv"))
    assert len(lines(prepared(here, "--policy", "first") / "train.csv")) - 1 == 287
    assert len(lines(prepared(here, "--policy", "all") / "train.csv")) - 1 == 288


def test_absent_files_are_left_out_and_counted(here: Path) -> None:
    stats = json.loads((prepared(here) / "stats_train.json").read_text())
    assert stats["missing_files"] == len(stats["missing"]) == ABSENT
    assert stats["total_rows_seen"] == 300
    assert stats["total_rows_kept"] + stats["total_rows_discarded"] == 300


def test_root_out_and_labels(here: Path) -> None:
    assert prepared(here).is_dir()  # the defaults: data, manifests, every class
    assert main(["data", "prepare", "--root", "data", "--out", "few", "--labels", "Sakura", "Naruto"]) == 0
    assert json.loads((here / "few" / "classes.json").read_text()) == ["Sakura", "Naruto"]
    assert {line.rpartition(",")[2] for line in lines(here / "few" / "test.csv")[1:]} == {"Sakura", "Naruto"}


def test_unlabelled_images_are_kept_only_where_asked_for(here: Path) -> None:
    assert "Unlabeled" not in (prepared(here) / "classes.json").read_text()
    out = prepared(here, "--include-unlabeled")
    assert json.loads((out / "classes.json").read_text())[-1] == "Unlabeled"
    stats = json.loads((out / "stats_train.json").read_text())
    assert stats["kept_per_label"]["Unlabeled"] == 1  # of nine, eight are absent
    assert "0" not in stats["discarded_by_num_positives"]
    assert "kept as a class" in stats["note"]
    again = read_present("manifests")
    assert again["train"].counts() == stats["kept_per_label"]
    few = prepared(here, "--include-unlabeled", "--labels", "Gara")
    assert json.loads((few / "classes.json").read_text()) == ["Gara", "Unlabeled"]
    kept = json.loads((few / "stats_train.json").read_text())["kept_per_label"]
    assert kept["Unlabeled"] == stats["kept_per_label"]["Unlabeled"]  # another class's image is not without a class


def test_manifests_byte_by_byte(here: Path) -> None:
    out = prepared(here)
    rows = [(name, next(c for c, place in COLUMNS.items() if cells.split(", ")[place] == "1"))
            for name, cells in rows_of("test")]  # fmt: skip
    expected = "".join(f"data/test/{name},{label}\n" for label, name in sorted((label, name) for name, label in rows))
    assert (out / "test.csv").read_bytes() == f"path,label\n{expected}".encode()


def test_classes_are_listed_in_the_order_of_all_later_steps(here: Path) -> None:
    out = prepared(here)
    assert read_present(out)["test"].classes == tuple(json.loads((out / "classes.json").read_text()))
    (out / "classes.json").write_text('["Tsunade", "Sakura", "Naruto", "Gara"]')
    assert read_present(out)["train"].classes == ("Tsunade", "Sakura", "Naruto", "Gara")


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_statistics_have_the_reference_keys(here: Path, split: str) -> None:
    stats = json.loads((prepared(here) / f"stats_{split}.json").read_text())
    kinds = {
        "total_rows_kept": int,
        "total_rows_discarded": int,
        "discarded_by_num_positives": dict,
        "missing_files": int,
        "kept_per_label": dict,
        "note": str,
        "written_rows": int,
    }
    assert {key: type(stats[key]) for key in kinds} == kinds
    assert stats["written_rows"] == sum(stats["kept_per_label"].values())


@pytest.mark.parametrize(
    ("folder", "text", "words"),
    [
        ("bare", None, "no class data of split 'train'; expected train/_classes.csv"),
        ("nameless", "file, Gara\nx.png, 1", "_classes.csv: expected a column 'filename', found columns file, Gara"),
        ("gone", "filename, Gara\nx.png, 1", "no usable image"),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], folder: str, text: str | None, words: str
) -> None:
    (here / folder / "train").mkdir(parents=True)
    if text is not None:
        (here / folder / "train" / "_classes.csv").write_text(text)
    assert main(["data", "prepare", "--root", folder]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_class_counts_of_the_public_export(here: Path) -> None:
    out = prepared(here)
    for split, counts in SINGLE.items():
        assert json.loads((out / f"stats_{split}.json").read_text())["kept_per_label"] == counts
    cells = [row for _, row in rows_of("train")]
    assert cells.count(marks("Unlabeled")) == UNLABELLED
    assert sum(row.count("1") > 1 for row in cells) == DOUBLES


def test_renames_that_are_no_pairs_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("Gara", "=Gaara", "Gara="):
        assert main(["data", "prepare", "--rename", word]) == 2
        assert "expected OLD=NEW" in capsys.readouterr().err
    (here / "texts.json").write_text('{"Gara": ["a boy of the desert"]}')
    assert main(["data", "prepare", "--aliases", "texts.json"]) == 2
    assert "--model.texts.aliases_json" in capsys.readouterr().err


def test_manifests_far_from_their_images_say_so(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared(here)
    assert "run `fit` there" not in capsys.readouterr().out
    (here / "else" / "where").mkdir(parents=True)
    monkeypatch.chdir(here / "else" / "where")
    assert main(["data", "prepare", "--root", str(here / "data"), "--out", "m"]) == 0
    assert "run `fit` there" in capsys.readouterr().out
    again = main(["data", "prepare", "--root", str(here / "manifests"), "--out", str(here / "again")])
    assert again == 0  # manifests of manifests keep their images
    assert (here / "again" / "test.csv").read_bytes() == (here / "manifests" / "test.csv").read_bytes()


def small_export(root: Path) -> Path:
    for split in ("train", "valid", "test"):
        (root / split).mkdir(parents=True)
        for name in ("2.rf.png", "1,5.rf.png", "both.png", "none.png"):
            write_image(root / split / name, np.zeros((4, 4, 3), dtype=np.uint8))
        (root / split / "_classes.csv").write_text(
            'filename, Kobba, Odran, Unlabeled\n2.rf.png, 1, 0, 0\n"1,5.rf.png", 0, 1, 0\n'
            "both.png, 1, 1, 0\nnone.png, 0, 0, 1\nabsent.png, 1, 0, 0\n../up.png, 1, 0, 0"
        )
    return root


def test_manifests_classes_and_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_export(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aliases.json").write_text('{"Kobba": "Koba"}')
    assert main(["data", "prepare", "--aliases", "aliases.json"]) == 0
    for split in ("train", "valid", "test"):
        expected = f'path,label\ndata/{split}/2.rf.png,Koba\n"data/{split}/1,5.rf.png",Odran\n'
        assert (tmp_path / "manifests" / f"{split}.csv").read_bytes() == expected.encode()
    assert json.loads((tmp_path / "manifests" / "classes.json").read_text()) == ["Koba", "Odran"]
    statistics = json.loads((tmp_path / "manifests" / "stats_train.json").read_text())
    assert statistics["total_rows_seen"] == 6
    assert statistics["total_rows_kept"] == statistics["written_rows"] == 2
    assert statistics["total_rows_discarded"] == 4
    assert statistics["discarded_by_num_positives"] == {"0": 1, "2": 1}
    assert statistics["missing_files"] == 1
    assert statistics["refused_paths"] == ["'../up.png' climbs out with '..'"]
    assert statistics["kept_per_label"] == {"Koba": 1, "Odran": 1}
    assert statistics["renamed"] == {"Kobba": "Koba"}
    shown = capsys.readouterr().out
    assert "2 classes: Koba, Odran" in shown
    assert "renamed: Kobba to Koba\n" in shown
    assert "not renamed" not in shown
    assert main(["data", "prepare", "--rename", "Koba=Boh", "Odran=Odran"]) == 0
    assert "not renamed, as no class has the name: Koba\n" in capsys.readouterr().out
    assert main(["data", "prepare", "--labels", "Senka"]) == 2
    assert "no class Senka; there are Kobba, Odran" in capsys.readouterr().err
