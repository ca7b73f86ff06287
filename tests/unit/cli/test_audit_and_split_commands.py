"""``naruto-vision data audit`` and ``data split``."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from naruto_vision.cli.data import split_table
from naruto_vision.cli.main import main
from naruto_vision.data.readers import read_present
from naruto_vision.data.tables import ClassTable, Split, sorted_rows
from naruto_vision.io.images import read_image, write_image


def noise(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, axis=0).repeat(8, axis=1))


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Draw an export in which pairs of neighbouring frames are torn apart and one image stands on both sides."""
    for split, shift, count in (("train", 0, 16), ("valid", 1, 6), ("test", 2, 4)):
        lines = ["filename, Kobba, Odran, Unlabeled"]
        for k in range(count):
            name = f"{50 * k + shift}_jpg.rf.{split}{k}.png"
            write_image(tmp_path / "data" / split / name, noise(0 if k == 0 else 100 * shift + k))
            lines.append(f"{name}, {1 - k % 2}, {k % 2}, 0")
        (tmp_path / "data" / split / "_classes.csv").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def test_an_audit_prints_and_writes_what_leaks(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "audit", str(export), "--out", "audit"]) == 0
    told = capsys.readouterr().out
    assert "6/6 1.000" in told
    assert "valid against" in told
    figures = json.loads(Path("audit/audit.json").read_text())
    assert [one["leaking"]["count"] for one in figures["comparisons"]] == [6, 4, 4]
    assert [one["exact"]["count"] for one in figures["comparisons"]] == [1, 1, 1]
    assert read_image("audit/near_pairs.png").shape[1] > 300


def test_a_leak_fails_only_where_that_is_asked_for(export: Path) -> None:
    assert main(["data", "audit", str(export), "--fail-on-leak", "--json-out", "figures.json"]) == 1
    assert json.loads(Path("figures.json").read_text())["leaking"] == 14
    assert not Path("audit.json").exists()


def test_a_split_leaks_nothing_and_reads_back(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "split", str(export), "--valid", "0.2", "--test", "0.2", "--rename", "Kobba=Koba"]
    assert main([*words, "--out", "parted"]) == 0
    told = capsys.readouterr().out
    assert "0 held-out images leak" in told
    assert "run what reads them from" not in told
    tables = read_present("parted")
    assert tables["train"].classes == ("Koba", "Odran")
    assert sum(len(table) for table in tables.values()) == 26
    assert all(3 <= len(tables[split]) <= 8 for split in ("valid", "test"))  # type: ignore[index]  # both are splits
    assert main(["data", "audit", "parted", "--fail-on-leak"]) == 0
    record = json.loads(Path("parted/split.json").read_text())
    assert (record["seed"], record["window"], record["leaking"]) == (42, 3, 0)
    assert record["groups"] < 26
    before = {path.name: path.read_bytes() for path in Path("parted").iterdir()}
    assert set(before) >= {"train.csv", "valid.csv", "test.csv", "classes.json", "stats_test.json", "quarantine.jsonl"}
    assert main([*words, "--out", "parted"]) == 0
    assert {path.name: path.read_bytes() for path in Path("parted").iterdir()} == before


def test_rows_that_the_policy_leaves_out_are_counted(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = export / "train" / "_classes.csv"
    table.write_text(table.read_text().replace("train3.png, 0, 1, 0", "train3.png, 1, 1, 0") + "\ngone.png, 1, 0, 0")
    assert main(["data", "split", str(export), "--out", "parted"]) == 0
    told = capsys.readouterr().out
    assert "train: 15 of 17 rows kept (1 without their file, 1 left out by the policy)\n" in told
    assert "valid:" not in told  # nothing was left out there


def test_a_split_can_be_split_again(export: Path) -> None:
    assert main(["data", "split", str(export), "--out", "deep/one"]) == 0  # not where the images are
    assert main(["data", "split", "deep/one", "--out", "two", "--test", "0"]) == 0
    assert not Path("two/test.csv").exists()
    assert Path("two/train.csv").read_text().splitlines()[1].startswith("data/")
    assert main(["data", "audit", "two", "--fail-on-leak"]) == 0


def test_broken_images_are_left_out_and_told(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (export / "train" / "50_jpg.rf.train1.png").write_bytes(b"no image")
    assert main(["data", "split", str(export), "--out", "parted"]) == 0
    assert "1 images cannot be read and were left out" in capsys.readouterr().out
    assert sum(len(table) for table in read_present("parted").values()) == 25
    assert "50_jpg.rf.train1.png" in Path("parted/quarantine.jsonl").read_text()
    assert main(["data", "audit", str(export)]) == 0
    assert "cannot be read, so only names count" in capsys.readouterr().out.replace("\n", " ")


def test_names_alone_are_audited_where_images_are_absent(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for image in export.rglob("*.png"):
        image.unlink()
    assert main(["data", "audit", str(export), "--out", "audit", "--fail-on-leak"]) == 1
    told = capsys.readouterr().out
    assert "26 of 26 images are not on the disk" in told
    assert "no contact sheet" in told
    assert not Path("audit/near_pairs.png").exists()
    assert main(["data", "audit", str(export), "--numbers", "ignore", "--fail-on-leak"]) == 0


def test_a_data_set_without_held_out_images_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(12):
        write_image(tmp_path / "all" / "ab"[k % 2] / f"{k // 2}.png", noise(k))
    assert main(["data", "audit", str(tmp_path / "all"), "--fail-on-leak"]) == 0
    assert "data split" in capsys.readouterr().out
    assert main(["data", "split", str(tmp_path / "all"), "--out", str(tmp_path / "parted")]) == 0  # counters, no frames
    counts = {split: table.counts() for split, table in read_present(tmp_path / "parted").items()}
    assert counts == {"train": {"a": 4, "b": 4}, "valid": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["audit", "nowhere"], "nowhere: no such folder of class data"),
        (["audit", "data", "--gallery", "nowhere"], "nowhere"),
        (["audit", "data", "--window", "-1"], "expected a whole number of 0 or more"),
        (["split", "data", "--out", "m", "--valid", "0.6", "--test", "0.6"], "expected shares of 0 or more"),
        (["split", "data", "--out", "m", "--window", "60", "--numbers", "frames"], "no images left for"),
        (["split", "data"], "--out"),
        (["split", "data", "--out", "m", "--labels", "Boh", "Boh"], "expected every class once, found Boh"),
        (["split", "data", "--out", "m", "--seed", "-1"], "--seed: expected a whole number of 0 or more"),
        (["split", "data", "--out", "m", "--valid", "nan"], "--valid: expected a number from 0 to 1"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    export: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert export.is_dir()
    assert main(["data", *words]) == 2
    *before, line = capsys.readouterr().err.splitlines()
    assert line.startswith("naruto-vision: error: ")
    assert told in line
    assert not any("error" in other for other in before)


def _table(pairs: list[tuple[str, str]]) -> ClassTable:
    return ClassTable(Path(), sorted_rows(pairs), ("b", "a"))


def test_a_split_is_laid_out_by_class_with_its_sums() -> None:
    tables: dict[Split, ClassTable] = {
        "train": _table([("1", "a"), ("2", "a"), ("3", "b")]),
        "test": _table([("4", "b")]),
    }
    console = Console(width=60)
    with console.capture() as capture:
        console.print(split_table(tables))
    rows = [
        [cell.strip() for cell in line.strip("│┃").split("│")] for line in capture.get().splitlines() if "│" in line
    ]
    assert rows == [["b", "1", "1"], ["a", "2", "0"], ["all", "3", "1"]]


def test_a_class_without_held_out_images_is_named(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "lone.png"
    write_image(export / "train" / name, noise(999))
    table = export / "train" / "_classes.csv"
    lines = [f"{line}, {'Mira' if k == 0 else 0}" for k, line in enumerate(table.read_text().split("\n"))]
    table.write_text("\n".join([*lines, f"{name}, 0, 0, 0, 1"]))
    assert main(["data", "split", str(export), "--out", "parted"]) == 0
    told = capsys.readouterr().err
    assert "valid has no image of 1 classes: Mira; " in told
    assert "test has no image of 1 classes: Mira; " in told
