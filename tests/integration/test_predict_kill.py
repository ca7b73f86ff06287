"""``predict`` in a child process: stopped with SIGKILL and started again, it leaves the same files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from naruto_vision.cli.main import main
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import write_image
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene

VOLATILE = {"run.json", "timings.jsonl", "config.yaml"}  # times, and where the results went
SCENES = 8


@pytest.fixture
def world(tmp_path: Path) -> Path:
    cast = read_cast(config_path("cast.yaml"))
    for seed in range(SCENES):
        write_image(tmp_path / "scenes" / f"{seed}.png", draw_scene(seed, cast, size=256).image)
        for name in cast.names[:2]:
            image = draw_scene(100 + seed, cast, size=96).image
            write_image(tmp_path / "data" / "train" / name / f"{seed}.png", image)
    options = [*paths(tmp_path), f"--data.root={tmp_path / 'data'}", "--trainer.enable_progress_bar=false"]
    assert main(["fit", "--config", "gallery.yaml", *options]) == 0
    return tmp_path


def paths(world: Path) -> list[str]:
    return [
        f"--model.gallery={world / 'gallery'}",
        "--model.encoder=ClipEncoder",
        "--model.encoder.init_args.model=tiny-clip",
    ]


def command(world: Path, out: Path) -> list[str]:
    words = [sys.executable, "-m", "naruto_vision", "predict", str(world / "scenes"), f"--out={out}", *paths(world)]
    return [*words, "--trainer.logger=false", "--trainer.enable_progress_bar=false"]


def contents(out: Path) -> dict[str, bytes]:
    files = (file for file in out.rglob("*") if file.is_file() and file.name not in VOLATILE)
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


def lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.is_file() else 0


@pytest.mark.slow
@pytest.mark.parametrize("together", [1, 3])
def test_predict_killed_twice_ends_with_the_same_bytes(world: Path, together: int) -> None:
    batch = f"--data.batch_size={together}"
    subprocess.run([*command(world, world / "whole"), batch], check=True, cwd=world)
    for after in (1, 4):
        child = subprocess.Popen([*command(world, world / "cut"), batch], cwd=world, start_new_session=True)
        while lines(world / "cut" / "predictions.jsonl") < after:
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert after <= lines(world / "cut" / "predictions.jsonl") < SCENES
    subprocess.run([*command(world, world / "cut"), batch], check=True, cwd=world)
    assert contents(world / "cut") == contents(world / "whole")
    assert len([name for name in contents(world / "whole") if name.startswith("json/")]) == 2 * SCENES
