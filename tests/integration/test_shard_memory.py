"""The peak memory of ``predict`` on tar files does not grow with the scenes that were searched."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.io.images import encode_image

FEW, MANY = 2_000, 20_000
A_SCENE = 4.0  # KiB; names and where they lie are kept, as with a folder: see docs/performance.md
PREDICT = """
import resource, sys
import lightning.pytorch as pl, numpy as np
from naruto_vision.callbacks.scenes import SceneWriterCallback
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.recognition.writer import WriterConfig
from naruto_vision.records import ScenePrediction
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.sam import SamModel

class Nothing(SceneRetriever):
    def predict_step(self, batch):
        return [(item, ScenePrediction(item.scene, 16, 16)) for item in batch]

scenes, out = sys.argv[1:]
encoder = ClipEncoder("tiny-clip")
rows = [GalleryRow("a.png", "a")]
Gallery.build(np.eye(encoder.dim, dtype=np.float32)[:1], rows, fingerprint=encoder.fingerprint).save(out + "/gallery")
module = Nothing(encoder, Segmenter(GridPrompter(2), SamModel(weights="tiny-sam")), gallery=out + "/gallery")
writer = SceneWriterCallback(out + "/out", WriterConfig(crops="none", images=False, coco=False))
quiet = dict(enable_progress_bar=False, enable_model_summary=False, logger=False)
trainer = pl.Trainer(accelerator="cpu", use_distributed_sampler=False, callbacks=[writer], **quiet)
peaks = []
class Peaks(pl.Callback):
    def on_predict_batch_end(self, *_):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
trainer.callbacks.append(Peaks())
trainer.predict(module, datamodule=GalleryDataModule(predict=scenes, num_workers=0, batch_size=1))
print(writer.run["counts"]["ok"], peaks[100], peaks[-1], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peaks(folder: Path, scenes: int) -> list[int]:
    """Search scenes in a process of its own; return its peaks in KiB: early, with the last scene, at the end."""
    image = encode_image(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8), ".png")
    for number in range(scenes // 1000):
        with tarfile.open(folder / f"scenes-{number:03d}.tar", "w") as tar:
            for scene in range(1000):
                for name, data in ((f"{scene:04d}.png", image), (f"{scene:04d}.json", json.dumps({}).encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    names = f"{folder}/scenes-{{000..{scenes // 1000 - 1:03d}}}.tar"
    found = subprocess.run(
        [sys.executable, "-c", PREDICT, names, str(folder)], check=True, capture_output=True, text=True
    )
    done, *peaks = map(int, found.stdout.split()[-4:])
    assert done == scenes
    return peaks


@pytest.mark.slow
def test_memory_is_flat_from_2000_to_20000_scenes(tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    (tmp_path / "many").mkdir()
    few, many = peaks(tmp_path / "few", FEW), peaks(tmp_path / "many", MANY)
    grown = (many[2] - few[2]) / (MANY - FEW)
    assert grown <= A_SCENE, f"{few} KiB for {FEW} scenes, {many} KiB for {MANY}: {grown:.2f} KiB a scene"
    assert many[1] - many[0] <= 12 << 10, f"{many} KiB while {MANY} scenes were searched"
    print(few, many, grown)  # noqa: T201 - the figure of docs/performance.md
