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

EARLY, SCENES = 1_000, 20_000
SLACK = 24 << 10  # KiB; a 48 KiB image kept for each scene would make 900 MiB
PREDICT = """
import sys
from pathlib import Path
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

class Memory(pl.Callback):
    def on_predict_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
        if (batch_idx + 1) % 1000 == 0:
            lines = Path("/proc/self/status").read_text().splitlines()
            print("RSS", *[line.split()[1] for line in lines if line.startswith("VmRSS")], flush=True)

trainer.callbacks.append(Memory())
trainer.predict(module, datamodule=GalleryDataModule(predict=scenes, num_workers=0, batch_size=1))
print("OK", writer.run["counts"]["ok"])
"""


def resident(folder: Path, scenes: int) -> list[int]:
    """Search scenes in a process of its own; return its resident memory in KiB after every 1000."""
    image = encode_image(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8), ".png")
    for number in range(scenes // 1000):
        with tarfile.open(folder / f"scenes-{number:03d}.tar", "w") as tar:
            for scene in range(1000):
                for name, data in ((f"{scene:04d}.png", image), (f"{scene:04d}.json", json.dumps({}).encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    names = f"{folder}/scenes-{{000..{scenes // 1000 - 1:03d}}}.tar"
    log = folder / "memory.txt"
    with log.open("w") as out:
        subprocess.run([sys.executable, "-c", PREDICT, names, str(folder)], check=True, stdout=out)
    lines = [line.split() for line in log.read_text().splitlines()]
    assert ["OK", str(scenes)] in lines
    return [int(line[1]) for line in lines if line[0] == "RSS"]


@pytest.mark.slow
@pytest.mark.timeout(3600)  # thousands of files are written to the disk
def test_memory_is_flat_over_20000_scenes(tmp_path: Path) -> None:
    found = resident(tmp_path, SCENES)
    grown = found[-1] - found[EARLY // 1000 - 1]
    assert grown <= SLACK, f"resident KiB after every 1000 scenes: {found}"
