"""SIGTERM to a command or to its whole process group: exit code 143, one line, no traceback."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

COMMAND = "import sys; from naruto_vision.cli.main import main; sys.exit(main())"
FIT = [
    *("fit", "--config", "clip.yaml", "--data.root", "data", "--data.num_workers", "2", "--data.batch_size", "4"),
    *("--trainer.max_epochs", "1000", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
    *("--trainer.logger", "false", "--trainer.callbacks", "[]"),
]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    for split in ("train", "valid"):
        for label in ("Koba", "Miru"):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for seed in range(4):
                image = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / f"{seed}.png"), image)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["group", "process"])
def test_a_fit_with_workers_ends_in_one_line(world: Path, send: Callable[[int, int], None]) -> None:
    """The workers of the group end with it, and torch raises an error for each."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *FIT], cwd=world, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    bundle, until = world / "runs" / "clip" / "bundle", time.monotonic() + 240
    while not bundle.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert bundle.exists()  # an epoch is done, and workers decode the next one
    send(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "Traceback" not in error
    assert error.splitlines()[-1] == "naruto-vision: terminated"
    assert not [path for path in world.rglob(".*") if path.name != ".cache"]  # neither locks nor temporary files


@pytest.mark.slow
def test_an_error_on_the_way_out_does_not_hide_the_signal(world: Path) -> None:
    script = (
        "import os, signal, sys\nfrom naruto_vision.cli import main as entry\n"
        "def run(argv):\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    finally:\n        raise RuntimeError('worker is killed by signal: Terminated')\n"
        "entry._run = run\nsys.exit(entry.main([]))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=world, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "naruto-vision: terminated\n")
