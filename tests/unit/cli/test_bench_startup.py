import json
import sys
from pathlib import Path

import pytest

from naruto_vision.cli import bench_startup
from naruto_vision.cli.bench_startup import (
    BASELINE,
    FIRST_SCENE,
    LIGHTNING,
    ROUND,
    first_scene,
    time_processes,
)
from naruto_vision.cli.main import main
from naruto_vision.errors import InputError

QUICK = [sys.executable, "-c", "pass"]
BUSY = [sys.executable, "-c", "import time; s = time.process_time()\nwhile time.process_time() - s < 0.3: pass"]


def test_programs_are_timed_by_wall_and_by_their_own_cpu_time() -> None:
    times = time_processes({"quick": QUICK, "busy": BUSY}, repeats=2)
    assert [len(times[name].seconds) for name in ("quick", "busy")] == [2, 2]
    assert min(times["busy"].cpu_seconds) >= 0.3
    assert min(times["busy"].seconds) >= 0.3
    assert min(times["quick"].cpu_seconds) < 0.25


def test_a_program_that_fails_is_told_only_where_it_must_not() -> None:
    failing = {"bad": [sys.executable, "-c", "raise SystemExit('no such thing')"]}
    assert len(time_processes(failing, repeats=1)["bad"].seconds) == 1
    with pytest.raises(InputError, match="bad: failed with code 1: no such thing"):
        time_processes(failing, repeats=1, must_succeed=["bad"])


def test_commands_are_compared_with_the_baseline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_startup, "_PLAIN", BUSY[-1])  # Lightning itself takes ten seconds
    monkeypatch.setattr(bench_startup, "COMMANDS", ("--version",))
    words = [
        "bench",
        "startup",
        "--quick",
        "--repeats",
        "2",
        "--also",
        "fit --help",
        "--json",
        str(tmp_path / "startup.json"),
    ]
    assert main(words) == 0
    assert "times as soon" in capsys.readouterr().out
    report = json.loads((tmp_path / "startup.json").read_text())
    commands = report["results"]["commands"]
    assert list(commands) == [BASELINE, "--version", "fit --help"]
    assert commands[BASELINE]["times_as_fast"] == 1.0
    assert commands["--version"]["cpu_median_s"] < commands[BASELINE]["cpu_median_s"]


def test_programs_are_told_the_round(tmp_path: Path) -> None:
    code = f"import pathlib; pathlib.Path(r'{tmp_path}', 'out-' + '{ROUND}').mkdir()"
    time_processes({"makes": [sys.executable, "-c", code]}, repeats=2, must_succeed=["makes"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-0", "out-1", "out-2"]


def test_the_first_scene_is_drawn_enrolled_and_predicted_anew_each_round(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[list[str]] = []

    def keep(_name: str, words: list[str], *, must_succeed: bool) -> tuple[float, float]:
        assert must_succeed
        ran.append(words)
        return 0.0, 0.0

    monkeypatch.setattr(bench_startup, "_timed", keep)
    programs = first_scene(tmp_path, ["nv"])
    assert [words[1] for words in ran] == ["draw", "fit"]
    assert list(programs) == [FIRST_SCENE, LIGHTNING]
    ours = programs[FIRST_SCENE]
    assert ours[:3] == ["nv", "predict", str(tmp_path / "world" / "scenes" / "test" / "images")]
    assert ours[-1] == str(tmp_path / "out-{round}")


@pytest.mark.slow
def test_the_first_scene_is_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench_startup, "COMMANDS", ("--version",))
    monkeypatch.setattr(bench_startup, "_PLAIN", QUICK[-1])
    assert main(["bench", "startup", "--repeats", "1", "--json", str(tmp_path / "startup.json")]) == 0
    commands = json.loads((tmp_path / "startup.json").read_text())["results"]["commands"]
    assert commands[FIRST_SCENE]["cpu_median_s"] > 0.0
    assert not list(Path.cwd().glob("out-*"))


def test_a_round_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "startup", "--repeats", "0"]) == 2
    assert "--repeats 0: expected 1 or more" in capsys.readouterr().err
