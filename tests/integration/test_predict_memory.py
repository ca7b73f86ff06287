"""The peak memory of ``predict`` does not grow with the number of scenes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import write_image
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene

FEW, MANY = 50, 400
SLACK = 12 << 10  # KiB; 3 were measured, and one 48 KiB image kept a scene would make 16 MiB


@pytest.fixture
def world(tmp_path: Path) -> Path:
    cast = read_cast(config_path("cast.yaml"))
    images = [draw_scene(seed, cast, size=128).image for seed in range(10)]
    for count in (FEW, MANY):
        for number in range(count):
            write_image(tmp_path / str(count) / f"{number:04d}.png", images[number % len(images)])
    encoder = ClipEncoder("tiny-clip")
    rows = [GalleryRow(f"{number}.png", "ab"[number % 2]) for number in range(len(images))]
    gallery = Gallery.build(embed_images(encoder, images).numpy(), rows, fingerprint=encoder.fingerprint)
    gallery.save(tmp_path / "gallery")
    return tmp_path


def peak(world: Path, scenes: int) -> int:
    """Run ``predict`` in a process of its own and return its peak resident memory in KiB."""
    words = [sys.executable, "-m", "naruto_vision", "predict", str(world / str(scenes)), f"--out={world}/out{scenes}"]
    words += [
        f"--model.gallery={world / 'gallery'}",
        "--model.encoder=ClipEncoder",
        "--model.encoder.init_args.model=tiny-clip",
    ]
    words += ["--model.segmenter.init_args.prompter.init_args.points_per_side=4"]
    words += ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    child = subprocess.Popen(words, cwd=world, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    assert len((world / f"out{scenes}" / "predictions.jsonl").read_text().splitlines()) == scenes
    return usage.ru_maxrss


@pytest.mark.slow
def test_memory_is_flat_from_50_to_400_scenes(world: Path) -> None:
    few, many = peak(world, FEW), peak(world, MANY)
    assert abs(many - few) <= SLACK, f"{few} KiB for {FEW} scenes, {many} KiB for {MANY}"
