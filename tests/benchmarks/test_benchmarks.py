"""Whether every benchmark runs, on tiny sizes, and its gates are gates."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import describe, real
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.segment import best_ious
from benchmarks.timing import Row
from naruto_vision.cli.bench import Timing
from naruto_vision.io.images import write_image
from naruto_vision.records import Region

FAST = ("T4", "T6", "V1")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in BENCHMARKS])
def test_a_benchmark_runs_and_finds_what_its_baseline_finds(name: str, tmp_path: Path) -> None:
    assert main(["--quick", "--only", name, "--json-out", str(tmp_path / "bench.json")]) == 0
    report = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert all(row["passed"] and row["ours"]["seconds"] for row in report["results"][name])
    assert report["results"][name]


def test_results_that_are_not_the_baseline_s_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Row("masks", Timing((1.0,), (3.0,)), Timing((8.0,), (6.0,)), "5/6 masks", passed=False)
    monkeypatch.setattr("benchmarks.segment.packaged", lambda _quick: [row])
    assert main(["--only", "T1t", "--json-out", str(tmp_path / "bench.json")]) == 1
    assert "results are not the baseline's: T1t masks" in capsys.readouterr().out
    assert (row.ratio, row.wall_ratio) == (2.0, 8.0)


def test_tables_of_the_document_are_those_of_the_reports(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs/performance.md").read_text(encoding="utf-8")
    tables = re.findall(r"<!-- (docs/tables/speed/\S+) (\S+) -->\n(.*?)(?=\n\n|\Z)", text, re.DOTALL)
    for report, names, table in tables:
        assert main(["--table", str(root / report), "--only", names]) == 0
        assert capsys.readouterr().out.strip() == table.strip()
    assert {name for _, names, _ in tables for name in names.split(",")} == set(BENCHMARKS)


def test_an_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "T99"])
    assert "--only T99: expected some of T1, T1t" in capsys.readouterr().err


def test_a_mask_is_matched_by_the_most_alike_whatever_its_prompt() -> None:
    full = Region((0, 0, 9, 9), np.ones((10, 10), dtype=bool), prompt="point 1,1")
    half = Region((0, 0, 9, 4), np.ones((5, 10), dtype=bool), prompt="point 1,1")
    other = Region((0, 0, 9, 9), np.ones((10, 10), dtype=bool), prompt="point 2,2")
    away = Region((20, 20, 29, 29), np.ones((10, 10), dtype=bool), prompt="point 1,1")
    assert best_ious([half, other, away], [full, half]) == [1.0, 1.0]
    assert best_ious([half], [full]) == [0.5]
    assert best_ious([away], [full]) == best_ious([], [full]) == [0.0]


def test_real_images_are_measured_by_every_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("valid", 2)):
        for label, colour in (("a", (220, 30, 30)), ("b", (30, 200, 30)), ("c", (30, 30, 220))):
            for number in range(count):
                image = np.clip(np.array(colour) + rng.integers(-25, 26, (24, 24, 3)), 0, 255).astype(np.uint8)
                write_image(tmp_path / "set" / split / label / f"{number}.png", image)
    (tmp_path / "other").mkdir()
    real.main(["--data", str(tmp_path), "--only", "gallery", "--out", str(tmp_path / "figures.json")])
    assert json.loads((tmp_path / "figures.json").read_text())["set"]["gallery"][2]["auto"]["count"] == 6
    lines = capsys.readouterr().out.splitlines()
    assert "set: 24 enrolled, 3 classes, 6 queries" in lines
    assert any(line.startswith("| 0.5 : 0.5 | 6 | 6 |") for line in lines)
    assert any(line.startswith("other: left out: ") for line in lines)


def test_attributes_are_compared_with_those_that_were_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert describe.main(["--scenes", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 * len(describe.GROUPS) + 1
    assert all(line.count("|") == 7 for line in lines[:-1])
