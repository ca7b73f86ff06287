"""Counts read from the command line, facts of a machine, and tables of splits."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from naruto_vision.cli import doctor
from naruto_vision.cli.data import split_table
from naruto_vision.cli.doctor import Facts, bundle_state
from naruto_vision.cli.evaluate_counts import read_runs
from naruto_vision.cli.main import main
from naruto_vision.data.tables import ClassTable, Split, sorted_rows
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.metrics.stats import Rate


def test_four_counts_of_a_run_are_four_rates() -> None:
    assert read_runs(["CLIP=45/50/56/62"]) == {
        "CLIP": {
            "object_accuracy": Rate(45, 62),
            "honest_recall": Rate(50, 62),
            "reference_recall": Rate(50, 56),
            "class_given_matched": Rate(45, 50),
        }
    }
    assert list(read_runs(["b=0/0/0/5", "a=5/5/5/5"])) == ["b", "a"]


@pytest.mark.parametrize(
    "word", ["CLIP", "CLIP=1/2/3", "CLIP=1/2/3/4/5", "=1/2/3/4", "CLIP=a/2/3/4", "CLIP=-1/2/3/4", "x=1.5/2/3/4"]
)
def test_runs_written_otherwise_are_refused(word: str) -> None:
    with pytest.raises(InputError, match=r"expected NAME=RIGHT/MATCHED/SEEN/ALL, such as CLIP=45/50/56/62") as caught:
        read_runs([word])
    assert str(caught.value).startswith(word)


@pytest.mark.parametrize("counts", ["2/1/3/4", "1/3/2/4", "1/2/4/3"])
def test_counts_that_fall_are_refused(counts: str) -> None:
    found = counts.replace("/", ", ")
    with pytest.raises(InputError, match=rf"x={counts}: expected counts that do not fall, found {found}"):
        read_runs([f"x={counts}"])


def test_runs_need_names_of_their_own_and_the_same_objects() -> None:
    with pytest.raises(InputError, match="a: a name for two runs"):
        read_runs(["a=1/2/3/4", "a=1/2/3/4"])
    with pytest.raises(InputError, match="runs over different objects cannot be compared"):
        read_runs(["a=1/2/3/4", "b=1/2/3/5"])


def test_counts_from_the_command_line_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "counts", "A=45/50/56/62", "B=30/50/56/62", "--json", str(tmp_path / "c.json")]) == 0
    assert "45/62" in capsys.readouterr().out
    told = json.loads((tmp_path / "c.json").read_text())
    assert told["runs"]["A"]["object_accuracy"]["value"] == pytest.approx(45 / 62)
    assert len(told["comparisons"]) == 1


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


@pytest.mark.parametrize(("text", "number"), [("", 0), ("4", 4), ("4,2", 4), ("x", 0), ("-1", 0), (" 4", 0)])
def test_threads_are_read_as_openmp_does(text: str, number: int) -> None:
    assert doctor._number(text) == number


def _bundle(folder: Path, info: str | None, weights: bytes | None = b"weights") -> Path:
    folder.mkdir()
    if info is not None:
        (folder / "model.json").write_text(info)
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.mark.parametrize(
    ("info", "weights", "state"),
    [
        ('{"sha256": "9a15"}', b"weights", "its weights are not those that its model.json was written for"),
        ("{}", b"weights", "its weights are not those that its model.json was written for"),
        ("{", b"weights", "unreadable ("),
        ("{}", None, "unreadable ("),
    ],
)
def test_what_is_wrong_with_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, info: str, weights: bytes | None, state: str
) -> None:
    folder = _bundle(tmp_path / "b", info, weights)
    monkeypatch.setattr(doctor, "bundle_path", lambda _: folder)
    assert bundle_state("b").startswith(state)


def test_a_bundle_that_is_whole_and_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundle_state("tiny-clip") == "ok"

    def missing(name: str) -> Path:
        raise MissingPathError(name, "model bundle")

    monkeypatch.setattr(doctor, "bundle_path", missing)
    assert bundle_state("tiny-clip") == "missing"


def test_facts_are_json() -> None:
    facts = Facts(versions={"torch": "2"}, openmp=("a", "b"), free_gb={"here": 1.5})
    told = json.loads(json.dumps(asdict(facts)))
    assert (told["versions"], told["openmp"], told["free_gb"]) == ({"torch": "2"}, ["a", "b"], {"here": 1.5})
