import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery

LIMIT = 0.3  # seconds of CPU time, in one of three runs: wall time is the neighbours' as much as ours
KNOWN = (
    "import time, email.message, importlib.metadata, inspect, logging, urllib.request, yaml; print(time.process_time())"
)
KNOWN_SECONDS = 0.13  # for `KNOWN`, where the limits were set; a slower machine has more time

PROBE = """
import json, sys, time
from naruto_vision.cli.main import main
code = main(sys.argv[1:])
heavy = sorted({"torch", "lightning", "numpy", "cv2", "faiss", "timm", "open_clip", "jsonargparse"} & set(sys.modules))
sys.stderr.write("\\n" + json.dumps({"code": code, "seconds": time.process_time(), "heavy": heavy}))
"""


def _slowness() -> float:
    """Return how much slower the machine is now than where the limits were set, at least 1."""
    return max(1.0, float(subprocess.check_output([sys.executable, "-c", KNOWN])) / KNOWN_SECONDS)


def _probe(words: list[str], folder: Path, limit: float) -> tuple[int, bool, list[str]]:
    """Run a command in up to three processes: its exit code, whether one kept the limit, and what it has imported."""
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", PROBE, *words], capture_output=True, check=True, cwd=folder)
        told = json.loads(done.stderr.decode().splitlines()[-1])
        fast = told["seconds"] <= limit or told["seconds"] <= limit * _slowness()
        if fast:
            break
    return told["code"], fast, told["heavy"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        ([], 2),
        (["predcit"], 2),
        (["--nope"], 2),
        (["predict", "/no/such/folder"], 2),
        (["predict", "--config", "scenes.yaml", "--gallery", "/no/such/gallery"], 2),
        (["predict"], 2),
        (["fit"], 2),
        (["fit", "--config", "/no/such.yaml"], 2),
        (["weights", "list"], 0),
        (["gallery", "list", "no-such-gallery"], 2),
        (["gallery", "list", "--help"], 0),
        (["bench", "index", "--help"], 0),
        (["draw", "--help"], 0),
        (["export", "--help"], 0),
        (["demo", "--help"], 0),
        (["data", "prepare", "--help"], 0),
        (["doctor", "--help"], 0),
        (["data", "--help"], 0),
        (["data"], 2),
        (["gallery", "--help"], 0),
        (["bench", "--help"], 0),
        (["search", "--help"], 0),
        (["evaluate", "--help"], 0),
        (["evaluate", "counts", "--help"], 0),
        (["data", "audit", "--help"], 0),
        (["data", "split", "--help"], 0),
        (["fit", "--help"], 0),
        (["predict", "-h"], 0),
        (["validate", "--help"], 0),
        (["test", "--config", "scenes.yaml", "--help"], 0),
        (["fit", "--config", "/no/such.yaml", "--help"], 0),
        (["configs"], 0),
        (["configs", "clip"], 0),
        (["completion", "bash"], 0),
        (["fit", "--config", "clip.yaml", "--data.root", "/no/such/folder"], 2),
        (["fit", "--config", "clip.yaml", "--epochs", "3"], 2),
        (["test", "--config", "scenes.yaml", "--data.test", "/no/such/folder"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_answers_that_need_no_torch_come_at_once(words: list[str], code: int, tmp_path: Path) -> None:
    limit = 2 * LIMIT if "completion" in words else LIMIT  # completion builds the parser of every command
    assert _probe(words, tmp_path, limit) == (code, True, [])


def test_a_gallery_is_listed_at_once(tmp_path: Path) -> None:
    vectors = np.eye(6, dtype=np.float32)
    rows = [GalleryRow(f"{number}.png", "ayame" if number < 4 else "kurenai") for number in range(6)]
    Gallery.build(vectors, rows, fingerprint="0" * 64).save(tmp_path / "gallery")
    code, fast, heavy = _probe(["gallery", "list", "gallery"], tmp_path, 0.4)  # NumPy is imported
    assert (code, fast) == (0, True)
    assert not {"torch", "lightning", "faiss", "cv2"} & set(heavy)
