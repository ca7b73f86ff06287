import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import pytest

from naruto_vision.cli import main as cli
from naruto_vision.cli import slow_imports
from naruto_vision.cli.slow_imports import DEFERRALS, SWITCH, TRIED, WAITING, defer_slow_imports


def test_the_releases_that_were_tried_are_those_of_the_lock() -> None:
    for package, release in TRIED.items():
        assert importlib.metadata.version(package).startswith(release), f"{package}: look at DEFERRALS again"


@pytest.mark.parametrize("plan", DEFERRALS, ids=lambda plan: plan.name)
def test_every_module_that_is_named_is_there(plan: slow_imports.Deferral) -> None:
    assert importlib.util.find_spec(plan.name)
    assert all(importlib.util.find_spec(f"{plan.name}.{child}") for child in plan.children)
    askers = [name for names in plan.stand_ins.values() for name in names]
    askers += [name for pair in plan.decorators.values() for name in pair]
    assert all(importlib.util.find_spec(name) for name in askers)


@pytest.mark.parametrize("reason", ["environment", "release", "absent", "command"])
def test_nothing_waits_where_it_is_not_wanted_or_not_known(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    before = list(sys.meta_path)
    monkeypatch.delenv(SWITCH, raising=False)
    if reason == "environment":
        monkeypatch.setenv(SWITCH, "eager")
    elif reason != "command":
        monkeypatch.setitem(TRIED, "torchmetrics" if reason == "release" else "no-such-package", "0.1.")
    defer_slow_imports("fit" if reason == "command" else "predict")
    assert sys.meta_path == before


def test_otherwise_the_finder_is_put_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = list(sys.meta_path)
    defer_slow_imports("search")
    assert sys.meta_path[1:] == before


def test_the_commands_that_wait_are_commands() -> None:
    assert {*cli.COMMANDS, *cli.TRAINER_COMMANDS} >= WAITING


def test_only_a_command_that_has_the_process_for_itself_lets_imports_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[str] = []
    monkeypatch.setattr(slow_imports, "defer_slow_imports", told.append)
    words = ["search", "--gallery", str(tmp_path / "none"), "--text", "red hair"]
    assert cli.main(words) == cli.EXIT_INPUT
    assert told == []
    monkeypatch.setattr(sys, "argv", ["naruto-vision", *words])
    assert cli.main() == cli.EXIT_INPUT
    assert told == ["search"]
