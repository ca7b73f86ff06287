"""Processes are killed, again and again: the command ends with the files of one that was not disturbed.

Kills of each command and the seed of their times: ``NARUTO_VISION_KILLS`` (3) and ``NARUTO_VISION_SEED`` (0).
"""

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from clips import write_figures
from cluster import ENCODER, QUIET, Agents, draw, ended, start_alone

from naruto_vision.cli.main import main

KILLS = int(os.environ.get("NARUTO_VISION_KILLS", "3"))
SEED = int(os.environ.get("NARUTO_VISION_SEED", "0"))
SECONDS = 900
SCENES = 16
POINTS = "--model.segmenter.init_args.prompter.init_args.points_per_side"
VOLATILE = {"run.json", "timings.jsonl", "config.yaml", "ledger.jsonl"}  # times
IGNORED = {".png", ".ckpt", ".lock"}  # a lock file without its process locks nothing
pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS * 2)]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    draw(root, side=128, train=4, valid=2, scenes=SCENES, valid_scenes=6)
    assert main(enrolment(root, root / "gallery")) == 0
    write_figures(root / "videos")
    return root


def enrolment(root: Path, gallery: Path) -> list[str]:
    data = ["--data.root", str(root / "data"), "--data.valid", str(root / "data" / "scenes" / "valid")]
    return [
        *("fit", "--config", "gallery.yaml", *data, *ENCODER, *QUIET, f"{POINTS}=8"),
        *("--gallery", str(gallery), "--trainer.callbacks", "[]", "--data.enrol_batch_size", "1"),
    ]


def prediction(root: Path, out: Path) -> list[str]:
    scenes, gallery = str(root / "data" / "scenes" / "test"), str(root / "gallery")
    return ["predict", scenes, "--gallery", gallery, "--out", str(out), *ENCODER, *QUIET, f"{POINTS}=8"]


def tuning(root: Path, out: Path) -> list[str]:
    choice = {"class_path": "ChooseWeights", "init_args": {"out": str(out), "backbone": None}}
    files = {"class_path": "TuningFiles", "init_args": {"out": str(out)}}
    callbacks = [_kept(out), choice, {"class_path": "RunCard"}, files]
    return [
        *("fit", "--config", "clip.yaml", "--data.root", str(root / "data"), *QUIET),
        f"--trainer.callbacks={json.dumps(callbacks)}",
        *("--trainer.max_epochs", "8", "--data.batch_size", "4", "--model.bundle_dir", str(out / "bundle")),
        *("--ckpt_path", "last"),
    ]


def packing(root: Path, out: Path) -> list[str]:
    return ["data", "shard", str(root / "data"), "--out", str(out), "--size", "32", "--shard-size", "5"]


def indexing(root: Path, out: Path) -> list[str]:
    return ["video", "index", str(root / "videos"), "--store", str(out), "--encoder", "tiny-clip", "--batch-size", "4"]


def naming_videos(root: Path, out: Path) -> list[str]:
    words = prediction(root, out)
    return [words[0], str(root / "videos"), *words[2:], "--fps", "4"]


def _kept(out: Path) -> dict[str, object]:
    arguments = {"dirpath": str(out / "checkpoints"), "monitor": "valid/score", "mode": "max", "save_last": True}
    return {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": arguments}


def contents(out: Path) -> dict[str, bytes]:
    files = (file for file in out.rglob("*") if file.is_file() and file.name not in VOLATILE)
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files if file.suffix not in IGNORED}


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """Return the scenes that the logs have, with inode and time of the result, which another search would change."""
    found = {}
    for log in out.glob("predictions*.jsonl"):
        for line in log.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                scene = json.loads(line)["scene"]
                info = (out / "json" / f"{Path(scene).stem}.json").stat()
                found[scene] = (info.st_ino, info.st_mtime_ns)
    return found


def undisturbed(folder: Path, argv: list[str]) -> float:
    """Run a command under two agents and return how long it takes."""
    start = time.monotonic()
    agents = Agents([folder, folder], folder / "whole.log", argv)
    _finish(agents, lambda: None)
    return time.monotonic() - start


def _finish(agents: Agents, meanwhile: Callable[[], None]) -> None:
    until = time.monotonic() + SECONDS
    try:
        while agents.revive():
            meanwhile()
            time.sleep(0.02)
            assert time.monotonic() < until, "it does not end"
    finally:
        agents.stop()


class Killer:
    """Kills a rank, or sometimes an agent, after random times of up to the length of a run.

    ``done`` are the scenes that were finished at the kills.
    """

    def __init__(self, agents: Agents, rng: random.Random, most: int, length: float, out: Path) -> None:
        self._agents, self._rng, self._most, self._length, self._out = agents, rng, most, length, out
        self.ranks = self.hosts = 0
        self.done: dict[str, tuple[int, int]] = {}
        self._next = time.monotonic() + rng.uniform(0.2, length)

    @property
    def count(self) -> int:
        return self.ranks + self.hosts

    def __call__(self) -> None:
        all_run = len(self._agents.ranks()) == len(self._agents.agents)  # an agent waits long for a lost one at its end
        if self.count >= self._most or time.monotonic() < self._next or not all_run:
            return
        self.done = finished(self._out) | self.done
        choice = self._rng.randrange(1000)
        if self._rng.random() < 0.3:
            self.hosts += self._agents.kill_agent(choice)
        else:
            self.ranks += self._agents.kill_rank(choice)
        self._next = time.monotonic() + self._rng.uniform(0.2, self._length)


COMMANDS = {"predict": prediction, "fit": tuning, "enrolment": enrolment}


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_runs_end_as_others(drawn: Path, tmp_path: Path, command: str) -> None:
    rng = random.Random(f"{SEED} {command}")  # noqa: S311 - times of kills
    killed, rounds = [0, 0], 0
    length = undisturbed(tmp_path, COMMANDS[command](drawn, tmp_path / "whole"))
    whole = contents(tmp_path / "whole")
    assert whole
    while sum(killed) < KILLS:
        rounds += 1
        out = tmp_path / "runs" / str(rounds) / "whole"
        out.parent.mkdir(parents=True)
        agents = Agents([tmp_path, tmp_path], out.with_name("log"), COMMANDS[command](drawn, out))
        killer = Killer(agents, rng, KILLS - sum(killed), length, out)
        _finish(agents, killer)
        killed = [killed[0] + killer.ranks, killed[1] + killer.hosts]
        found = contents(out)
        assert found.keys() == whole.keys()
        assert {name for name in whole if found[name] != whole[name]} <= {"metrics.json"}  # has the bundle's path
        assert _epochs(out) == _epochs(tmp_path / "whole")
        assert finished(out).items() >= killer.done.items()
    print(f"{command}: {killed[0]} ranks and {killed[1]} agents killed in {rounds} runs of {length:.0f} s")  # noqa: T201


ALONE = {**COMMANDS, "shards": packing, "video index": indexing, "predict of videos": naming_videos}


@pytest.mark.parametrize("command", ALONE)
def test_a_killed_command_ends_as_others(drawn: Path, tmp_path: Path, command: str) -> None:
    rng = random.Random(f"{SEED} {command}")  # noqa: S311 - times of kills
    assert main(ALONE[command](drawn, tmp_path / "whole")) == 0
    start = time.monotonic()
    assert ended(start_alone(tmp_path / "log", ALONE[command](drawn, tmp_path / "again" / "whole"))) == 0
    length = time.monotonic() - start
    whole = contents(tmp_path / "whole")
    killed = rounds = 0
    while killed < KILLS:
        rounds += 1
        out = tmp_path / str(rounds) / "whole"
        left = min(3, KILLS - killed)
        while True:
            process = start_alone(out.with_name("log"), ALONE[command](drawn, out))
            process.join(rng.uniform(0, length) if left else None)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            killed, left = killed + 1, left - 1
        assert process.exitcode == 0, out.with_name("log").read_text()
        found = contents(out)
        assert found.keys() == whole.keys()
        assert {name for name in whole if found[name] != whole[name]} <= {"metrics.json"}  # has the bundle's path
        assert _epochs(out) == _epochs(tmp_path / "whole")
    print(f"{command}: killed {killed} times in {rounds} runs of {length:.1f} s")  # noqa: T201


def _epochs(out: Path) -> object:
    """Return the history of a fit; None without one."""
    file = out / "metrics.json"
    return json.loads(file.read_text())["epochs"] if file.is_file() else None
