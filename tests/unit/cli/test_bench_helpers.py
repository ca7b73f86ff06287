"""Timing in turns, the machine's own speed and the report."""

import json
from pathlib import Path

import pytest

from naruto_vision.cli.bench import Timing, gemm_rate, interleaved, machine_facts, write_report


def test_candidates_take_turns_and_the_turns_change_direction() -> None:
    calls: list[str] = []
    times = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warm_up=1)
    assert calls == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert list(times) == ["a", "b"]
    assert [len(timing.seconds) for timing in times.values()] == [3, 3]


def test_a_timing_reports_its_middle() -> None:
    report = Timing((3.0, 1.0, 2.0), (0.5, 0.1, 0.3)).as_json()
    assert report == {"median_s": 2.0, "min_s": 1.0, "max_s": 3.0, "cpu_median_s": 0.3, "repeats": 3}


def test_senseless_timings_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats >= 1, found 0"):
        interleaved({}, repeats=0)
    with pytest.raises(ValueError, match="1 wall times and 0 CPU times"):
        Timing((1.0,), ())


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_machine_multiplies(library: str) -> None:
    assert gemm_rate("torch" if library == "torch" else "numpy", repeats=1) > 0.1


def test_a_report_holds_the_machine_beside_the_figures(tmp_path: Path) -> None:
    write_report(tmp_path / "r.json", "index", {"k": 5}, {"ratio": 2.5})
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert (report["bench"], report["settings"], report["results"]) == ("index", {"k": 5}, {"ratio": 2.5})
    assert report["machine"] == json.loads(json.dumps(machine_facts()))
    assert "numpy" in report["machine"]["versions"]
